//! One pod's process in a cluster whose record lies in a store.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashroute_core::{Epoch, Pod};

use super::seen::Seen;
use super::{
    ANSWER_LEASES, Entry, Key, RegisterAction, RegisterEvent, Request, Revision, Transaction, Value,
};
use crate::change::Change;
use crate::error::ChangeError;
use crate::guard::{Guard, Release, WriteRefusal, WriteTag};
use crate::lease::LeaseParameters;
use crate::message::Ballot;
use crate::planted::Planted;
use crate::record::{Incarnation, Record, Resource, Writer};

/// One pod's process in a cluster whose record lies in a store. The store is told apart from its
/// watch by nothing: both only ever tell what was so at some revision.
#[derive(Clone, Debug)]
pub struct RegisterMember {
    pub(super) pod: Pod,
    pub(super) me: Writer,
    pub(super) seen: Seen,
    /// The record that counts here; none before the first look at the store that finds one.
    pub(super) record: Option<Record>,
    /// The commit that made it.
    pub(super) record_at: Revision,
    /// The last commit after which it was certainly still the store's.
    confirmed_at: Revision,
    /// What the last commit would make the record, and whether for the first of the wishes, until
    /// it is known what came of it.
    pub(super) committing: Option<(Record, bool)>,
    guard: Guard,
    /// The intent that this process stops for, or has stopped for.
    stopping: Option<Stopping>,
    /// The instant from which on nothing may be written.
    lease_end: Option<Duration>,
    next_renewal: Duration,
    /// When the store last answered.
    pub(super) answered_at: Option<Duration>,
    last_request: u64,
    pub(super) waiting: BTreeMap<Request, Waiting>,
    pub(super) wishes: VecDeque<Change>,
    pub(super) tries: u32,
    /// Nothing is proposed before this.
    pub(super) next_proposal: Duration,
    pub(super) suspect: Option<Writer>,
    takes_part: bool,
}

/// A transaction under way.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) purpose: Purpose,
    pub(super) sent: Duration,
    /// The commit that made the record which its sender went by.
    record_at: Revision,
    wrote: Vec<(Key, Option<Value>)>,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To extend the lease.
    Renewal,
    /// To find out whether the store answers, without touching anything.
    Probe,
    /// To say that this process has stopped.
    Release,
    /// To write the intent down, or to withdraw one.
    Intent,
    /// To make the next record: the first of the wishes, or something else.
    Commit,
    /// To say that this process has stopped for good.
    Renounce,
}

#[derive(Clone, Debug)]
struct Stopping {
    intent: Revision,
    record: Record,
    has_quiesced: bool,
    is_said: bool,
}

impl RegisterMember {
    /// A process that has just started and knows nothing of the store.
    #[must_use]
    pub fn new(pod: Pod, incarnation: Incarnation, now: Duration) -> Self {
        Self {
            me: Writer { pod: pod.id.clone(), incarnation },
            pod,
            seen: Seen::default(),
            record: None,
            record_at: Revision(0),
            confirmed_at: Revision(0),
            committing: None,
            guard: Guard::new(Planted::default()),
            stopping: None,
            lease_end: None,
            next_renewal: now,
            answered_at: None,
            last_request: 0,
            waiting: BTreeMap::new(),
            wishes: VecDeque::new(),
            tries: 0,
            next_proposal: now,
            suspect: None,
            takes_part: true,
        }
    }

    /// A process that follows the record, and takes part only when [`RegisterMember::begin`] says
    /// so. A router never does.
    #[must_use]
    pub fn following(pod: Pod, incarnation: Incarnation, now: Duration) -> Self {
        Self { takes_part: false, ..Self::new(pod, incarnation, now) }
    }

    /// Takes part from now on. Not for a process that has renounced.
    pub fn begin(&mut self, now: Duration) -> Vec<RegisterAction> {
        self.takes_part = true;
        self.next_renewal = now;
        self.tick(now)
    }

