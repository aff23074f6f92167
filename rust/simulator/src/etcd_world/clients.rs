//! Clients that write, by whatever view they have, and what becomes of their writes.

use std::time::Duration;

use hashroute_coordination::{Bug, Resource, WriteTag};

use super::event::Event;
use super::{Place, World};
use crate::invariants::Admission;
use crate::world::Effect;

/// A write on its way to a pod.
#[derive(Clone, Debug)]
pub(super) struct Write {
    router: usize,
    resource: Resource,
    tag: WriteTag,
    /// How often it may be sent again.
    resends: u8,
}

impl World {
    pub(super) fn client_writes(&mut self) {
        self.push(self.plan.write_interval, Event::ClientWrites);
        let client = self.dice.below(self.beliefs.len());
        if self.dice.per_mille(self.plan.refreshes_per_mille) {
            let place = self.any_member();
            let running = self.processes[place].running.as_ref();
            if let Some(record) = running.and_then(|running| running.member.record()) {
                self.beliefs[client] = record.clone();
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
        let Some(running) = &mut process.running else { return };
        let Write { router, resource, tag, resends } = write;
        let member = &running.member;
        let Some(record) = member.record() else { return };
        let Ok(term) = member.admit(now, &resource, tag) else {
            if resends > 0 {
                // The refusal tells the router what the pod goes by, if that is newer.
                if record.epoch() > self.beliefs[router].epoch() {
                    self.beliefs[router] = record.clone();
                }
                self.route(router, resource, resends - 1);
            }
            return;
        };
        let (writer, number) = (member.writer().clone(), self.queue.pushed());
        let admission = Admission { writer: &writer, record, number };
        self.observed.admitted(self.now, &admission, &resource, tag, term);
        running.gate.admitted(number, resource.clone());
        let delay = self.dice.between(Duration::ZERO, self.plan.effect_most);
        let effect = Effect { number, resource, term, writer };
        self.push(delay, Event::EffectLeaves { place, boot, effect });
    }

    pub(super) fn effect_leaves(&mut self, place: Place, boot: u32, mut effect: Effect) {
        let process = &self.processes[place];
        if process.boot != boot {
            return self.observed.ended(effect.number);
        }
        let record = process.running.as_ref().and_then(|running| running.member.record());
        if self.planted.has(Bug::TermOfEffect)
            && let Some(record) = record
        {
            effect.term = record.term(&effect.resource).unwrap_or(effect.term);
        }
        let delay = self.dice.between(Duration::ZERO, self.plan.effect_most);
        self.push(delay, Event::EffectArrives { place, boot, effect });
    }
}
