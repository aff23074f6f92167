//! Members: the processes of the pods.

use std::collections::BTreeSet;
use std::time::Duration;

use hashroute_coordination::{
    Bug, Change, Incarnation, RegisterAction, RegisterMember, Request, VoterId, WriteTag,
};
use hashroute_core::{Epoch, Pod};

use super::event::Event;
use super::gate::Gate;
use super::watch::Watch;
use super::{Place, World};
use crate::clock::Clock;

/// A timer: when it is due by the clock of its process, and its number.
#[derive(Clone, Copy)]
pub(super) struct Alarm {
    pub(super) at: Duration,
    pub(super) number: u64,
}

pub(super) struct Process {
    pub(super) pod: Pod,
    /// Whether it runs beside the pod's own process.
    pub(super) is_twin: bool,
    has_run: bool,
    pub(super) clock: Clock,
    /// Grows at each start and crash, so that events of a process that is no more are dropped.
    pub(super) boot: u32,
    pub(super) paused_until: Duration,
    /// The timer that is set; none other wakes the process.
    pub(super) alarm: Option<Alarm>,
    pub(super) running: Option<Running>,
    last_incarnation: Option<Incarnation>,
    /// etcd does not hear it.
    pub(super) is_mute: bool,
    /// It does not hear etcd.
    pub(super) is_deaf: bool,
    /// Its watches tell nothing.
    pub(super) has_stuck_watches: bool,
    /// The name of its voter, which lies on its disk; none if it does not vote.
    pub(super) voter: Option<VoterId>,
    /// No other process hears it.
    pub(super) is_unheard: bool,
    /// It hears no other process.
    pub(super) hears_nobody: bool,
}

pub(super) struct Running {
    pub(super) member: RegisterMember,
    pub(super) has_begun: bool,
    /// Transactions that its client still waits for.
    pub(super) awaited: BTreeSet<Request>,
    pub(super) watch: Watch,
    pub(super) gate: Gate,
}

impl Process {
    pub(super) fn new(pod: Pod, is_twin: bool, clock: Clock) -> Self {
        Self {
            pod,
            is_twin,
            has_run: false,
            clock,
            boot: 0,
            paused_until: Duration::ZERO,
            alarm: None,
            running: None,
            last_incarnation: None,
            is_mute: false,
            is_deaf: false,
            has_stuck_watches: false,
            voter: None,
            is_unheard: false,
            hears_nobody: false,
        }
    }
}

impl World {
    pub(super) fn start(&mut self, place: Place) {
        let fresh = Incarnation(self.dice.word());
        let (planted, process) = (self.planted, &mut self.processes[place]);
        if process.running.is_some() || (process.is_twin && process.has_run) {
            return;
        }
        process.has_run = true;
        let reused = process.last_incarnation.filter(|_| planted.has(Bug::IncarnationReused));
        let incarnation = reused.unwrap_or(fresh);
        process.last_incarnation = Some(incarnation);
        let now = process.clock.local(self.now);
        let member = RegisterMember::with_planted(process.pod.clone(), incarnation, now, planted);
        let member = match process.voter {
            Some(id) => member.voting(id),
            None => member,
        };
        process.boot += 1;
        process.alarm = None;
        process.running = Some(Running {
            member: member.only_following(),
            has_begun: false,
            awaited: BTreeSet::new(),
            watch: Watch::default(),
            gate: Gate::default(),
        });
        let (boot, is_twin) = (process.boot, process.is_twin);
        if place < self.plan.members || is_twin {
            let check = self.dice.between(Duration::ZERO, STALL_CHECK);
            self.push(check, Event::Begin { place, boot });
        }
        self.look(place);
    }

    /// Effects that have not left the process never will; those that have may still arrive, and so
    /// may its transactions.
    pub(super) fn crash(&mut self, place: Place) {
        let process = &mut self.processes[place];
        process.boot += 1;
        process.alarm = None;
        process.paused_until = Duration::ZERO;
        process.running = None;
    }

    pub(super) fn begin(&mut self, place: Place, boot: u32) {
        let process = &mut self.processes[place];
        let Some(running) = process.running.as_mut().filter(|_| process.boot == boot) else {
            return;
        };
        running.has_begun = true;
        self.with_member(place, RegisterMember::begin);
    }

