//! How a process follows what etcd holds, as the client that ships does: it reads everything, then
//! watches; when the watch breaks, was compacted away, or has fallen behind, it begins again.

use std::time::Duration;

use hashroute_coordination::{Entry, RegisterEvent, Revision};

use super::event::{Event, WatchName};
use super::link::PATIENCE;
use super::{Place, World};

/// The present watch of a process, and what it is told.
#[derive(Default)]
pub(super) struct Watch {
    number: u32,
    /// Whether etcd goes on telling it.
    flows: bool,
    /// What etcd has said last, and when that arrives.
    sent: Revision,
    arrives_at: Duration,
    /// What the process has heard last, and when.
    told: Revision,
    heard_at: Duration,
    /// Whether the last check found that it had missed something.
    is_behind: bool,
}

impl World {
    /// Whether the process still goes by this watch.
    fn watch_mut(&mut self, name: WatchName) -> Option<&mut Watch> {
        let process = &mut self.processes[name.place];
        let running = process.running.as_mut().filter(|_| process.boot == name.boot)?;
        Some(&mut running.watch).filter(|watch| watch.number == name.number)
    }

    fn watch_name(&self, place: Place) -> Option<WatchName> {
        let process = &self.processes[place];
        let number = process.running.as_ref()?.watch.number;
        Some(WatchName { place, boot: process.boot, number })
    }

    /// Begins again: reads everything.
    pub(super) fn look(&mut self, place: Place) {
        let process = &mut self.processes[place];
        let Some(running) = &mut process.running else { return };
        running.watch = Watch { number: running.watch.number + 1, ..Watch::default() };
        if let Some(watch) = self.watch_name(place) {
            self.says(watch, Event::LookArrives(watch));
        }
    }

    /// What a process says on behalf of its watch is at etcd after a moment, or fails.
    fn says(&mut self, watch: WatchName, event: Event) {
        if self.processes[watch.place].is_mute || self.is_lost() {
            return self.push(PATIENCE, Event::WatchFails(watch));
        }
        let delay = self.delay();
        self.push(delay, event);
    }

    /// What etcd says to a watch is at the process after a moment, or is missed.
    fn is_told(&mut self, watch: WatchName, event: Event) {
        if self.processes[watch.place].is_deaf || self.is_lost() {
            return self.push(PATIENCE, Event::WatchFails(watch));
        }
        let delay = self.delay();
        self.push(delay, event);
    }

    /// Whether etcd does nothing now: then the question waits, or is refused.
    fn waits(&mut self, watch: WatchName, event: Event) -> bool {
        let Some(wait) = self.stopped_for() else { return false };
        if self.dice.per_mille(300) {
            self.is_told(watch, Event::WatchFails(watch));
        } else {
            self.push(wait, event);
        }
        true
    }

    pub(super) fn looks(&mut self, watch: WatchName) {
        if self.watch_mut(watch).is_some() {
            self.look(watch.place);
        }
    }

    pub(super) fn look_arrives(&mut self, watch: WatchName) {
        if self.waits(watch, Event::LookArrives(watch)) {
            return;
        }
        let (revision, entries) = (self.etcd.revision(), self.etcd.read_all());
        self.is_told(watch, Event::Looked { watch, revision, entries });
    }

    pub(super) fn looked(&mut self, name: WatchName, revision: Revision, entries: Vec<Entry>) {
        let now = self.now;
        let Some(watch) = self.watch_mut(name) else { return };
        (watch.told, watch.heard_at) = (revision, now);
        let read = RegisterEvent::Read { revision, entries };
        self.with_member(name.place, |member, now| member.handle(now, read));
        self.says(name, Event::WatchBegins { watch: name, after: revision });
        self.push(PATIENCE, Event::Silence(name));
    }

    pub(super) fn watch_begins(&mut self, name: WatchName, after: Revision) {
        if self.watch_mut(name).is_none() {
            return;
        }
        if !self.etcd.remembers(after) {
            return self.is_told(name, Event::WatchFails(name));
        }
        let flows = !self.processes[name.place].has_stuck_watches;
        if let Some(watch) = self.watch_mut(name) {
            (watch.flows, watch.sent) = (flows, after);
        }
        self.flow(name.place);
    }

