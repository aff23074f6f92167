//! Voters that grant leases to members whose record lies in etcd: what both say to each other, by
//! links that are none of etcd's.

use hashroute_coordination::{FromVoter, Key, Record, Value, VoterEntry, VoterId, Writer};
use hashroute_core::PodId;

use super::event::Event;
use super::{Place, World, first_voter};

impl World {
    /// The member at this place says this to a voter.
    pub(super) fn member_says(
        &mut self,
        from: Place,
        to: VoterId,
        message: hashroute_coordination::ToVoter,
    ) {
        let Some(place) = self.processes.iter().position(|it| it.voter == Some(to)) else {
            return;
        };
        let pod = self.processes[from].pod.id.clone();
        self.send(from, place, Event::ToVoter { place, from: pod, message });
    }

    /// The voter at this place says this to the member of a pod, and to a twin of it.
    pub(super) fn voter_says(&mut self, from: Place, to: &PodId, message: &FromVoter) {
        self.observe(from, message);
        let Some(by) = self.processes[from].voter else { return };
        let places: Vec<Place> = self.places_of_pod(to).collect();
        for place in places {
            self.send(from, place, Event::FromVoter { place, by, message: message.clone() });
        }
    }

    /// What a process says to itself arrives.
    fn send(&mut self, from: Place, to: Place, event: Event) {
        if from == to {
            return self.push(std::time::Duration::ZERO, event);
        }
        let is_cut = self.processes[from].is_unheard || self.processes[to].hears_nobody;
        if is_cut || self.is_lost() {
            return;
        }
        let delay = self.delay();
        self.push(delay, event);
    }

    pub(super) fn voter_hears(
        &mut self,
        place: Place,
        from: PodId,
        message: hashroute_coordination::ToVoter,
    ) {
        self.with_member(place, |member, now| member.asked(now, from, message));
    }

    pub(super) fn member_hears(&mut self, place: Place, by: VoterId, message: FromVoter) {
        self.with_member(place, |member, now| member.hear_voter(now, by, message));
    }

    fn observe(&mut self, place: Place, message: &FromVoter) {
        let process = &self.processes[place];
        let running = process.running.as_ref();
        let Some(state) = running.and_then(|it| it.member.voter()).map(|it| it.state().clone())
        else {
            return;
        };
        match message {
            FromVoter::Renewed { writer, .. } => {
                let guard = process.clock.local(self.now) + self.plan.parameters.ttl;
                self.observed.granted(&state, writer, process.clock.when(guard));
            }
            FromVoter::Accepted { .. } => {
                let Some((ballot, record)) = &state.accepted else { return };
                // A vote for an intent that was withdrawn meanwhile decides nothing.
                let stands = self.etcd.value(&Key::Intent);
                if stands.is_none_or(|(revision, _)| revision.0 != ballot.round) {
                    return;
                }
                let released = self.released(ballot.round, &state.installed, record);
                self.observed.votes(self.now, &state, &released);
            }
            FromVoter::Refused { .. }
            | FromVoter::Heard { .. }
            | FromVoter::Lapsed { .. }
            | FromVoter::Promised { .. }
            | FromVoter::Guarded { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. } => {}
        }
    }

    /// Who of those that lose something has said in etcd that it has stopped.
    fn released(&self, intent: u64, before: &Record, record: &Record) -> Vec<Writer> {
        let mut losers = before.losers(record);
        losers.retain(|writer| {
            let said = self.etcd.value(&Key::Released(writer.clone()));
            matches!(said, Some((_, Value::Released(it))) if it.0 == intent)
        });
        losers
    }

    /// The operator lets a voter take the place of another one: of one that is gone, if one is.
    pub(super) fn replacement(&mut self) -> Option<(VoterId, VoterEntry)> {
        let voters = self.observed.latest().voters().to_vec();
        let lives = |id: VoterId| self.processes.iter().any(|it| it.voter == Some(id));
        let gone = voters.iter().map(|entry| entry.id).find(|id| !lives(*id));
        let ids: Vec<VoterId> = voters.iter().map(|entry| entry.id).collect();
        let spares = self.processes.iter().filter_map(|process| process.voter);
        let spares: Vec<VoterId> = spares.filter(|id| !ids.contains(id)).collect();
        let new = self.dice.pick(&spares).copied()?;
        let old = gone.or_else(|| self.dice.pick(&ids).copied())?;
        Some((old, entry(new)))
    }

    /// The process comes back with an empty directory, so its voter has another name. Once, and not
    /// if something else stays broken: that is more than three voters bear.
    pub(super) fn lose_disk(&mut self, place: Place) {
        let has_lost = self
            .processes
            .iter()
            .enumerate()
            .any(|(place, process)| process.voter.is_some_and(|it| it != first_voter(place)));
        if self.processes[place].voter.is_none() || has_lost || self.plan.lasting.is_some() {
            return;
        }
        self.crash_for_a_while(place);
        self.processes[place].voter = Some(VoterId(u128::from(self.dice.word())));
    }
}

/// A voter as a record has it.
pub(super) fn entry(id: VoterId) -> VoterEntry {
    VoterEntry { id, address: format!("voter-{}:7000", id.0) }
}
