//! The member: one pod's process in the cluster, with its lease, its guard and its proposals.

mod proposals;

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use hashroute_core::{Epoch, Pod, PodId};

use crate::change::Change;
use crate::error::ChangeError;
use crate::guard::{Guard, Release, WriteRefusal, WriteTag};
use crate::holder::LeaseHolder;
use crate::message::{Ballot, FromVoter, Refusal, ToPeer, ToVoter};
use crate::planted::{Bug, Planted};
use crate::proposer::Proposer;
use crate::record::{Incarnation, Record, Resource, VoterId, Writer};
use crate::reports::Reports;

/// What a member asks its shell to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum MemberAction {
    /// Send a message to a voter.
    ToVoter(VoterId, ToVoter),
    /// Send a message to the member of another pod.
    ToPeer(PodId, ToPeer),
    /// This record counts from now on: tell the pod, routers that follow, and the operator.
    Installed(Record),
    /// Wait until every write admitted so far of what the member loses in this record has ended,
    /// then call [`Member::quiesced`] with it.
    Quiesce(Record),
    /// A change that was asked for is made: the record of this epoch is the one before with it.
    Made {
        /// The change.
        change: Change,
        /// The epoch.
        epoch: Epoch,
    },
    /// A change that was asked for cannot be made.
    Dropped {
        /// The change.
        change: Change,
        /// Why.
        reason: ChangeError,
    },
}

/// One pod's process in the cluster.
#[derive(Clone, Debug)]
pub struct Member {
    pod: Pod,
    me: Writer,
    record: Record,
    lease: LeaseHolder,
    guard: Guard,
    proposer: Proposer,
    reports: Reports,
    /// Whether a voter has voted for a record after this one.
    accepted_elsewhere: bool,
    /// The writer that a majority of voters last reported as lapsed.
    suspect: Option<Writer>,
    /// Changes that were asked for, the next one first.
    wishes: VecDeque<Change>,
    /// Whether one came since the last tick: then the next one is due.
    wished: bool,
    /// Whether the try under way, or the last one, is for the first of them.
    asked: bool,
    /// How many tries for the first of them failed.
    tries: u32,
    /// The record that the last try was for, to try it again as it is.
    draft: Option<(Change, Record)>,
    /// Whether this process proposes and renews: until it renounces, or was removed.
    takes_part: bool,
    /// Whether a record that counted here named this process.
    was_writer: bool,
    /// Nothing is proposed before this.
    next_proposal: Duration,
    ticked_at: Duration,
    failures: u32,
    planted: Planted,
}

impl Hash for Member {
    /// Of everything but the pod, which never changes, and the draft, which follows from the rest.
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.me, &self.record, &self.lease, &self.guard, &self.proposer).hash(state);
        (&self.reports, self.accepted_elsewhere, &self.suspect).hash(state);
        (&self.wishes, self.wished, self.asked, self.tries).hash(state);
        (self.takes_part, self.was_writer, self.next_proposal).hash(state);
        (self.ticked_at, self.failures, self.planted).hash(state);
    }
}

impl Member {
    /// A process that has just started, with the newest record that it knows (the first one of
    /// the cluster will do). It joins as soon as a majority of voters hears it.
    #[must_use]
    pub fn new(
        pod: Pod,
        incarnation: Incarnation,
        record: Record,
        now: Duration,
        planted: Planted,
    ) -> Self {
        Self {
            me: Writer { pod: pod.id.clone(), incarnation },
            pod,
            record,
            lease: LeaseHolder::new(now, planted),
            guard: Guard::new(planted),
            proposer: Proposer::new(planted),
            reports: Reports::default(),
            accepted_elsewhere: false,
            suspect: None,
            wishes: VecDeque::new(),
            wished: false,
            asked: false,
            tries: 0,
            draft: None,
            takes_part: true,
            was_writer: false,
            next_proposal: now,
            ticked_at: now,
            failures: 0,
            planted,
        }
    }

