//! What the loop hands over for a snapshot, and how the snapshot is made of it, on the thread that
//! asks: the loop has better things to do.
mod warnings;

use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{LeaseParameters, Record, VoterId, Writer};

use crate::guard::GateFigures;
use crate::record_json::record_json;
use crate::snapshot::{
    InstalledRecord, MemberSnapshot, NodeSnapshot, StallSnapshot, VoterLink, VoterSnapshot,
};
use crate::stalls::StallFigures;
use crate::window::{Window, millis};

/// A node's figures at one moment.
#[derive(Debug)]
pub(crate) struct Figures {
    /// `embedded` or `etcd`.
    pub(crate) engine: &'static str,
    pub(crate) cluster: String,
    pub(crate) record: Option<Record>,
    /// How long ago the last records began to count here, by their epochs, oldest first.
    pub(crate) installed: Vec<(u64, Duration)>,
    /// The numbers of the settings: those of the record count, if there is one.
    pub(crate) lease: LeaseParameters,
    pub(crate) is_stale: bool,
    pub(crate) voters: Vec<LinkFigures>,
    pub(crate) voter: Option<VoterFigures>,
    pub(crate) member: Option<MemberFigures>,
    /// The slowest hundredth of etcd's answers, if the record lies there.
    pub(crate) store_round: Duration,
    pub(crate) stalls: StallFigures,
    pub(crate) is_realtime: bool,
    pub(crate) priority_refused: Option<String>,
    pub(crate) troubles: Vec<String>,
    /// The name by which it follows voters as a router does; none for a member.
    pub(crate) follows_as: Option<String>,
}

/// The way to one voter.
#[derive(Debug)]
pub(crate) struct LinkFigures {
    pub(crate) id: VoterId,
    pub(crate) address: String,
    pub(crate) is_connected: bool,
    pub(crate) heard_ago: Option<Duration>,
    pub(crate) epoch: u64,
    pub(crate) round_trip: Option<Duration>,
    /// The rate of its clock beside ours, and by how much that may be wrong.
    pub(crate) drift_ppm: Option<(f64, f64)>,
}

/// The voter.
#[derive(Debug)]
pub(crate) struct VoterFigures {
    pub(crate) id: VoterId,
    pub(crate) address: String,
    pub(crate) record: Option<Record>,
    pub(crate) grants: u64,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    pub(crate) syncs: u64,
    pub(crate) sync_times: Window,
    pub(crate) attending: Vec<String>,
    pub(crate) routers: BTreeMap<String, u64>,
    pub(crate) trouble: Option<String>,
}

/// The member.
#[derive(Debug)]
pub(crate) struct MemberFigures {
    pub(crate) writer: Writer,
    pub(crate) record: Option<Record>,
    pub(crate) lease_left: Option<Duration>,
    pub(crate) lease_since: Option<Duration>,
    pub(crate) margins: Window,
    pub(crate) renewals: Window,
    pub(crate) elections: u64,
    pub(crate) gate: GateFigures,
}

impl LinkFigures {
    /// A way on which nothing was ever heard.
    pub(crate) fn to(id: VoterId, address: &str) -> Self {
        Self {
            id,
            address: address.to_owned(),
            is_connected: false,
            heard_ago: None,
            epoch: 0,
            round_trip: None,
            drift_ppm: None,
        }
    }

    /// Whether its clock is seen to run off by more than one clock may.
    fn drifts(&self, lease: LeaseParameters) -> bool {
        let most = f64::from(lease.drift_ppm);
        self.drift_ppm.is_some_and(|(rate, uncertainty)| rate.abs() - uncertainty > most)
    }

    fn snapshot(&self, lease: LeaseParameters) -> VoterLink {
        // A rate is only told if it is known to a quarter of what matters.
        let useful =
            |(_, uncertainty): &(f64, f64)| *uncertainty <= f64::from(lease.drift_ppm) / 4.0;
        VoterLink {
            id: hex(self.id.0),
            address: self.address.clone(),
            is_connected: self.is_connected,
            heard_ms_ago: self.heard_ago.map(millis),
            epoch: self.epoch,
            round_trip_ms: self.round_trip.map(millis),
            drift_ppm: self.drift_ppm.filter(useful).map(|(rate, _)| rate),
        }
    }
}

impl Figures {
    /// The snapshot that they make.
    pub(crate) fn snapshot(&self) -> NodeSnapshot {
        let record = self.record.as_ref();
        NodeSnapshot {
            cluster: self.cluster.clone(),
            cluster_id: record.map(|record| hex(record.cluster().0)).unwrap_or_default(),
            engine: self.engine,
            epoch: record.map_or(0, |record| record.epoch().get()),
            is_stale: self.is_stale,
            record: record.map(record_json).unwrap_or_default(),
            record_age_ms: self.installed.last().map(|(_, ago)| millis(*ago)),
            installed: self.installed.iter().map(installed).collect(),
            voters: self.voters.iter().map(|link| link.snapshot(self.lease())).collect(),
            voter: self.voter.as_ref().map(|voter| voter.snapshot(record)),
            member: self.member.as_ref().map(MemberFigures::snapshot),
            follows_as: self.follows_as.clone(),
            stalls: self.stall_snapshot(),
            recovery_promise_ms: millis(self.recovery_promise()),
            warnings: self.warnings(),
        }
    }