    /// Who this process is.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.me
    }

    /// The record that counts here.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// The instant from which on nothing may be written: none without a lease. Compare it with the
    /// clock at every admission; do not keep the answer.
    #[must_use]
    pub fn lease_end(&self) -> Option<Duration> {
        self.lease_end
    }

    /// When the store last answered.
    #[must_use]
    pub fn answered_at(&self) -> Option<Duration> {
        self.answered_at
    }

    /// Decides on one write: see [`Guard::admit`].
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`]: nothing may be written.
    pub fn admit(
        &self,
        now: Duration,
        resource: &Resource,
        tag: WriteTag,
    ) -> Result<Epoch, WriteRefusal> {
        let Some(record) = &self.record else { return Err(WriteRefusal::NoLease) };
        self.guard.admit_until(now, &self.me, record, self.lease_end, resource, tag)
    }

    /// Asks for a change of the record: as [`crate::Member::wish`].
    ///
    /// # Errors
    ///
    /// [`ChangeError::Busy`] if too many wait already.
    pub fn wish(&mut self, change: Change) -> Result<(), ChangeError> {
        let waiting = self.wishes.len();
        if waiting >= WISHES_MOST {
            return Err(ChangeError::Busy { waiting });
        }
        self.wishes.push_back(change);
        Ok(())
    }

    /// Stops writing at once and for good. To be said only when nothing that was admitted is under
    /// way any more.
    pub fn renounce(&mut self, now: Duration) -> Vec<RegisterAction> {
        self.takes_part = false;
        self.lease_end = None;
        let then = vec![(Key::Beat(self.me.clone()), Some(Value::Renounced))];
        vec![self.transact(now, Purpose::Renounce, Vec::new(), then, Vec::new())]
    }

    /// When [`RegisterMember::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        if !self.takes_part || self.record.is_none() {
            return Duration::MAX;
        }
        self.next_renewal.min(self.proposal_deadline()).min(self.next_silence())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(parameters) = self.parameters().filter(|_| self.takes_part) else {
            return Vec::new();
        };
        let patience = parameters.ttl * ANSWER_LEASES;
        self.waiting.retain(|_, waiting| now < waiting.sent + patience);
        let mut actions = Vec::new();
        if now >= self.next_renewal {
            self.next_renewal = now + parameters.renewal_interval;
            actions.push(self.renewal(now));
        }
        actions.extend(self.propose_if_due(now));
        actions
    }

    /// Handles what the store says.
    pub fn handle(&mut self, now: Duration, event: RegisterEvent) -> Vec<RegisterAction> {
        let mut actions = match event {
            RegisterEvent::Read { revision, entries } => {
                self.answered_at = Some(now);
                self.seen.take_all(now, revision, entries);
                if self.seen.record().is_some_and(|(_, at)| at == self.record_at) {
                    self.confirmed_at = self.confirmed_at.max(revision);
                }
                Vec::new()
            }
            // What a watch tells may be old: it is no sign that the store answers.
            RegisterEvent::Changed { entries } => {
                for entry in entries {
                    self.seen.take(now, entry);
                }
                Vec::new()
            }
            RegisterEvent::Committed { request, revision } => {
                self.committed(now, request, revision)
            }
            RegisterEvent::Conflicted { request, entries } => {
                self.conflicted(now, request, entries)
            }
            RegisterEvent::Unanswered { request } => {
                self.waiting.remove(&request);
                Vec::new()
            }
        };
        actions.extend(self.follow(now));
        if self.takes_part {
            actions.extend(self.propose_if_due(now));
        }
        actions
    }

    /// Every write admitted before the release has ended: the release may be said.
    pub fn quiesced(&mut self, now: Duration, record: &Record) -> Vec<RegisterAction> {
        self.guard.quiesced(record);
        match &mut self.stopping {
            Some(stopping) if stopping.record == *record => stopping.has_quiesced = true,
            Some(_) | None => return Vec::new(),
        }
        self.say_released(now).into_iter().collect()
    }

    pub(super) fn parameters(&self) -> Option<LeaseParameters> {
        self.record.as_ref().map(Record::parameters)
    }

    pub(super) fn transact(
        &mut self,
        now: Duration,
        purpose: Purpose,
        when: Vec<(Key, Revision)>,
        then: Vec<(Key, Option<Value>)>,
        otherwise: Vec<Key>,
    ) -> RegisterAction {
        self.last_request += 1;
        let request = Request(self.last_request);
        let (sent, record_at, wrote) = (now, self.record_at, then.clone());
        self.waiting.insert(request, Waiting { purpose, sent, record_at, wrote });
        RegisterAction::Transact(request, Transaction { when, then, otherwise })
    }

    pub(super) fn has_lease(&self, now: Duration) -> bool {
        self.lease_end.is_some_and(|end| now < end)
    }

    /// A renewal; or, of one whose renewals bring no lease, a probe: else one that is heard but
    /// hears nothing would keep what it may not write.
    fn renewal(&mut self, now: Duration) -> RegisterAction {
        let condition = vec![(Key::Record, self.record_at)];
        let window = self.parameters().map_or(Duration::ZERO, LeaseParameters::holder_window);
        let is_answered = self.answered_at.is_some_and(|at| now < at + window);
        if self.is_named() && (self.has_lease(now) || is_answered) {
            let then = vec![(Key::Beat(self.me.clone()), Some(Value::Alive))];
            return self.transact(now, Purpose::Renewal, condition, then, vec![Key::Record]);
        }
        self.transact(now, Purpose::Probe, condition, Vec::new(), vec![Key::Record, Key::Intent])
    }

    fn committed(
        &mut self,
        now: Duration,
        request: Request,
        revision: Revision,
    ) -> Vec<RegisterAction> {
        self.answered_at = Some(now);
        let Some(Waiting { purpose, sent, record_at, wrote }) = self.waiting.remove(&request)
        else {
            return Vec::new();
        };
        for (key, value) in wrote {
            self.seen.take(now, Entry { key, revision, value });
        }
        let was_condition = matches!(purpose, Purpose::Renewal | Purpose::Probe);
        if was_condition && record_at == self.record_at {
            self.confirmed_at = self.confirmed_at.max(revision);
        }
        match purpose {
            Purpose::Renewal => self.extend(sent),
            Purpose::Commit => {
                let actions = self.follow(now);
                if self.is_named() {
                    self.extend(sent);
                }
                return actions;
            }
            Purpose::Release => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.is_said = true;
                }
            }
            Purpose::Probe if self.is_named() => self.next_renewal = now,
            Purpose::Probe | Purpose::Intent | Purpose::Renounce => {}
        }
        Vec::new()
    }

    fn conflicted(
        &mut self,
        now: Duration,
        request: Request,
        entries: Vec<Entry>,
    ) -> Vec<RegisterAction> {
        self.answered_at = Some(now);
        let Some(Waiting { purpose, .. }) = self.waiting.remove(&request) else {
            return Vec::new();
        };
        for entry in entries {
            self.seen.take(now, entry);
        }
        match purpose {
            Purpose::Commit => {
                let is_wish = self.committing.take().is_some_and(|(_, is_wish)| is_wish);
                self.failed(now, is_wish);
            }
            Purpose::Intent => self.postpone(now),
            Purpose::Renewal | Purpose::Probe | Purpose::Release | Purpose::Renounce => {}
        }
        Vec::new()
    }

    pub(super) fn is_named(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.names(&self.me))
    }

    pub(super) fn extend(&mut self, sent: Duration) {
        let Some(parameters) = self.parameters().filter(|_| self.takes_part) else { return };
        self.lease_end = self.lease_end.max(Some(sent + parameters.holder_window()));
    }

    /// Goes by what was seen: a newer record, a new intent, one that was withdrawn.
    pub(super) fn follow(&mut self, now: Duration) -> Vec<RegisterAction> {
        let mut actions = Vec::new();
        if let Some((record, revision)) = self.seen.record()
            && self.record.as_ref().is_none_or(|mine| {
                record.epoch() > mine.epoch() && record.cluster() == mine.cluster()
            })
        {
            let record = record.clone();
            self.record_at = revision;
            self.confirmed_at = revision;
            self.seen.tidy(&record);
            self.record = Some(record.clone());
            self.guard.installed();
            self.stopping = None;
            self.suspect = None;
            self.next_proposal = now;
            self.next_renewal = now;
            let epoch = record.epoch();
            let made = self.committing.take().filter(|(next, _)| *next == record);
            actions.push(RegisterAction::Installed(record));
            if made.is_some_and(|(_, is_wish)| is_wish) {
                self.tries = 0;
                let change = self.wishes.pop_front();
                actions.extend(change.map(|change| RegisterAction::Made { change, epoch }));
            }
        }
        actions.extend(self.follow_intent(now));
        actions
    }

    fn follow_intent(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(mine) = self.record.clone() else { return Vec::new() };
        let intent = self.seen.intent().map(|(record, revision, ..)| (record.clone(), revision));
        let next = intent.filter(|(record, _)| record.check_follows(&mine).is_ok());
        if let Some(stopping) = &self.stopping {
            let stands = next.as_ref().is_some_and(|(_, revision)| *revision == stopping.intent);
            if stands || !(next.is_some() || self.is_withdrawn()) {
                return Vec::new();
            }
            self.guard.installed();
            self.stopping = None;
        }
        let Some((record, intent)) = next.filter(|(next, _)| mine.losers(next).contains(&self.me))
        else {
            return Vec::new();
        };
        let by = self.me.pod.clone();
        let release = self.guard.release(&record, &by, Ballot { round: intent.0, proposer: 0 });
        let has_quiesced = release == Release::Done;
        let is_said = false;
        self.stopping = Some(Stopping { intent, record: record.clone(), has_quiesced, is_said });
        match release {
            Release::Begun => vec![RegisterAction::Quiesce(record)],
            Release::Done => self.say_released(now).into_iter().collect(),
            Release::UnderWay | Release::Refused => Vec::new(),
        }
    }

    /// Whether the intent is gone and cannot have become the record: the record was still the one
    /// before at the commit that removed it, or later. (Another intent that follows the record says
    /// the same: it was written on that condition.)
    fn is_withdrawn(&self) -> bool {
        self.seen.gone(&Key::Intent).is_some_and(|at| self.confirmed_at >= at)
    }

    /// Says that this process has stopped for the intent, on the condition that it still stands.
    pub(super) fn say_released(&mut self, now: Duration) -> Option<RegisterAction> {
        let stopping = self.stopping.as_ref().filter(|it| it.has_quiesced && !it.is_said)?;
        let intent = stopping.intent;
        if self.waiting.values().any(|waiting| waiting.purpose == Purpose::Release) {
            return None;
        }
        let when = vec![(Key::Intent, intent)];
        let then = vec![(Key::Released(self.me.clone()), Some(Value::Released(intent)))];
        Some(self.transact(now, Purpose::Release, when, then, vec![Key::Intent, Key::Record]))
    }
}

/// Changes that wait to be made; an operator who asks for more has to wait too.
const WISHES_MOST: usize = 64;
