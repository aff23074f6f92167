//! How it all ends: everything heals but for one lasting fault, and every resource is writable.

use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{Member, Record, Resource, WriteTag};
use hashroute_core::{PodState, Slot};

use super::{Place, Role, World};
use crate::invariants::{Invariant, Violation};
use crate::plan::Lasting;

impl World {
    /// From here on nothing fails any more: links are whole, and everybody runs, but for what the
    /// plan leaves broken. Pauses go on to their end, and what is to come is waited for from there.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        let paused = self.processes.iter().map(|process| process.paused_until).max();
        let pause = paused.unwrap_or_default().saturating_sub(self.now);
        for time in [&mut self.plan.heal_at, &mut self.plan.look_at, &mut self.plan.end_at] {
            *time += pause;
        }
        self.plan.delay_most = self.plan.delay_most.min(Duration::from_millis(2));
        self.plan.effect_most = self.plan.effect_most.min(Duration::from_millis(5));
        if !self.plan.slow_disks {
            self.plan.sync_most = self.plan.sync_most.min(Duration::from_millis(2));
        }
        self.plan.down_most = self.plan.down_most.min(Duration::from_millis(30));
        self.mend();
        let twins: Vec<Place> = self.twins.iter().map(|(_, place)| *place).collect();
        if self.dice.per_mille(700) {
            twins.into_iter().for_each(|place| self.crash(place));
        }
        for place in 0..self.processes.len() {
            self.start(place);
        }
        if let Some(lasting) = self.plan.lasting {
            self.leave_broken(lasting);
        }
    }

    fn leave_broken(&mut self, lasting: Lasting) {
        let latest = self.observed.latest().clone();
        let member = self.any_member();
        let index = self.dice.below(latest.voters().len());
        let voter = self.place_of_voter(latest.voters()[index].id);
        let voter = voter.filter(|voter| self.can_spare(*voter));
        if !lasting.is_of_a_voter() && !self.others_know_voters(member) {
            return;
        }
        match (lasting, voter) {
            (Lasting::MemberDead, _) => self.crash(member),
            (Lasting::MemberCut, _) => {
                self.mute(member);
                self.deafen(member);
            }
            (Lasting::MemberDeaf, _) => self.deafen(member),
            (Lasting::MemberMute, _) => self.mute(member),
            (Lasting::VoterDead, Some(voter)) => self.crash(voter),
            (Lasting::VoterCut, Some(voter)) => {
                self.mute(voter);
                self.deafen(voter);
            }
            (Lasting::VoterDeaf, Some(voter)) => self.deafen(voter),
            (Lasting::OneLinkOneWay, Some(voter)) => self.cut[member][voter] = true,
            (Lasting::VoterDead | Lasting::VoterCut, None)
            | (Lasting::VoterDeaf | Lasting::OneLinkOneWay, None) => {}
        }
    }

    /// Whether another member that runs reaches a majority of the voters. After a replacement only
    /// those that saw it do, until the operator has written the new address into every file; no
    /// operator does so here. A voter whose disk is gone is reached by nobody.
    fn others_know_voters(&self, member: Place) -> bool {
        let latest = self.observed.latest();
        let others = self.processes.iter().enumerate().filter(|(place, _)| *place != member);
        let mut running = others.filter_map(|(_, other)| match &other.role {
            Role::Member(other) => other.running.as_ref(),
            Role::Voter(_) => None,
        });
        let votes = |id| match self.place_of_voter(id).map(|place| &self.processes[place].role) {
            Some(Role::Voter(voter)) => voter.running.is_some(),
            Some(Role::Member(_)) | None => false,
        };
        let voters = || latest.voters().iter().filter(|entry| votes(entry.id));
        running.any(|other| {
            let known = voters().filter(|entry| other.record().has_voter(entry.id));
            known.count() >= latest.majority()
        })
    }

    /// Runs to the end of the plan, or until each resource has been writable at some moment after
    /// the last fault has shown. Not at every one, for changes that were asked for earlier may
    /// still be under way.
    pub(super) fn run_to_recovery(&mut self) -> Result<(), Violation> {
        let mut waiting: Option<Vec<Resource>> = None;
        // The healing puts it off.
        while self.advance(self.plan.look_at)? {}
        let mut end = self.plan.look_at;
        while end <= self.plan.end_at {
            while self.advance(end)? {}
            let latest = self.observed.latest().clone();
            let left = waiting.take().unwrap_or_else(|| self.resources());
            let unwritable = |it: &Resource| self.writer_of(&latest, it).is_none();
            let left: Vec<Resource> = left.into_iter().filter(unwritable).collect();
            if left.is_empty() || all_drained(&latest) {
                return Ok(());
            }
            waiting = Some(left);
            end += LOOK_INTERVAL;
        }
        let seen = format!("{waiting:?} have no writer at the end: {}", self.describe());
        Err(Violation { at: self.now, ..Violation::new(Invariant::Recovery, seen) })
    }

    /// Every slot, and every group that was agreed.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let latest = self.observed.latest();
        let slots = 0..latest.view().parameters().slots();
        let groups = latest.groups().iter();
        slots
            .map(|slot| Resource::Slot(Slot::new(slot)))
            .chain(groups.map(|group| Resource::Group(Arc::clone(&group.name))))
            .collect()
    }

    /// Where a write of the resource, routed by this record, would be admitted now.
    pub(crate) fn writer_of(&self, record: &Record, resource: &Resource) -> Option<Place> {
        let tag = WriteTag { epoch: record.epoch(), term: record.term(resource)? };
        let pod = &record.writer_of(resource)?.pod;
        if self.twins.is_empty() {
            return self.place_of_pod(pod).filter(|place| self.admits(*place, resource, tag));
        }
        self.places_of_pod(pod).find(|place| self.admits(*place, resource, tag))
    }

    fn admits(&self, place: Place, resource: &Resource, tag: WriteTag) -> bool {
        let process = &self.processes[place];
        let Role::Member(member) = &process.role else { return false };
        let now = process.clock.local(self.now);
        let is_paused = process.paused_until > self.now;
        let running = member.running.as_ref();
        !is_paused && running.is_some_and(|it| it.admit(now, resource, tag).is_ok())
    }

    /// Whether the member at this place would admit a write of the resource, routed by what it
    /// goes by itself.
    pub(crate) fn admitting(&self, resource: &Resource, place: Place) -> bool {
        let Role::Member(member) = &self.processes[place].role else { return false };
        let Some(record) = member.running.as_ref().map(Member::record) else { return false };
        let Some(term) = record.term(resource) else { return false };
        self.admits(place, resource, WriteTag { epoch: record.epoch(), term })
    }

    /// What every process goes by, for a person.
    fn describe(&self) -> String {
        let processes = self.processes.iter().map(|process| {
            let now = process.clock.local(self.now);
            match &process.role {
                Role::Voter(voter) => Self::describe_voter(voter),
                Role::Member(member) => match &member.running {
                    Some(running) => format!(
                        "{}: epoch {}, lease {}, heard since {:?}, takes part {}",
                        member.pod.id,
                        running.record().epoch(),
                        running.lease().is_valid(now),
                        running.lease().heard_since(),
                        running.takes_part(),
                    ),
                    None => format!("{}: not running", member.pod.id),
                },
            }
        });
        let latest = format!("latest {:?}", self.observed.latest());
        processes.chain([latest]).collect::<Vec<_>>().join("\n    ")
    }
}

/// Whether the operator left no pod that may own anything.
fn all_drained(latest: &Record) -> bool {
    let pods = latest.view().pods();
    pods.iter().all(|pod| !pod.state.owns_slots())
        && pods.iter().any(|pod| pod.state == PodState::Draining)
}

/// So often it is looked whether resources are writable.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
