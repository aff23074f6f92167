//! Members: the processes of the pods.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hashroute_coordination::{
    Ballot, Bug, Change, Incarnation, Member, MemberAction, Record, Resource, ToPeer, WriteTag,
};
use hashroute_core::{Pod, PodId};

use super::event::Event;
use super::{Place, Role, World};

pub(super) struct MemberProcess {
    pub(super) pod: Pod,
    /// Whether it runs beside the pod's own process.
    pub(super) is_twin: bool,
    has_run: bool,
    pub(super) running: Option<Member>,
    /// Admitted writes that have not ended, by number.
    pub(super) under_way: BTreeSet<u64>,
    last_incarnation: Option<Incarnation>,
    /// The last record that it went by: kept on its disk as a hint of where the voters are.
    known: Record,
    /// Releases, each of which waits for the writes below a number.
    quiescing: Vec<(u64, Record)>,
    /// The record that each try asked a release for, to know what an answer is about.
    pub(super) asked_in: BTreeMap<Ballot, Record>,
}

impl MemberProcess {
    pub(super) fn new(pod: Pod, known: Record) -> Self {
        Self {
            pod,
            is_twin: false,
            has_run: false,
            running: None,
            under_way: BTreeSet::new(),
            last_incarnation: None,
            known,
            quiescing: Vec::new(),
            asked_in: BTreeMap::new(),
        }
    }

    /// Another process of the same pod, that knows where the cluster began.
    pub(super) fn twin(&self, known: &Record) -> Self {
        let twin = Self::new(self.pod.clone(), known.clone());
        Self { is_twin: true, last_incarnation: self.last_incarnation, ..twin }
    }
}

impl World {
    pub(super) fn start_member(&mut self, place: Place) {
        let fresh = Incarnation(self.dice.word());
        let (planted, process) = (self.planted, &mut self.processes[place]);
        let now = process.clock.local(self.now);
        let Role::Member(member) = &mut process.role else { return };
        if member.running.is_some() || (member.is_twin && member.has_run) {
            return;
        }
        member.has_run = true;
        let reused = member.last_incarnation.filter(|_| planted.has(Bug::IncarnationReused));
        let incarnation = reused.unwrap_or(fresh);
        member.last_incarnation = Some(incarnation);
        let (pod, known) = (member.pod.clone(), member.known.clone());
        member.running = Some(Member::new(pod, incarnation, known, now, planted));
        process.boot += 1;
        process.alarm = None;
    }

    /// Effects that have not left the process never will; those that have may still arrive.
    pub(super) fn crash_member(&mut self, place: Place) {
        let Role::Member(member) = &mut self.processes[place].role else { return };
        member.running = None;
        member.under_way.clear();
        member.quiescing.clear();
        member.asked_in.clear();
    }