    /// The numbers that count.
    fn lease(&self) -> LeaseParameters {
        self.record.as_ref().map_or(self.lease, Record::parameters)
    }

    /// How long the slowest voter's answer took last.
    fn round_trip(&self) -> Duration {
        self.voters.iter().filter_map(|link| link.round_trip).max().unwrap_or_default()
    }

    /// The longest time to a new writer after the one before died, stopped or was cut off, as far as
    /// this process can tell:
    ///
    /// `2 h` in which one that is heard and hears nothing goes on renewing;
    /// `L (1 + 2 rho)` until no voter guards the dead one, or knows that none does;
    /// `+ L/5` if two members propose at once and one has to wait: the longest first wait after a
    /// try that failed;
    /// `+ 2` times the longest stall of the last ten minutes: the timer that ends the guard and the
    /// one that asks for the votes again may each be late by it;
    /// `+ 2` rounds to agree on the next record, each a round trip and a sync of the disk, of which
    /// the slowest hundredth counts;
    /// `+` a round trip in which a voter says that a guard ends in a moment;
    /// `+` a round trip for the new writer's lease.
    ///
    /// Of other machines' stalls and disks it knows nothing: the promise of a cluster is the
    /// largest of those of its processes.
    fn recovery_promise(&self) -> Duration {
        let renewals = self.member.as_ref().map(|member| member.renewals.percentile(99));
        let round = renewals.unwrap_or_default().max(self.round_trip()).max(self.store_round);
        let sync = self.voter.as_ref().map(|voter| voter.sync_times.percentile(99));
        let votes = (round + sync.unwrap_or_default()) * 2;
        let lease = self.lease();
        let (deaf, race) = (lease.renewal_interval * 2, lease.ttl / RACES_IN_A_LEASE);
        lease.quiet_time() + deaf + race + self.stalls.worst_lately * 2 + votes + round * 2
    }

    fn stall_snapshot(&self) -> StallSnapshot {
        StallSnapshot {
            is_realtime: self.is_realtime,
            worst_ms: millis(self.stalls.worst),
            worst_lately_ms: millis(self.stalls.worst_lately),
            p99_ms: millis(self.stalls.recent.percentile(99)),
            budget_ms: millis(self.lease().stall_budget(self.round_trip())),
        }
    }
}

impl VoterFigures {
    /// Whether it is a voter is said by the newest record that this process knows: one that was
    /// replaced while it was away goes by the last record that it saw as a voter.
    fn snapshot(&self, newest: Option<&Record>) -> VoterSnapshot {
        let record = self.record.as_ref();
        let newest = record.into_iter().chain(newest).max_by_key(|record| record.epoch());
        let epoch = record.map_or(0, |record| record.epoch().get());
        let stale = self.routers.values().filter(|sent| **sent < epoch).count();
        VoterSnapshot {
            id: hex(self.id.0),
            address: self.address.clone(),
            epoch,
            is_voter: newest.is_some_and(|record| record.has_voter(self.id)),
            grants: self.grants,
            refusals: self.refusals.clone(),
            syncs: self.syncs,
            last_sync_ms: millis(self.sync_times.last()),
            sync_p50_ms: millis(self.sync_times.percentile(50)),
            sync_p99_ms: millis(self.sync_times.percentile(99)),
            attending: self.attending.clone(),
            routers: self.routers.clone(),
            stale_routers: u64::try_from(stale).unwrap_or(u64::MAX),
        }
    }
}

impl MemberFigures {
    fn snapshot(&self) -> MemberSnapshot {
        let record = self.record.as_ref();
        let leads = record.iter().flat_map(|record| record.groups());
        let leads = leads.filter(|group| group.leader.as_ref() == Some(&self.writer.pod));
        MemberSnapshot {
            pod: self.writer.pod.to_string(),
            incarnation: format!("{:016x}", self.writer.incarnation.0),
            is_named: record.is_some_and(|record| record.names(&self.writer)),
            holds_lease: self.lease_left.is_some(),
            lease_age_ms: self.lease_since.map(millis),
            lease_margin_ms: self.lease_left.map(millis),
            lease_margin_least_ms: self.margins.least().map(millis),
            renewal_p50_ms: millis(self.renewals.percentile(50)),
            renewal_p99_ms: millis(self.renewals.percentile(99)),
            elections: self.elections,
            slots: record.map_or(0, |record| slots_of(record, &self.writer)),
            groups: leads.map(|group| group.name.to_string()).collect(),
            admitted: self.gate.admitted,
            under_way: self.gate.under_way,
            refused: self.gate.refused.iter().copied().collect(),
        }
    }
}

/// How many slots the process owns.
fn slots_of(record: &Record, writer: &Writer) -> u64 {
    let index = record.view().index_of(writer.pod.as_str()).filter(|_| record.names(writer));
    let (Some(index), Some(ring)) = (index, record.ring()) else { return 0 };
    let owned = ring.owners().iter().filter(|owner| usize::from(**owner) == index.as_usize());
    u64::try_from(owned.count()).unwrap_or(u64::MAX)
}

/// The first wait after a try that failed is at most twice a tenth of a lease.
const RACES_IN_A_LEASE: u32 = 5;

fn installed((epoch, ago): &(u64, Duration)) -> InstalledRecord {
    InstalledRecord { epoch: *epoch, ms_ago: millis(*ago) }
}

fn hex(id: u128) -> String {
    format!("{id:032x}")
}

#[cfg(test)]
mod tests;
