//! One pod's process in a cluster whose record lies in a store.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashroute_core::{Epoch, Pod};

use super::following::Stopping;
use super::leases::Votes;
use super::seat::Seat;
use super::seen::Seen;
use super::{
    ANSWER_LEASES, Entry, INTENT_ANSWER_LEAST, INTENT_PARTS, Key, RegisterAction, RegisterEvent,
    Request, Revision, Transaction, Value,
};
use crate::change::Change;
use crate::error::ChangeError;
use crate::guard::{Guard, WriteRefusal, WriteTag};
use crate::holder::LeaseHolder;
use crate::lease::LeaseParameters;
use crate::message::ToVoter;
use crate::planted::{Bug, Planted};
use crate::record::{Incarnation, Record, Resource, Writer};
use crate::reports::Reports;

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
    pub(super) confirmed_at: Revision,
    /// What the last commit would make the record, and whether for the first of the wishes, until
    /// it is known what came of it, and of whose commit.
    pub(super) committing: Option<(Record, bool)>,
    pub(super) guard: Guard,
    /// The intent that this process stops for, or has stopped for.
    pub(super) stopping: Option<Stopping>,
    /// Waits for the end of writes that were asked for and have not ended, under the present record.
    /// The same record may be among them twice: as an intent that was withdrawn, and again as one.
    pub(super) quiescing: Vec<Record>,
    /// The instant from which on nothing may be written.
    pub(super) lease_end: Option<Duration>,
    /// The lease, where voters grant it.
    pub(super) holder: LeaseHolder,
    pub(super) reports: Reports,
    pub(super) votes: Votes,
    /// The last intent that a voter said to wait for this member for, and since when the store has
    /// said nothing here of that one or one before it.
    pub(super) missed: Option<(Revision, Duration)>,
    /// The voter of this process, if it votes.
    pub(super) seat: Option<Seat>,
    /// When the store is called next: for a lease, or to hear whether it answers.
    pub(super) next_renewal: Duration,
    /// When the store last answered.
    pub(super) answered_at: Option<Duration>,
    last_request: u64,
    pub(super) waiting: BTreeMap<Request, Waiting>,
    pub(super) wishes: VecDeque<Change>,
    pub(super) tries: u32,
    /// Nothing is proposed before this.
    pub(super) next_proposal: Duration,
    /// When it is looked again at what there is to propose, if nothing happens before.
    pub(super) next_look: Duration,
    pub(super) suspect: Option<Writer>,
    pub(super) takes_part: bool,
    /// Whether a record that counted here named this process.
    pub(super) was_writer: bool,
    /// Whether it has renounced, or its pod was removed or has another process: it takes part no
    /// more.
    pub(super) has_ended: bool,
    pub(super) planted: Planted,
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

impl RegisterMember {
    /// A process that has just started and knows nothing of the store.
    #[must_use]
    pub fn new(pod: Pod, incarnation: Incarnation, now: Duration) -> Self {
        Self::with_planted(pod, incarnation, now, Planted::default())
    }

    /// The same with a rule left out.
    #[must_use]
    pub fn with_planted(
        pod: Pod,
        incarnation: Incarnation,
        now: Duration,
        planted: Planted,
    ) -> Self {
        Self {
            me: Writer { pod: pod.id.clone(), incarnation },
            pod,
            seen: Seen::default(),
            record: None,
            record_at: Revision(0),
            confirmed_at: Revision(0),
            committing: None,
            guard: Guard::new(planted),
            stopping: None,
            quiescing: Vec::new(),
            lease_end: None,
            holder: LeaseHolder::new(now, planted),
            reports: Reports::default(),
            votes: Votes::default(),
            missed: None,
            seat: None,
            next_renewal: now,
            answered_at: None,
            last_request: 0,
            waiting: BTreeMap::new(),
            wishes: VecDeque::new(),
            tries: 0,
            next_proposal: now,
            next_look: now,
            suspect: None,
            takes_part: true,
            was_writer: false,
            has_ended: false,
            planted,
        }
    }

    /// A process that follows the record, and takes part only when [`RegisterMember::begin`] says
    /// so. A router never does.
    #[must_use]
    pub fn following(pod: Pod, incarnation: Incarnation, now: Duration) -> Self {
        Self::new(pod, incarnation, now).only_following()
    }

    /// The same of a process that has just started.
    #[must_use]
    pub fn only_following(self) -> Self {
        Self { takes_part: false, ..self }
    }

    /// Takes part from now on, unless it has renounced.
    pub fn begin(&mut self, now: Duration) -> Vec<RegisterAction> {
        if self.has_ended {
            return Vec::new();
        }
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

    /// Whether this process has renounced, or its pod was removed or has another process: it takes
    /// part no more, and nothing brings it back.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
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
        self.next_look = Duration::ZERO;
        Ok(())
    }

    /// Stops writing at once and for good. To be said only when nothing that was admitted is under
    /// way any more.
    pub fn renounce(&mut self, now: Duration) -> Vec<RegisterAction> {
        self.give_up_lease();
        let then = vec![(Key::Beat(self.me.clone()), Some(Value::Renounced))];
        let mut actions = vec![self.transact(now, Purpose::Renounce, Vec::new(), then, Vec::new())];
        actions.extend(self.to_voters(&ToVoter::Renounce { writer: self.me.clone() }));
        actions
    }