    /// etcd tells a watch what it was not told yet, in the order of commits.
    pub(super) fn flow(&mut self, place: Place) {
        let Some(name) = self.watch_name(place) else { return };
        let (latest, is_deaf) = (self.etcd.revision(), self.processes[place].is_deaf);
        let Some(watch) = self.watch_mut(name).filter(|watch| watch.flows) else { return };
        if is_deaf {
            // It goes on when the link is whole again; or its process gives it up before.
            watch.flows = false;
            return;
        }
        let sent = watch.sent;
        for revision in (sent.0 + 1..=latest.0).map(Revision) {
            let lag = self.dice.between(Duration::ZERO, self.plan.lag_most);
            let at = self.now + self.delay() + lag;
            let Some(watch) = self.watch_mut(name) else { return };
            watch.arrives_at = watch.arrives_at.max(at);
            watch.sent = revision;
            let delay = watch.arrives_at - self.now;
            self.push(delay, Event::Tells { watch: name, revision });
        }
    }

    /// A watch that was stuck goes on, if etcd still knows what it has missed.
    pub(super) fn watch_flows(&mut self, name: WatchName) {
        if self.processes[name.place].has_stuck_watches {
            return;
        }
        let Some(watch) = self.watch_mut(name).filter(|watch| !watch.flows) else { return };
        let sent = watch.sent;
        if sent == Revision(0) {
            // It has not begun.
            return;
        }
        if !self.etcd.remembers(sent) {
            return self.is_told(name, Event::WatchFails(name));
        }
        if let Some(watch) = self.watch_mut(name) {
            watch.flows = true;
        }
        self.flow(name.place);
    }

    pub(super) fn tells(&mut self, name: WatchName, revision: Revision) {
        let now = self.now;
        let Some(watch) = self.watch_mut(name) else { return };
        (watch.told, watch.heard_at, watch.is_behind) = (revision, now, false);
        let entries = self.etcd.commit(revision).to_vec();
        let changed = RegisterEvent::Changed { entries };
        self.with_member(name.place, |member, now| member.handle(now, changed));
    }

    pub(super) fn silence(&mut self, name: WatchName) {
        let now = self.now;
        let Some(watch) = self.watch_mut(name) else { return };
        let (told, over) = (watch.told, watch.heard_at + PATIENCE);
        if over > now {
            return self.push(over - now, Event::Silence(name));
        }
        self.says(name, Event::CheckArrives { watch: name, told });
    }

    pub(super) fn check_arrives(&mut self, watch: WatchName, told: Revision) {
        if self.waits(watch, Event::CheckArrives { watch, told }) {
            return;
        }
        let has_missed = self.etcd.has_newer(told);
        self.is_told(watch, Event::Checked { watch, has_missed });
    }

    pub(super) fn checked(&mut self, name: WatchName, has_missed: bool) {
        let Some(watch) = self.watch_mut(name) else { return };
        // What is new may be under way; not when nothing has come since the last time.
        if std::mem::replace(&mut watch.is_behind, has_missed) && has_missed {
            return self.watch_fails(name);
        }
        self.push(PATIENCE, Event::Silence(name));
    }

    /// The process gives its watch up, and begins again after a moment.
    pub(super) fn watch_fails(&mut self, name: WatchName) {
        let Some(watch) = self.watch_mut(name) else { return };
        watch.flows = false;
        watch.number += 1;
        let next = WatchName { number: watch.number, ..name };
        self.push(WATCH_PAUSE, Event::Looks(next));
    }

    /// The watch of a member that runs, if it does.
    pub(super) fn stick_watch(&mut self, place: Place) -> Option<WatchName> {
        let name = self.watch_name(place)?;
        self.watch_mut(name)?.flows = false;
        Some(name)
    }

    /// What may become of a stuck watch when its link is whole again: it goes on, or it is dead
    /// without a word, and the process finds out by itself.
    pub(super) fn mend_watch(&mut self, place: Place) {
        if let Some(name) = self.watch_name(place)
            && self.dice.per_mille(500)
        {
            self.watch_flows(name);
        }
    }

    pub(super) fn break_watch(&mut self, place: Place) {
        if let Some(name) = self.watch_name(place) {
            self.is_told(name, Event::WatchFails(name));
        }
    }
}

/// Before a watch begins again.
const WATCH_PAUSE: Duration = Duration::from_millis(50);