    pub(super) fn with_member(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Member, Duration) -> Vec<MemberAction>,
    ) {
        let clock = self.processes[place].clock;
        let Role::Member(process) = &mut self.processes[place].role else { return };
        let Some(member) = &mut process.running else { return };
        let (before, took_part) = (member.lease().end(), member.takes_part());
        let actions = act(member, clock.local(self.now));
        let is_over = took_part && !member.takes_part();
        if let Some(end) = member.lease().end().filter(|end| Some(*end) != before) {
            // The first instant at which it is over: it is valid at every one before.
            let end = clock.when(end);
            self.observed.lease_grew(member.writer(), member.record(), end);
        }
        if !actions.is_empty() {
            self.carry_out_member(place, actions);
        }
        if is_over {
            // It renounced, its pod was removed, or is another process's: its supervisor ends it
            // after a moment, and starts the next one.
            let lives = self.dice.between(Duration::ZERO, Duration::from_millis(300));
            self.push(lives, Event::Crash { place });
        }
        self.schedule_wake(place);
    }

    fn carry_out_member(&mut self, place: Place, actions: Vec<MemberAction>) {
        let Role::Member(process) = &self.processes[place].role else { return };
        let Some(running) = &process.running else { return };
        let writer = running.writer().clone();
        for action in actions {
            match action {
                MemberAction::ToVoter(to, message) => {
                    self.member_says_to_voter(place, &writer.pod, to, message);
                }
                MemberAction::ToPeer(to, message) => {
                    self.observe_release(place, &message);
                    self.member_says_to_peer(place, &writer.pod, &to, message);
                }
                MemberAction::Installed(record) => {
                    self.observed.installed(&writer, &record);
                    if let Role::Member(process) = &mut self.processes[place].role {
                        process.known = record;
                        process.asked_in.clear();
                    }
                }
                MemberAction::Quiesce(record) => {
                    if let Role::Member(process) = &mut self.processes[place].role {
                        process.quiescing.push((self.queue.pushed(), record));
                    }
                    self.quiesce(place);
                }
                MemberAction::Made { change, epoch } => {
                    self.observed.made(&writer, &change, epoch);
                }
                MemberAction::Dropped { .. } => {}
            }
        }
    }

    pub(super) fn member_hears(&mut self, place: Place, from: &PodId, message: ToPeer) {
        if let (ToPeer::AskRelease { ballot, record }, Role::Member(process)) =
            (&message, &mut self.processes[place].role)
        {
            process.asked_in.insert(*ballot, record.clone());
        }
        let dice = self.dice.word();
        self.with_member(place, |member, now| member.handle_peer(now, from, message, dice));
    }

    /// A release is about a record that this process was asked for.
    fn observe_release(&mut self, place: Place, message: &ToPeer) {
        let ToPeer::Released { ballot, writer, .. } = message else { return };
        let Role::Member(process) = &self.processes[place].role else { return };
        let Some(record) = process.asked_in.get(ballot) else { return };
        self.observed.released(writer, record);
    }

    /// Says every release whose writes have ended.
    pub(super) fn quiesce(&mut self, place: Place) {
        let Role::Member(process) = &mut self.processes[place].role else { return };
        if process.quiescing.is_empty() {
            return;
        }
        let oldest = process.under_way.first().copied().unwrap_or(u64::MAX);
        let ended = process.quiescing.extract_if(.., |(below, _)| oldest >= *below);
        let ended: Vec<_> = ended.collect();
        let writer = process.running.as_ref().map(|member| member.writer().clone());
        for (_, record) in ended {
            if let Some(writer) = &writer {
                self.observed.quiesced(writer, &record);
            }
            let dice = self.dice.word();
            self.with_member(place, |member, now| member.quiesced(now, &record, dice));
        }
    }

    /// Asks the member at this place for a change.
    pub(crate) fn wish(&mut self, place: Place, change: &Change) {
        let Role::Member(process) = &mut self.processes[place].role else { return };
        let Some(member) = &mut process.running else { return };
        let writer = member.writer().clone();
        if member.wish(change.clone()).is_ok() {
            self.observed.asked(&writer, change);
            self.schedule_wake(place);
        }
    }

    /// Asks a member that does not know the latest record whether it would admit what it lost.
    pub(super) fn probe(&mut self, place: Place) {
        let Role::Member(process) = &self.processes[place].role else { return };
        let Some(member) = &process.running else { return };
        let record = member.record();
        if record.epoch() >= self.observed.latest().epoch() {
            return;
        }
        let now = self.processes[place].clock.local(self.now);
        let sound = self.observed.bug.is_none();
        if sound && !member.lease().is_valid(now) {
            return;
        }
        let admits = |resource: &Resource| {
            let term = record.term(resource);
            term.is_some_and(|term| {
                let tag = WriteTag { epoch: record.epoch(), term };
                member.admit(now, resource, tag).is_ok()
            })
        };
        let kept = self.observed.lost(member.writer(), record).find(admits);
        if let Some(resource) = kept {
            let (writer, record) = (member.writer().clone(), record.clone());
            self.observed.would_admit(&writer, &record, &resource);
        }
    }
}
