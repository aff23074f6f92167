//! Transactions between the processes and etcd, as the client that ships puts them: each by
//! itself, so that one may overtake another; and whoever hears nothing for long gives up. Those that
//! cannot take effect twice may be put to etcd twice.
//!
//! No answer is told twice: of several copies one answer counts.

use std::time::Duration;

use hashroute_coordination::{Entry, Key, RegisterEvent, Request, Transaction, Value};

use super::event::{Asked, Event};
use super::{Place, World};

impl World {
    pub(super) fn transact(&mut self, place: Place, request: Request, transaction: Transaction) {
        let process = &mut self.processes[place];
        let (boot, clock) = (process.boot, process.clock);
        let Some(running) = &mut process.running else { return };
        let (window, _) = self.plan.lease_times();
        let end = clock.when(clock.local(self.now) + window);
        let mut lets_write = None;
        let writer = running.member.writer().clone();
        for (key, value) in &transaction.then {
            match (key, value) {
                (Key::Beat(_), Some(Value::Alive)) => lets_write = Some(end),
                (Key::Released(_), Some(Value::Released(intent))) => {
                    if let Some(record) = self.intents.get(intent) {
                        self.observed.says_released(&writer, record);
                    }
                }
                (..) => {}
            }
        }
        running.awaited.insert(request);
        let asked = Asked { place, boot, request, transaction, lets_write, is_given_up: false };
        if self.plan.leave_most.is_zero() {
            return self.leaves(Box::new(asked));
        }
        let late = self.dice.between(Duration::ZERO, self.plan.leave_most);
        self.push(late, Event::Leaves(Box::new(asked)));
    }

    pub(super) fn leaves(&mut self, asked: Box<Asked>) {
        let Asked { place, boot, request, .. } = *asked;
        if self.processes[place].boot != boot {
            return;
        }
        if !self.processes[place].is_mute
            && asked.transaction.is_repeatable()
            && !self.healed
            && self.dice.per_mille(self.plan.copies_per_mille)
        {
            // Put to another member of etcd too, because the first is late. The first answer counts.
            let late = self.delay() + self.dice.between(Duration::ZERO, LATE_MOST);
            self.push(late, Event::Arrives(asked.clone()));
        }
        if self.processes[place].is_mute || self.is_lost() {
            return self.give_up(place, boot, request);
        }
        let delay = self.delay();
        self.push(delay, Event::Arrives(asked));
    }

    pub(super) fn arrives(&mut self, mut asked: Box<Asked>) {
        let Asked { place, boot, request, is_given_up, .. } = *asked;
        if let Some(wait) = self.stopped_for() {
            if self.dice.per_mille(300) {
                // Refused: nothing comes of it.
                if !is_given_up {
                    self.answer(place, boot, request, RegisterEvent::Unanswered { request });
                }
                return;
            }
            if !is_given_up && self.dice.per_mille(200) {
                // Not known: the old leader may have handed it on.
                asked.is_given_up = true;
                self.answer(place, boot, request, RegisterEvent::Unanswered { request });
            }
            return self.push(wait, Event::Arrives(asked));
        }
        let before = self.etcd.revision();
        let answer = match self.etcd.transact(&asked.transaction) {
            Ok(revision) => {
                if revision > before {
                    self.committed(&asked);
                }
                RegisterEvent::Committed { request, revision }
            }
            Err(entries) => RegisterEvent::Conflicted { request, entries },
        };
        if !is_given_up {
            self.answer(place, boot, request, answer);
        }
    }

    fn answer(&mut self, place: Place, boot: u32, request: Request, answer: RegisterEvent) {
        if self.processes[place].is_deaf || self.is_lost() {
            return self.give_up(place, boot, request);
        }
        let delay = self.delay();
        self.push(delay, Event::Answered { place, boot, request, answer });
    }

    /// Nothing will be heard; when the client's patience is over it says so.
    fn give_up(&mut self, place: Place, boot: u32, request: Request) {
        let answer = RegisterEvent::Unanswered { request };
        self.push(PATIENCE, Event::Answered { place, boot, request, answer });
    }

    pub(super) fn answered(
        &mut self,
        place: Place,
        boot: u32,
        request: Request,
        answer: RegisterEvent,
    ) {
        let process = &mut self.processes[place];
        let Some(running) = process.running.as_mut().filter(|_| process.boot == boot) else {
            return;
        };
        if running.awaited.remove(&request) {
            self.with_member(place, |member, now| member.handle(now, answer));
        }
    }

    /// A transaction was committed: the observer looks at what it did, and the watches tell it.
    fn committed(&mut self, asked: &Asked) {
        let revision = self.etcd.revision();
        let changed: Vec<Entry> = self.etcd.commit(revision).to_vec();
        self.remark(|| {
            let keys = changed.iter().map(|entry| match &entry.value {
                Some(_) => format!("{:?}", entry.key),
                None => format!("no {:?}", entry.key),
            });
            format!("commit {}: {}", revision.0, keys.collect::<Vec<_>>().join(", "))
        });
        let (_, quiet) = self.plan.lease_times();
        let mut intent_ended = None;
        let mut is_followed = false;
        for Entry { key, revision, value } in &changed {
            match (key, value) {
                (Key::Beat(writer), Some(Value::Alive)) if self.plan.voters == 0 => {
                    let until = asked.lets_write.unwrap_or(self.now);
                    self.observed.beat(writer, until, self.now + quiet);
                }
                (Key::Released(writer), Some(Value::Released(intent))) => {
                    if let Some(record) = self.intents.get(intent) {
                        self.observed.released_in_register(writer, record);
                    }
                }
                (Key::Record, Some(Value::Record(record))) => {
                    is_followed = true;
                    self.observed.committed(self.now, record);
                }
                (Key::Intent, Some(Value::Intent(record, _))) => {
                    self.intents.insert(*revision, record.clone());
                }
                (Key::Intent, None) => intent_ended = self.intents.values().next_back().cloned(),
                (..) => {}
            }
        }
        if let Some(record) = intent_ended.filter(|_| !is_followed) {
            self.observed.withdrawn(&record);
        }
        for place in 0..self.processes.len() {
            self.flow(place);
        }
    }

    /// For how long etcd will not do anything, if it does not now.
    pub(super) fn stopped_for(&mut self) -> Option<Duration> {
        let wait = self.etcd.stopped_until.checked_sub(self.now).filter(|it| !it.is_zero())?;
        Some(wait + self.dice.between(Duration::ZERO, Duration::from_millis(5)))
    }

    /// How long a call or an answer takes.
    pub(super) fn delay(&mut self) -> Duration {
        let delay = self.dice.between(Duration::from_micros(30), self.plan.delay_most);
        if !self.healed && self.dice.per_mille(self.plan.stragglers_per_mille) {
            return delay + self.dice.between(Duration::ZERO, self.plan.straggler_most);
        }
        delay
    }

    pub(super) fn is_lost(&mut self) -> bool {
        !self.healed && self.dice.per_mille(self.plan.loss_per_mille)
    }
}

/// How much later than the first a copy may be carried out.
const LATE_MOST: Duration = Duration::from_millis(400);

/// For so long the client waits for an answer.
pub(super) const PATIENCE: Duration = Duration::from_millis(1_000);
