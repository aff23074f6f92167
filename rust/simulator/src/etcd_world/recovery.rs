//! How it all ends: everything heals but for one lasting fault, and every resource is writable.

use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{Record, Resource, WriteTag};
use hashroute_core::{PodState, Slot};

use super::plan::Lasting;
use super::{Place, World};
use crate::invariants::{Invariant, Violation};

impl World {
    /// From here on nothing fails any more, but for what the plan leaves broken.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        let brief = Duration::from_millis(2);
        self.plan.delay_most = self.plan.delay_most.min(brief);
        self.plan.leave_most = self.plan.leave_most.min(brief);
        self.plan.lag_most = self.plan.lag_most.min(brief);
        self.plan.effect_most = self.plan.effect_most.min(Duration::from_millis(5));
        self.plan.down_most = self.plan.down_most.min(Duration::from_millis(30));
        self.etcd.stopped_until = self.now;
        self.mend();
        if self.dice.per_mille(700) {
            (self.plan.own()..self.processes.len()).for_each(|twin| self.crash(twin));
        }
        for place in 0..self.processes.len() {
            self.processes[place].paused_until = self.now;
            self.start(place);
        }
        if let Some(lasting) = self.plan.lasting {
            self.leave_broken(lasting);
        }
    }

    fn leave_broken(&mut self, lasting: Lasting) {
        let place = self.any_member();
        match lasting {
            Lasting::MemberDead => self.crash(place),
            Lasting::Isolated => self.isolate(place),
            Lasting::Unheard => self.processes[place].is_unheard = true,
            Lasting::DeafToOthers => self.processes[place].hears_nobody = true,
            Lasting::MemberCut => {
                self.processes[place].is_mute = true;
                self.processes[place].is_deaf = true;
            }
            Lasting::MemberDeaf => self.processes[place].is_deaf = true,
            Lasting::MemberMute => self.processes[place].is_mute = true,
            Lasting::WatchStuck => {
                self.processes[place].has_stuck_watches = true;
                self.stick_watch(place);
            }
        }
    }

    /// Runs to the end of the plan, or until each resource has been writable at some moment after
    /// the last fault has shown. Not at every one, for changes that were asked for earlier may
    /// still be under way.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        let mut waiting: Option<Vec<Resource>> = None;
        let mut end = self.plan.look_at;
        while end <= self.plan.end_at {
            while self.advance(end)? {}
            let latest = self.observed.latest().clone();
            let left = waiting.take().unwrap_or_else(|| self.resources());
            let unwritable = |it: &Resource| !self.is_writable(&latest, it);
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
    fn resources(&self) -> Vec<Resource> {
        let latest = self.observed.latest();
        let slots = 0..latest.view().parameters().slots();
        let groups = latest.groups().iter();
        slots
            .map(|slot| Resource::Slot(Slot::new(slot)))
            .chain(groups.map(|group| Resource::Group(Arc::clone(&group.name))))
            .collect()
    }

    /// Whether a write of the resource, routed by this record, would be admitted now.
    fn is_writable(&self, record: &Record, resource: &Resource) -> bool {
        let Some(term) = record.term(resource) else { return false };
        let Some(writer) = record.writer_of(resource) else { return false };
        let tag = WriteTag { epoch: record.epoch(), term };
        self.places_of_pod(&writer.pod).any(|place| self.admits(place, resource, tag))
    }

    fn admits(&self, place: Place, resource: &Resource, tag: WriteTag) -> bool {
        let process = &self.processes[place];
        let now = process.clock.local(self.now);
        let is_paused = process.paused_until > self.now;
        let running = process.running.as_ref();
        !is_paused && running.is_some_and(|it| it.member.admit(now, resource, tag).is_ok())
    }

    /// What every process goes by, for a person.
    fn describe(&self) -> String {
        let processes = self.processes.iter().map(|process| {
            let (pod, now) = (&process.pod.id, process.clock.local(self.now));
            match &process.running {
                Some(running) => {
                    let member = &running.member;
                    let epoch = member.record().map(|record| record.epoch().get());
                    let lease = member.lease_end().is_some_and(|end| now < end);
                    let heard = member.answered_at().map(|at| now.saturating_sub(at));
                    format!(
                        "{pod}: epoch {epoch:?}, lease {lease}, heard {heard:?} ago, has ended {}",
                        member.has_ended()
                    )
                }
                None => format!("{pod}: not running"),
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