    /// Nothing is written any more, for good.
    pub(super) fn give_up_lease(&mut self) {
        self.holder.renounce();
        (self.takes_part, self.has_ended, self.lease_end) = (false, true, None);
    }

    /// When [`RegisterMember::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        if self.has_ended && !self.wishes.is_empty() && !self.is_proposing() {
            return Duration::ZERO;
        }
        let Some(record) = &self.record else { return Duration::MAX };
        let seat =
            self.seat.as_ref().map_or(Duration::MAX, |it| it.deadline().min(self.next_renewal));
        if !self.takes_part {
            return seat;
        }
        let call = if record.has_lease_voters() { self.holder.deadline() } else { Duration::MAX };
        self.next_renewal.min(self.next_look).min(call).min(seat)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Duration) -> Vec<RegisterAction> {
        let mut actions = self.tick_seat(now);
        actions.extend(self.call_store(now));
        if self.has_ended {
            actions.extend(self.drop_wishes());
        } else if self.takes_part && self.record.is_some() {
            actions.extend(self.call_voters(now));
            actions.extend(self.propose_if_due(now));
        }
        actions
    }

    /// Calls the store, if it is time: for a lease, or only to hear whether it answers, and what
    /// its record is.
    fn call_store(&mut self, now: Duration) -> Option<RegisterAction> {
        let calls = self.takes_part || self.seat.is_some();
        let parameters = self.parameters().filter(|_| calls)?;
        self.waiting.retain(|_, waiting| {
            let patience = match waiting.purpose {
                // What a store has lost with its leader is not answered: nobody waits for that.
                Purpose::Intent => (parameters.ttl / INTENT_PARTS).max(INTENT_ANSWER_LEAST),
                Purpose::Renewal
                | Purpose::Probe
                | Purpose::Release
                | Purpose::Commit
                | Purpose::Renounce => parameters.ttl * ANSWER_LEASES,
            };
            now < waiting.sent + patience
        });
        if now < self.next_renewal {
            return None;
        }
        self.next_renewal = now + parameters.renewal_interval;
        Some(self.renewal(now))
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
                let waiting = self.waiting.remove(&request);
                if let Some(Waiting { purpose: Purpose::Renewal, sent, .. }) = waiting
                    && self.planted.has(Bug::UnansweredCounted)
                {
                    self.extend(now, sent);
                }
                Vec::new()
            }
        };
        actions.extend(self.follow(now));
        if self.takes_part {
            actions.extend(self.propose_if_due(now));
        } else if self.has_ended {
            actions.extend(self.drop_wishes());
        }
        actions
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

    /// A renewal; or, of one that the store has not answered for two intervals, a probe: else one
    /// that is heard but hears nothing would keep what it may not write, and each renewal in vain
    /// puts off the time at which another may take its place.
    fn renewal(&mut self, now: Duration) -> RegisterAction {
        let condition = vec![(Key::Record, self.record_at)];
        let patience = self.parameters().map_or(Duration::ZERO, LeaseParameters::renewal_patience);
        let is_answered = self.answered_at.is_some_and(|at| now < at + patience)
            || self.planted.has(Bug::NoProbe);
        if self.renews_by_beats() && is_answered {
            let then = vec![(Key::Beat(self.me.clone()), Some(Value::Alive))];
            let is_condition = !self.planted.has(Bug::RenewalUnchecked);
            let condition = condition.into_iter().filter(|_| is_condition).collect();
            return self.transact(now, Purpose::Renewal, condition, then, vec![Key::Record]);
        }
        let is_of_voters = self.record.as_ref().is_some_and(Record::has_lease_voters);
        // A lease by voters asks the store for nothing: so the call brings what the watch may owe.
        let intent = is_of_voters.then(|| self.seen.unchanged(Key::Intent));
        let condition = condition.into_iter().chain(intent).collect();
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
            Purpose::Renewal => self.extend(now, sent),
            Purpose::Probe if self.planted.has(Bug::ProbeExtends) => self.extend(now, sent),
            Purpose::Commit => {
                let mut actions = self.follow(now);
                // Known already, but not by whom.
                actions.extend(self.made());
                if self.renews_by_beats() {
                    self.extend(now, sent);
                }
                return actions;
            }
            Purpose::Release => {
                if let Some(stopping) = &mut self.stopping {
                    stopping.is_said = true;
                }
            }
            Purpose::Probe if self.renews_by_beats() => self.next_renewal = now,
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

    /// Whether its beats in the store are what keeps its lease.
    fn renews_by_beats(&self) -> bool {
        let is_leased_by_voters = self.record.as_ref().is_some_and(Record::has_lease_voters);
        self.is_named() && !is_leased_by_voters && !self.has_ended
    }

    fn extend(&mut self, now: Duration, sent: Duration) {
        let may = self.takes_part || self.planted.has(Bug::AckRevivesRenounced);
        let Some(parameters) = self.parameters().filter(|_| may) else { return };
        let sent = if self.planted.has(Bug::LeaseFromAck) { now } else { sent };
        self.lease_end = self.lease_end.max(Some(sent + parameters.holder_window()));
    }
}

/// Changes that wait to be made; an operator who asks for more has to wait too.
const WISHES_MOST: usize = 64;
