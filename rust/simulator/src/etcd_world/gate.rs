//! What is under way at a pod, and who waits for its end: as the gate in front of a pod's service
//! keeps it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashroute_coordination::{Record, Resource};

use super::event::Event;
use super::{Place, World};

/// Admitted writes that have not ended, by number, and the releases that wait for some of them.
#[derive(Default)]
pub(super) struct Gate {
    under_way: BTreeMap<u64, Resource>,
    releases: Vec<(Record, BTreeSet<u64>)>,
}

impl Gate {
    pub(super) fn admitted(&mut self, number: u64, resource: Resource) {
        self.under_way.insert(number, resource);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Another record counts: what was released is decided.
    pub(super) fn forget_releases(&mut self) {
        self.releases.clear();
    }
}

impl World {
    /// A release waits for every write under way of what the process owns and loses in `record`.
    pub(super) fn quiesce(&mut self, place: Place, record: Record) {
        let process = &mut self.processes[place];
        let Some(running) = &mut process.running else { return };
        let Some(present) = running.member.record() else { return };
        let me = running.member.writer();
        let loses = |resource: &Resource| {
            present.writer_of(resource) == Some(me) && record.writer_of(resource) != Some(me)
        };
        let lost = running.gate.under_way.iter().filter(|(_, resource)| loses(resource));
        let waits_for: BTreeSet<u64> = lost.map(|(number, _)| *number).collect();
        let is_over = waits_for.is_empty();
        running.gate.releases.push((record, waits_for));
        if is_over {
            let boot = process.boot;
            self.push(Duration::ZERO, Event::WritesEnded { place, boot });
        }
    }

    /// The service that wrote has the answer of its store.
    pub(super) fn write_ends(&mut self, place: Place, boot: u32, number: u64) {
        let process = &mut self.processes[place];
        let Some(running) = process.running.as_mut().filter(|_| process.boot == boot) else {
            return;
        };
        running.gate.under_way.remove(&number);
        let mut is_over = false;
        for (_, waits_for) in &mut running.gate.releases {
            is_over |= waits_for.remove(&number) && waits_for.is_empty();
        }
        if is_over {
            self.push(Duration::ZERO, Event::WritesEnded { place, boot });
        }
    }

    /// Says every release whose writes have ended.
    pub(super) fn writes_ended(&mut self, place: Place, boot: u32) {
        let process = &mut self.processes[place];
        let Some(running) = process.running.as_mut().filter(|_| process.boot == boot) else {
            return;
        };
        let over = running.gate.releases.extract_if(.., |(_, waits_for)| waits_for.is_empty());
        let over: Vec<(Record, _)> = over.collect();
        for (record, _) in over {
            self.with_member(place, |member, now| member.quiesced(now, &record));
        }
    }
}