    pub(super) fn wake(&mut self, place: Place, alarm: u64) {
        let process = &mut self.processes[place];
        if process.alarm.is_none_or(|set| set.number != alarm) {
            return;
        }
        process.alarm = None;
        self.with_member(place, RegisterMember::tick);
        let process = &self.processes[place];
        if let Some(running) = &process.running
            && running.member.deadline() <= process.clock.local(self.now)
        {
            self.observed.restless(running.member.writer());
        }
    }

    /// Lets the member of a process do something by the clock of that process, and carries out what
    /// it asks for.
    pub(super) fn with_member(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut RegisterMember, Duration) -> Vec<RegisterAction>,
    ) {
        let process = &mut self.processes[place];
        let (clock, boot) = (process.clock, process.boot);
        let Some(running) = &mut process.running else { return };
        let member = &mut running.member;
        let (before, had_ended) = (member.lease_end(), member.has_ended());
        let actions = act(member, clock.local(self.now));
        let is_over = !had_ended && member.has_ended();
        if let Some(end) = member.lease_end().filter(|end| Some(*end) != before) {
            // The first instant at which it is over: it is valid at every one before.
            let end = clock.when(end);
            match member.record().filter(|_| self.plan.voters > 0) {
                Some(record) => self.observed.lease_grew(member.writer(), record, end),
                None => self.observed.lease_grew_by_beats(member.writer(), end),
            }
        }
        for action in actions {
            self.carry_out(place, action);
        }
        if is_over {
            // It renounced, its pod was removed, or is another process's: its supervisor ends it
            // after a moment, and starts the next one.
            let lives = self.dice.between(Duration::ZERO, Duration::from_millis(300));
            self.push(lives, Event::Crash { place, boot });
        }
        self.schedule_wake(place);
    }

    fn carry_out(&mut self, place: Place, action: RegisterAction) {
        let Some(running) = &mut self.processes[place].running else { return };
        let writer = running.member.writer().clone();
        match action {
            RegisterAction::Transact(request, transaction) => {
                self.transact(place, request, transaction);
            }
            RegisterAction::Installed(record) => {
                running.gate.forget_releases();
                self.observed.installed_of_register(&writer, &record);
            }
            RegisterAction::Quiesce(record) => self.quiesce(place, record),
            RegisterAction::Made { change, epoch } => {
                self.observed.made(&writer, &change, epoch);
            }
            RegisterAction::ToVoter(to, message) => self.member_says(place, to, message),
            RegisterAction::FromVoter(to, message) => self.voter_says(place, &to, &message),
            RegisterAction::Dropped { .. } => {}
        }
    }

    /// Stops the process at this place in good order, if nothing is under way there.
    pub(super) fn renounce(&mut self, place: Place) {
        let Some(running) = &self.processes[place].running else { return };
        if running.gate.is_idle() {
            self.observed.renounced(&running.member.writer().clone());
            self.with_member(place, RegisterMember::renounce);
        }
    }

    /// Asks the member at this place for a change.
    pub(super) fn wish(&mut self, place: Place, change: &Change) {
        let Some(running) = &mut self.processes[place].running else { return };
        let writer = running.member.writer().clone();
        if running.member.wish(change.clone()).is_ok() {
            self.observed.asked(&writer, change);
            if running.has_begun {
                self.with_member(place, RegisterMember::tick);
            }
        }
    }

    /// Asks a member that does not know the latest record whether it would admit what it lost.
    pub(super) fn probe(&mut self, place: Place) {
        let process = &self.processes[place];
        let Some(running) = &process.running else { return };
        let member = &running.member;
        let Some(record) = member.record() else { return };
        if record.epoch() >= self.observed.latest().epoch() {
            return;
        }
        let now = process.clock.local(self.now);
        if self.observed.bug.is_none() && member.lease_end().is_none_or(|end| now >= end) {
            return;
        }
        let admits = |resource: &_| {
            let tag = |term: Epoch| WriteTag { epoch: record.epoch(), term };
            let term = record.term(resource);
            term.is_some_and(|term| member.admit(now, resource, tag(term)).is_ok())
        };
        let kept = self.observed.lost(member.writer(), record).find(admits);
        if let Some(resource) = kept {
            let (writer, record) = (member.writer().clone(), record.clone());
            self.observed.would_admit(&writer, &record, &resource);
        }
    }
}

/// A process measures its stalls before it takes part; here it is quick.
const STALL_CHECK: Duration = Duration::from_millis(20);