    /// Who this process is.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.me
    }

    /// The record that counts here.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The lease.
    #[must_use]
    pub fn lease(&self) -> &LeaseHolder {
        &self.lease
    }

    /// Whether this process still takes part: it does not once it has renounced, once its pod was
    /// removed from the view, and once another process of its pod has taken its place. Then it is
    /// for its shell to end it: nothing brings it back, and it hears of no more records.
    #[must_use]
    pub fn takes_part(&self) -> bool {
        self.takes_part
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
        let now = if self.planted.has(Bug::ValidityCached) { self.ticked_at } else { now };
        self.guard.admit(now, &self.me, &self.record, &self.lease, resource, tag)
    }

    /// Asks for a change of the record. It is proposed until it is made or cannot be made:
    /// [`MemberAction::Made`] or [`MemberAction::Dropped`] says which. A process that ends before
    /// that leaves it open.
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
        self.wished = true;
        Ok(())
    }

    /// Stops writing at once and for good: for a process that ends, or whose service died. What
    /// comes after it takes part as another incarnation. To be said only when nothing that was
    /// admitted is under way any more.
    pub fn renounce(&mut self) -> Vec<MemberAction> {
        self.takes_part = false;
        self.proposer.abandon();
        self.lease.renounce();
        let writer = self.me.clone();
        self.to_voters(&ToVoter::Renounce { writer })
    }

    /// When [`Member::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        if !self.takes_part {
            return Duration::MAX;
        }
        let proposing = match self.proposer.deadline() {
            Some(deadline) => deadline,
            None if self.wished => self.ticked_at.max(self.next_proposal),
            // What there is to propose is found by the tick after the wait, or at the next call.
            None if self.next_proposal > self.ticked_at => self.next_proposal,
            None => Duration::MAX,
        };
        self.lease.deadline().min(proposing)
    }

    /// Does what is due. `dice` is a random number never used before.
    pub fn tick(&mut self, now: Duration, dice: u64) -> Vec<MemberAction> {
        self.ticked_at = now;
        self.wished = false;
        if !self.takes_part {
            return Vec::new();
        }
        let call = self.lease.tick(now, &self.record);
        let mut actions = call.map_or_else(Vec::new, |call| {
            // Nobody grants anything to whom the record does not name; but voters tell it which
            // writers are gone, in whose place it may be needed.
            let renews = self.record.names(&self.me);
            self.to_voters(&call.message(self.record.epoch(), self.me.clone(), renews))
        });
        let ttl = self.record.parameters().ttl;
        if call.is_some() && self.lease.looking_since().is_some_and(|since| now >= since + ttl) {
            actions.extend(self.ask_somebody(dice));
        }
        let due = self.proposer.tick(now);
        actions.extend(self.carry_out(now, due, dice));
        actions.extend(self.propose_if_due(now, dice));
        actions
    }

    /// Handles what a voter says.
    pub fn handle_voter(
        &mut self,
        now: Duration,
        by: VoterId,
        message: FromVoter,
        dice: u64,
    ) -> Vec<MemberAction> {
        let mut actions = self.answered(now, by, message, dice);
        actions.extend(self.propose_if_due(now, dice));
        actions
    }

    /// Handles what the member of another pod says.
    pub fn handle_peer(
        &mut self,
        now: Duration,
        from: &PodId,
        message: ToPeer,
        dice: u64,
    ) -> Vec<MemberAction> {
        let mut actions = self.peer_said(now, from, message, dice);
        actions.extend(self.propose_if_due(now, dice));
        actions
    }

    /// Every write admitted before the release has ended: the release may be said.
    pub fn quiesced(&mut self, now: Duration, record: &Record, dice: u64) -> Vec<MemberAction> {
        let (epoch, mut actions) = (record.epoch(), Vec::new());
        for (to, ballot) in self.guard.quiesced(record) {
            actions.extend(self.say_released(now, to, ballot, epoch, dice));
        }
        actions
    }

    fn peer_said(
        &mut self,
        now: Duration,
        from: &PodId,
        message: ToPeer,
        dice: u64,
    ) -> Vec<MemberAction> {
        match message {
            ToPeer::Install { record } => self.install(now, record),
            ToPeer::AskReady { epoch, .. } if epoch <= self.record.epoch() => {
                let record = self.record.clone();
                vec![MemberAction::ToPeer(from.clone(), ToPeer::Install { record })]
            }
            ToPeer::AskReady { ballot, epoch } => {
                let (writer, to) = (self.me.clone(), from.clone());
                let ready = self.record.epoch().next().ok() == Some(epoch) && self.takes_part;
                let message = ToPeer::Ready { ballot, epoch, writer };
                ready.then_some(MemberAction::ToPeer(to, message)).into_iter().collect()
            }
            ToPeer::Ready { ballot, epoch, writer } => {
                let next = self.proposer.ready(now, epoch, ballot, writer);
                self.carry_out(now, next, dice)
            }
            ToPeer::AskRelease { ballot, record } => self.release(now, from, ballot, &record, dice),
            ToPeer::Released { ballot, epoch, writer } => {
                let next = self.proposer.released(epoch, ballot, writer);
                self.carry_out(now, next, dice)
            }
        }
    }

    fn answered(
        &mut self,
        now: Duration,
        by: VoterId,
        message: FromVoter,
        dice: u64,
    ) -> Vec<MemberAction> {
        match message {
            FromVoter::Renewed { epoch, writer, sequence, lapsed, undecided } => {
                let mine = writer == self.me || self.planted.has(Bug::GrantOfOther);
                if mine && epoch == self.record.epoch() {
                    self.is_told(now, by, lapsed);
                    self.lease.renewed(now, by, sequence, &self.record);
                    self.is_undecided(now, undecided);
                }
                Vec::new()
            }
            FromVoter::Heard { writer, sequence, newer, lapsed, undecided }
                if writer == self.me =>
            {
                let actions = newer.map_or_else(Vec::new, |record| self.install(now, record));
                self.is_told(now, by, lapsed);
                self.lease.heard(now, by, sequence, &self.record);
                self.is_undecided(now, undecided);
                actions
            }
            FromVoter::Refused { writer, refusal, .. } if writer == self.me => {
                self.refused(now, by, refusal)
            }
            // Meant for a process of this pod that is no more.
            FromVoter::Heard { .. } | FromVoter::Refused { .. } => Vec::new(),
            FromVoter::Lapsed { epoch, writers } => {
                if epoch == self.record.epoch() {
                    self.is_told(now, by, writers);
                }
                Vec::new()
            }
            answer @ (FromVoter::Promised { .. }
            | FromVoter::Accepted { .. }
            | FromVoter::Guarded { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. }) => {
                let next = self.proposer.handle(now, by, &answer);
                self.carry_out(now, next, dice)
            }
        }
    }

    /// What a voter says of leases that have run out.
    fn is_told(&mut self, at: Duration, by: VoterId, lapsed: Vec<Writer>) {
        if self.record.has_voter(by) {
            self.reports.told(at, by, lapsed);
        }
    }

    fn refused(&mut self, now: Duration, by: VoterId, refusal: Refusal) -> Vec<MemberAction> {
        match refusal {
            Refusal::Behind(record) => self.install(now, record),
            Refusal::Ahead => {
                let record = self.record.clone();
                vec![MemberAction::ToVoter(by, ToVoter::Install { record })]
            }
            Refusal::Pending(record) => {
                self.is_undecided(now, record.epoch() > self.record.epoch());
                Vec::new()
            }
            Refusal::NotNamed | Refusal::Held | Refusal::Renounced | Refusal::NotAVoter => {
                Vec::new()
            }
        }
    }

    /// A voter has voted for the next record. The proposer may be the only one who knows what became
    /// of it, and dead: then this member finds out.
    fn is_undecided(&mut self, now: Duration, undecided: bool) {
        if undecided && !self.accepted_elsewhere {
            self.accepted_elsewhere = true;
            self.let_others_finish(now);
        }
    }

    /// Whoever began a try will most likely finish it, and voters keep others out while it can be
    /// heard: so this only saves useless messages.
    fn let_others_finish(&mut self, now: Duration) {
        let wait = self.record.parameters().renewal_interval * 2;
        self.next_proposal = self.next_proposal.max(now + wait);
    }

    fn install(&mut self, now: Duration, record: Record) -> Vec<MemberAction> {
        if record.epoch() <= self.record.epoch() || record.cluster() != self.record.cluster() {
            return Vec::new();
        }
        self.record = record;
        self.draft = None;
        if self.was_writer && self.is_superseded() {
            // Two processes of a pod that go on joining would take each other's place for ever.
            self.takes_part = false;
            self.lease.renounce();
        }
        self.was_writer |= self.record.names(&self.me);
        self.lease.installed(&self.record);
        self.guard.installed();
        self.reports.clear();
        self.accepted_elsewhere = false;
        self.suspect = None;
        self.failures = 0;
        self.next_proposal = now;
        self.proposer.abandon();
        self.asked = false;
        vec![MemberAction::Installed(self.record.clone())]
    }

    /// Whether the operator removed the pod, or another process of it is its writer now.
    fn is_superseded(&self) -> bool {
        match self.record.writers().get(&self.me.pod) {
            Some(incarnation) => *incarnation != self.me.incarnation,
            None => self.record.view().index_of(self.me.pod.as_str()).is_none(),
        }
    }

    /// Asks another pod for what it goes by: all voters that this process knows may have been
    /// replaced while it was away. One that knows no more says that it is there, which is nothing
    /// new to anybody.
    fn ask_somebody(&self, dice: u64) -> Option<MemberAction> {
        let others = || self.record.view().pods().iter().filter(|pod| pod.id != self.me.pod);
        let count = u64::try_from(others().count()).ok()?;
        let place = usize::try_from(dice.checked_rem(count)?).ok()?;
        let to = others().nth(place)?.id.clone();
        let (ballot, epoch) =
            (Ballot { round: 0, proposer: dice }, self.record.epoch().next().ok()?);
        Some(MemberAction::ToPeer(to, ToPeer::AskReady { ballot, epoch }))
    }

    fn release(
        &mut self,
        now: Duration,
        from: &PodId,
        ballot: Ballot,
        record: &Record,
        dice: u64,
    ) -> Vec<MemberAction> {
        let epoch = record.epoch();
        if epoch <= self.record.epoch() {
            let record = self.record.clone();
            return vec![MemberAction::ToPeer(from.clone(), ToPeer::Install { record })];
        }
        if record.check_follows_planted(&self.record, self.planted).is_err() {
            return Vec::new();
        }
        if !self.guard.is_waiting() {
            self.let_others_finish(now);
        }
        match self.guard.release(record, from, ballot) {
            Release::Refused | Release::UnderWay => Vec::new(),
            Release::Begun => {
                let mut actions = vec![MemberAction::Quiesce(record.clone())];
                if self.planted.has(Bug::ReleaseTooEarly) {
                    actions.extend(self.say_released(now, from.clone(), ballot, epoch, dice));
                }
                actions
            }
            Release::Done => self.say_released(now, from.clone(), ballot, epoch, dice),
        }
    }

    fn say_released(
        &mut self,
        now: Duration,
        to: PodId,
        ballot: Ballot,
        epoch: Epoch,
        dice: u64,
    ) -> Vec<MemberAction> {
        let writer = self.me.clone();
        if to == self.me.pod {
            let next = self.proposer.released(epoch, ballot, writer);
            return self.carry_out(now, next, dice);
        }
        vec![MemberAction::ToPeer(to, ToPeer::Released { ballot, epoch, writer })]
    }

    fn to_voters(&self, message: &ToVoter) -> Vec<MemberAction> {
        let voters = self.record.voters().iter();
        voters.map(|entry| MemberAction::ToVoter(entry.id, message.clone())).collect()
    }
}

/// Changes that wait to be made; an operator who asks for more has to wait too.
const WISHES_MOST: usize = 64;

#[cfg(test)]
mod tests;
