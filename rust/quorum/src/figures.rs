//! What the loop hands over for a snapshot, and how the snapshot is made of it, on the thread that
//! asks: the loop has better things to do.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{LeaseParameters, Record, VoterId, Writer};

use crate::guard::GateFigures;
use crate::record_json::record_json;
use crate::snapshot::{
    InstalledRecord, MemberSnapshot, NodeSnapshot, StallSnapshot, VoterLink, VoterSnapshot,
};
use crate::stalls::{STALLS_IN_A_LEASE, StallFigures};
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

    /// Trouble that is there or coming, each as a sentence that says what to do.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.troubles.clone();
        if let Some(reason) = &self.priority_refused {
            warnings.push(format!(
                "no real-time priority for the thread that keeps the lease ({reason}): give the \
                 process CAP_SYS_NICE or an rtprio limit of 50, or write quorum.priority = \"ordinary\""
            ));
        }
        self.warn_of_leases(&mut warnings);
        self.warn_of_disk(&mut warnings);
        self.warn_of_store(&mut warnings);
        for link in self.voters.iter().filter(|link| link.drifts(self.lease())) {
            let (rate, _) = link.drift_ppm.unwrap_or_default();
            warnings.push(format!(
                "the clock of the voter at {} runs {rate:.0} millionths beside this one, and leases allow \
                 {}: repair the clock of one of the two machines, or found with a larger drift_ppm",
                link.address,
                self.lease().drift_ppm
            ));
        }
        warnings
    }

    fn warn_of_leases(&self, warnings: &mut Vec<String>) {
        let lease = self.lease();
        let budget = lease.stall_budget(self.round_trip());
        if self.stalls.worst_lately > budget {
            warnings.push(format!(
                "a stall of {:.0} ms within the last ten minutes is longer than the lease survives ({:.0} \
                 ms): give the process real-time priority or fewer neighbours, or found with a longer ttl",
                millis(self.stalls.worst_lately),
                millis(budget)
            ));
        } else if self.stalls.worst_lately * STALLS_IN_A_LEASE > lease.ttl {
            warnings.push(format!(
                "a stall of {:.0} ms within the last ten minutes is more than a quarter of the lease of {:.0} \
                 ms: it may end by a stall alone",
                millis(self.stalls.worst_lately),
                millis(lease.ttl)
            ));
        }
        let least = self.member.as_ref().and_then(|member| member.margins.least());
        if let Some(least) = least.filter(|least| *least < lease.renewal_interval) {
            warnings.push(format!(
                "the lease had {:.1} ms left when it was extended, which is less than one renewal \
                 interval of {:.0} ms: look for stalls here, slow voters, or lost messages",
                millis(least),
                millis(lease.renewal_interval)
            ));
        }
    }

    fn warn_of_disk(&self, warnings: &mut Vec<String>) {
        let Some(voter) = &self.voter else { return };
        if let Some(trouble) = &voter.trouble {
            warnings.push(format!(
                "the voter's disk failed ({trouble}) and the voter says nothing any more: repair the disk \
                 and start the process again"
            ));
        }
        let (lease, slowest) = (self.lease(), voter.sync_times.percentile(99));
        let answer_time = lease.ttl * 2 / 3;
        if slowest + self.round_trip() > answer_time {
            warnings.push(format!(
                "a sync of the voter's disk takes up to {:.0} ms, and voters have {:.0} ms to answer, two \
                 thirds of the lease: where a majority is as slow, no change is made and no dead writer \
                 replaced; use a disk of its own, or a faster one, or found with a longer ttl",
                millis(slowest),
                millis(answer_time)
            ));
        } else if slowest > lease.renewal_interval.min(answer_time / 2) {
            warnings.push(format!(
                "a sync of the voter's disk takes up to {:.0} ms, and a new writer waits for two of them; \
                 above {:.0} ms, two thirds of the lease, none is agreed on: use a disk of its own, or a \
                 faster one",
                millis(slowest),
                millis(answer_time)
            ));
        }
    }

    /// Where the record lies in etcd, a change of it takes several of etcd's answers, one after the
    /// other.
    fn warn_of_store(&self, warnings: &mut Vec<String>) {
        let lease = self.lease();
        if self.store_round > lease.renewal_interval {
            warnings.push(format!(
                "etcd takes up to {:.0} ms to answer, longer than a renewal interval of {:.0} ms, and a new \
                 writer, like the end of a planned move, waits for several of its answers: give etcd disks \
                 and processors of its own",
                millis(self.store_round),
                millis(lease.renewal_interval)
            ));
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
mod tests {
    use hashroute_coordination::Change;

    use super::*;
    use crate::stalls::Stalls;
    use crate::testing::{both, entry};

    fn window(millis: &[u64]) -> Window {
        let mut window = Window::default();
        millis.iter().for_each(|it| window.push(Duration::from_millis(*it)));
        window
    }

    /// Pod `a` beside voter 1, with everything as it should be.
    fn well() -> Figures {
        let record = both();
        let writer = record.owner(&hashroute_coordination::Resource::Group("gateway".into()));
        Figures {
            engine: "embedded",
            cluster: "desk-7".into(),
            lease: LeaseParameters::TIGHT,
            is_stale: false,
            voters: vec![LinkFigures {
                is_connected: true,
                round_trip: Some(Duration::from_millis(2)),
                ..LinkFigures::to(entry(2).id, "voter-2:9010")
            }],
            voter: Some(VoterFigures {
                id: entry(1).id,
                address: "voter-1:9010".into(),
                record: Some(record.clone()),
                grants: 7,
                refusals: BTreeMap::new(),
                syncs: 2,
                sync_times: window(&[4, 6]),
                attending: vec!["b".into()],
                routers: BTreeMap::from([("one".into(), 3), ("other".into(), 2)]),
                trouble: None,
            }),
            member: Some(MemberFigures {
                writer: writer.unwrap(),
                record: Some(record.clone()),
                lease_left: Some(Duration::from_millis(250)),
                lease_since: Some(Duration::from_secs(9)),
                margins: window(&[240, 230]),
                renewals: window(&[1, 3]),
                elections: 1,
                gate: GateFigures::default(),
            }),
            store_round: Duration::ZERO,
            stalls: Stalls::new(Duration::ZERO).figures(),
            record: Some(record),
            installed: vec![(1, Duration::from_secs(70)), (3, Duration::from_secs(9))],
            is_realtime: true,
            priority_refused: None,
            troubles: Vec::new(),
            follows_as: None,
        }
    }

    #[track_caller]
    fn assert_warns(figures: &Figures, words: &str) {
        let warnings = figures.snapshot().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
    }

    #[test]
    fn the_promise_is_the_quiet_time_the_stalls_and_the_rounds() {
        let mut figures = well();
        figures.stalls.worst_lately = Duration::from_millis(20);
        // 100 ms of renewals that are heard, 300.6 until the guards have run out, 60 for a race, two
        // stalls of 20, two rounds of 3 + 6, two of 3.
        let promise = figures.snapshot().recovery_promise_ms;
        assert!((promise - 524.6).abs() < 0.001, "{promise}");
    }

    #[test]
    fn what_is_well_is_no_reason_to_warn() {
        let snapshot = well().snapshot();
        assert_eq!(snapshot.warnings, Vec::<String>::new());
        let (voter, member) = (snapshot.voter.unwrap(), snapshot.member.unwrap());
        assert_eq!((voter.is_voter, voter.epoch, voter.stale_routers), (true, 3, 1));
        assert_eq!((member.is_named, member.holds_lease), (true, true));
        assert_eq!(member.groups, ["gateway"]);
        assert!(member.slots > 0 && member.slots < 8, "{}", member.slots);
        assert_eq!(snapshot.stalls.budget_ms.round(), 237.0);
        assert_eq!(snapshot.record_age_ms, Some(9_000.0));
        assert_eq!(snapshot.installed.first().map(|it| (it.epoch, it.ms_ago)), Some((1, 70_000.0)));
    }

    #[test]
    fn a_voter_that_was_replaced_while_it_was_away_is_none() {
        let mut figures = well();
        let change = Change::ReplaceVoter { old: entry(1).id, new: entry(9) };
        let replaced = both().next(&change).unwrap();
        figures.record = Some(replaced);
        let voter = figures.snapshot().voter.unwrap();
        assert_eq!((voter.is_voter, voter.epoch), (false, 3));
    }

    #[test]
    fn trouble_that_is_coming_is_said_with_what_to_do() {
        let mut figures = well();
        figures.priority_refused = Some("not permitted".into());
        assert_warns(&figures, "CAP_SYS_NICE");
        let mut figures = well();
        figures.stalls.worst_lately = Duration::from_millis(80);
        assert_warns(&figures, "a quarter of the lease");
        figures.stalls.worst_lately = Duration::from_millis(250);
        assert_warns(&figures, "longer than the lease survives");
        let mut figures = well();
        figures.member.as_mut().unwrap().margins = window(&[240, 49]);
        assert_warns(&figures, "less than one renewal interval");
        let mut figures = well();
        figures.voter.as_mut().unwrap().sync_times = window(&[51]);
        assert_warns(&figures, "above 200 ms");
        figures.voter.as_mut().unwrap().sync_times = window(&[199]);
        assert_warns(&figures, "voters have 200 ms to answer");
        figures.voter.as_mut().unwrap().sync_times = window(&[2]);
        figures.voter.as_mut().unwrap().trouble = Some("input/output error".into());
        assert_warns(&figures, "repair the disk");
        let mut figures = well();
        figures.troubles.push("the voter at voter-3:9010: no answer within 500 ms".into());
        assert_warns(&figures, "voter-3");
        let mut figures = well();
        figures.store_round = Duration::from_millis(50);
        assert_eq!(figures.snapshot().warnings, Vec::<String>::new());
        figures.store_round = Duration::from_millis(51);
        assert_warns(&figures, "etcd takes up to 51 ms to answer");
    }

    #[test]
    fn a_disk_is_slow_well_before_changes_fail_however_rare_the_renewals_are() {
        let mut figures = well();
        let rare = Duration::from_millis(140);
        figures.record = None;
        figures.lease = LeaseParameters { renewal_interval: rare, ..LeaseParameters::DEFAULT };
        figures.voter.as_mut().unwrap().sync_times = window(&[101]);
        assert_warns(&figures, "above 200 ms");
    }

    #[test]
    fn a_clock_that_runs_off_is_pointed_out_once_that_is_certain() {
        let mut figures = well();
        figures.voters[0].drift_ppm = Some((-1_300.0, 250.0));
        assert_warns(&figures, "voter-2:9010 runs -1300 millionths");
        assert_eq!(figures.snapshot().voters[0].drift_ppm, Some(-1_300.0));
        figures.voters[0].drift_ppm = Some((-1_300.0, 400.0));
        assert_eq!(figures.snapshot().warnings, Vec::<String>::new());
        assert_eq!(figures.snapshot().voters[0].drift_ppm, None, "not known well enough");
    }
}
