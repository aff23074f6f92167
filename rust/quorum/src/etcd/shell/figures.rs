//! What the loop tells of itself.
use std::time::Duration;

use hashroute_coordination::Record;

use super::EtcdShell;
use crate::clock;
use crate::figures::{Figures, LinkFigures, MemberFigures, VoterFigures};
use crate::proto;
use crate::shell::ago;
use crate::window::Window;
use crate::wire::{cluster_id_out, voter_id_out};

impl EtcdShell {
    /// Notes what became of the lease, which ended at `before` by what was known before.
    pub(super) fn note_lease(&mut self, before: Option<Duration>, now: Duration) {
        let after = self.member.lease_end();
        if after <= before {
            self.lease_since = self.lease_since.filter(|_| after.is_some_and(|end| now < end));
            return;
        }
        match before.filter(|end| *end > now) {
            Some(end) => self.margins.push(end - now),
            None => self.lease_since = Some(now),
        }
        if let Some(record) = self.member.record() {
            let sent =
                after.unwrap_or_default().saturating_sub(record.parameters().holder_window());
            self.renewals.push(now.saturating_sub(sent));
        }
    }

    /// The figures of this moment. Without voters etcd stands where they would.
    pub(super) fn figures(&self) -> Figures {
        let (now, record) = (clock::now(), self.shared.record());
        let voters = record.as_ref().map(|record| match record.voters() {
            [entry] => vec![LinkFigures {
                is_connected: self.trouble.is_none(),
                heard_ago: self.member.answered_at().map(|at| now.saturating_sub(at)),
                epoch: record.epoch().get(),
                round_trip: Some(self.round_trips.last()),
                ..LinkFigures::to(entry.id, self.client.address())
            }],
            _ => {
                let own = self.voter_record().map(Record::epoch);
                self.links.figures(Some(record), own, now)
            }
        });
        let troubles = self.trouble.iter().cloned().chain(self.links.troubles());
        Figures {
            engine: "etcd",
            cluster: self.settings.cluster.clone(),
            installed: ago(self.shared.installed(), now),
            lease: self.settings.lease.into(),
            is_stale: self.shared.is_stale(),
            voters: voters.unwrap_or_default(),
            voter: self.voter_figures(),
            member: self.is_member.then(|| self.member_figures(record.as_ref(), now)),
            store_round: self.round_trips.percentile(99),
            stalls: self.stalls.figures(),
            is_realtime: self.is_realtime,
            priority_refused: self.priority_refused.clone(),
            troubles: troubles.chain(self.attendees.troubles(now)).collect(),
            follows_as: self.links.follows_as(),
            record,
        }
    }

    fn member_figures(&self, record: Option<&Record>, now: Duration) -> MemberFigures {
        let writer = self.member.writer().clone();
        let end = self.member.lease_end().filter(|end| *end > now);
        MemberFigures {
            writer,
            record: record.cloned(),
            lease_left: end.map(|end| end - now),
            lease_since: end.and(self.lease_since).map(|since| now.saturating_sub(since)),
            margins: self.margins.clone(),
            renewals: self.renewals.clone(),
            elections: self.elections,
            gate: self.shared.gate.figures(),
        }
    }

    /// Who this process is; whoever asks makes the snapshot of the figures.
    pub(super) fn describe(&self) -> (proto::DescribeResponse, Box<Figures>) {
        let record = self.member.record();
        let response = proto::DescribeResponse {
            version: proto::Version::Version1.into(),
            cluster: self.settings.cluster.clone(),
            cluster_id: record.map(|it| cluster_id_out(it.cluster())).unwrap_or_default(),
            voter_id: self.seat.as_ref().map(|seat| voter_id_out(seat.id)).unwrap_or_default(),
            address: self.address.clone(),
            record: record.map(|record| self.codec.record_out(record)),
            snapshot: String::new(),
        };
        (response, Box::new(self.figures()))
    }

    fn voter_figures(&self) -> Option<VoterFigures> {
        let seat = self.seat.as_ref()?;
        Some(VoterFigures {
            id: seat.id,
            address: self.address.clone(),
            record: self.voter_record().cloned(),
            grants: seat.answers.grants,
            refusals: seat.answers.refusals.clone(),
            syncs: 0,
            sync_times: Window::default(),
            attending: self.attendees.pods(),
            routers: self.followers.epochs(),
            trouble: None,
        })
    }

    fn voter_record(&self) -> Option<&Record> {
        self.member.voter().map(|voter| &voter.state().installed)
    }
}
