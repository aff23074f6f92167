//! Clients that write, by whatever view they have, and what becomes of their writes.

use std::time::Duration;

use hashroute_coordination::{Bug, Member, Resource, WriteTag, Writer};
use hashroute_core::Epoch;

use super::event::Event;
use super::{Place, Role, World};
use crate::invariants::Admission;

/// A write on its way to a pod.
#[derive(Clone, Debug)]
pub(super) struct Write {
    router: usize,
    resource: Resource,
    tag: WriteTag,
    /// How often it may be sent again.
    resends: u8,
}

/// A write on its way from the guard that admitted it to the store.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) number: u64,
    pub(crate) resource: Resource,
    pub(crate) term: Epoch,
    pub(crate) writer: Writer,
}

impl World {
    pub(super) fn client_writes(&mut self) {
        self.push(self.plan.write_interval, Event::ClientWrites);
        let client = self.dice.below(self.beliefs.len());
        if self.dice.per_mille(self.plan.refreshes_per_mille) {
            let place = self.any_member();
            if let Role::Member(process) = &self.processes[place].role
                && let Some(member) = &process.running
            {
                self.beliefs[client] = member.record().clone();
            }
        }
        let resource = self.any_resource();
        self.route(client, resource, self.plan.resends);
    }

    /// A router sends a write where it believes that its owner is.
    fn route(&mut self, router: usize, resource: Resource, resends: u8) {
        let belief = &self.beliefs[router];
        let (Some(owner), Some(term)) = (belief.writer_of(&resource), belief.term(&resource))
        else {
            return;
        };
        let tag = WriteTag { epoch: belief.epoch(), term };
        let owner = owner.pod.clone();
        let target = if self.dice.per_mille(self.plan.misrouted_per_mille) {
            Some(self.any_member())
        } else if self.twins.is_empty() {
            self.place_of_pod(&owner)
        } else {
            let places: Vec<Place> = self.places_of_pod(&owner).collect();
            self.dice.pick(&places).copied()
        };
        if let Some(place) = target {
            let delay = self.delay();
            let write = Write { router, resource, tag, resends };
            self.push(delay, Event::WriteArrives { place, write });
        }
    }

    pub(super) fn write_arrives(&mut self, place: Place, write: Write) {
        let process = &mut self.processes[place];
        let (now, boot) = (process.clock.local(self.now), process.boot);
        let Role::Member(member) = &mut process.role else { return };
        let Some(running) = &member.running else { return };
        let Write { router, resource, tag, resends } = write;
        let Ok(term) = running.admit(now, &resource, tag) else {
            if resends > 0 {
                // The refusal tells the router what the pod goes by, if that is newer.
                let known = running.record();
                if known.epoch() > self.beliefs[router].epoch() {
                    self.beliefs[router] = known.clone();
                }
                self.route(router, resource, resends - 1);
            }
            return;
        };
        let (writer, number) = (running.writer().clone(), self.queue.pushed());
        let admission = Admission { writer: &writer, record: running.record(), number };
        self.observed.admitted(self.now, &admission, &resource, tag, term);
        member.under_way.insert(number);
        let delay = self.dice.between(Duration::ZERO, self.plan.effect_most);
        let effect = Effect { number, resource, term, writer };
        self.push(delay, Event::EffectLeaves { place, boot, effect });
    }

    pub(super) fn effect_leaves(&mut self, place: Place, boot: u32, mut effect: Effect) {
        let process = &self.processes[place];
        if process.boot != boot {
            return self.observed.ended(effect.number);
        }
        if let Role::Member(member) = &process.role
            && self.planted.has(Bug::TermOfEffect)
            && let Some(record) = member.running.as_ref().map(Member::record)
        {
            effect.term = record.term(&effect.resource).unwrap_or(effect.term);
        }
        let delay = self.dice.between(Duration::ZERO, self.plan.effect_most);
        self.push(delay, Event::EffectArrives { place, boot, effect });
    }

    /// The service that wrote has the store's answer.
    pub(super) fn write_ends(&mut self, place: Place, boot: u32, number: u64) {
        let process = &mut self.processes[place];
        if process.boot != boot {
            return;
        }
        if let Role::Member(member) = &mut process.role {
            member.under_way.remove(&number);
            self.quiesce(place);
        }
    }
}
