//! The member: one pod's process in the cluster, with its lease, its guard and its proposals.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hashroute_core::{Epoch, Pod, PodId};

use crate::error::ChangeError;
use crate::guard::{Guard, Release, WriteRefusal, WriteTag};
use crate::holder::{Call, LeaseHolder};
use crate::message::{Ballot, FromVoter, Refusal, Sequence, ToPeer, ToVoter};
use crate::planted::{Bug, Planted};
use crate::proposer::{Proposer, ProposerAction};
use crate::record::{Change, Incarnation, Record, Resource, VoterId, Writer};

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
    /// A change that the operator asked for cannot be made any more.
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
    /// What each voter last said of leases that have run out.
    lapsed: BTreeMap<VoterId, Vec<Writer>>,
    /// Who asked for a release that is not done yet, and in which try.
    waiting: BTreeMap<PodId, Ballot>,
    /// A record that a voter accepted under which this member loses something.
    pending: Option<Record>,
    /// The writer that a majority of voters last reported as lapsed.
    suspect: Option<Writer>,
    wishes: VecDeque<Change>,
    takes_part: bool,
    /// Nothing is proposed before this.
    next_proposal: Duration,
    ticked_at: Duration,
    failures: u32,
    planted: Planted,
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
            lapsed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            pending: None,
            suspect: None,
            wishes: VecDeque::new(),
            takes_part: true,
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

    /// Asks for a change of the record. It is proposed until it is made or cannot be made.
    pub fn wish(&mut self, change: Change) {
        self.wishes.push_back(change);
    }

    /// Stops writing at once and gives the lease up: for a process that ends, or whose service
    /// died. The member does not join again.
    pub fn renounce(&mut self, now: Duration) -> Vec<MemberAction> {
        self.takes_part = false;
        self.proposer.abandon();
        let sequence = self.lease.renounce(now);
        let writer = self.me.clone();
        self.to_voters(&ToVoter::Renounce { writer, sequence })
    }

    /// When [`Member::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        if !self.takes_part {
            return Duration::MAX;
        }
        let proposing = match self.proposer.deadline() {
            Some(deadline) => deadline,
            // What there is to propose is found by the tick after the wait, or at the next call.
            None if self.next_proposal > self.ticked_at => self.next_proposal,
            None => Duration::MAX,
        };
        self.lease.deadline().min(proposing)
    }

    /// Does what is due. `dice` is a random number never used before.
    pub fn tick(&mut self, now: Duration, dice: u64) -> Vec<MemberAction> {
        self.ticked_at = now;
        if !self.takes_part {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if let Some(call) = self.lease.tick(now, &self.record) {
            let (epoch, writer) = (self.record.epoch(), self.me.clone());
            actions.extend(self.to_voters(&match call {
                Call::Renew(sequence) => ToVoter::Renew { epoch, writer, sequence },
                Call::Probe(sequence) => ToVoter::Probe { epoch, writer, sequence },
            }));
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
        from: PodId,
        message: ToPeer,
        dice: u64,
    ) -> Vec<MemberAction> {
        let mut actions = match message {
            ToPeer::Install { record } => self.install(now, record),
            ToPeer::AskRelease { ballot, record } => self.release(now, from, ballot, &record),
            ToPeer::Released { ballot, epoch, writer } => {
                let next = self.proposer.released(epoch, ballot, writer);
                self.carry_out(now, next, dice)
            }
        };
        actions.extend(self.propose_if_due(now, dice));
        actions
    }

    /// Every write admitted before the release has ended: the release may be said.
    pub fn quiesced(&mut self, record: &Record) -> Vec<MemberAction> {
        self.guard.quiesced(record);
        let epoch = record.epoch();
        if self.record.epoch().next().ok() != Some(epoch) {
            return Vec::new();
        }
        let writer = || self.me.clone();
        std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(to, ballot)| {
                MemberAction::ToPeer(to, ToPeer::Released { ballot, epoch, writer: writer() })
            })
            .collect()
    }

    fn answered(
        &mut self,
        now: Duration,
        by: VoterId,
        message: FromVoter,
        dice: u64,
    ) -> Vec<MemberAction> {
        match message {
            FromVoter::Renewed { epoch, writer, sequence, lapsed } => {
                if writer == self.me && epoch == self.record.epoch() {
                    self.lapsed.insert(by, lapsed);
                    self.lease.renewed(now, by, sequence, &self.record);
                }
                Vec::new()
            }
            FromVoter::Heard { writer, sequence, newer, lapsed } if writer == self.me => {
                let actions = newer.map_or_else(Vec::new, |record| self.install(now, record));
                self.lapsed.insert(by, lapsed);
                self.lease.heard(now, by, sequence, &self.record);
                actions
            }
            FromVoter::Refused { writer, sequence, refusal } if writer == self.me => {
                self.refused(now, by, sequence, refusal)
            }
            // Meant for a process of this pod that is no more.
            FromVoter::Heard { .. } | FromVoter::Refused { .. } => Vec::new(),
            FromVoter::Lapsed { epoch, writers } => {
                if epoch == self.record.epoch() {
                    self.lapsed.insert(by, writers);
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

    fn refused(
        &mut self,
        now: Duration,
        by: VoterId,
        _sequence: Sequence,
        refusal: Refusal,
    ) -> Vec<MemberAction> {
        match refusal {
            Refusal::Behind(record) => self.install(now, record),
            Refusal::Ahead => {
                let record = self.record.clone();
                vec![MemberAction::ToVoter(by, ToVoter::Install { record })]
            }
            Refusal::Pending(record) => {
                if self.pending.is_none() {
                    // Whoever proposed it will most likely finish; if not, this member does.
                    self.next_proposal =
                        self.next_proposal.max(now + self.record.parameters().renewal_interval);
                }
                self.pending = Some(record);
                Vec::new()
            }
            Refusal::NotNamed | Refusal::Held | Refusal::Renounced | Refusal::NotAVoter => {
                Vec::new()
            }
        }
    }

    fn install(&mut self, now: Duration, record: Record) -> Vec<MemberAction> {
        if record.epoch() <= self.record.epoch() || record.cluster() != self.record.cluster() {
            return Vec::new();
        }
        self.record = record;
        self.lease.installed(&self.record);
        self.guard.installed();
        self.lapsed.clear();
        self.waiting.clear();
        self.pending = None;
        self.suspect = None;
        self.failures = 0;
        self.next_proposal = now;
        if self.proposer.is_busy() {
            self.proposer.abandon();
        }
        vec![MemberAction::Installed(self.record.clone())]
    }

    fn release(
        &mut self,
        now: Duration,
        from: PodId,
        ballot: Ballot,
        record: &Record,
    ) -> Vec<MemberAction> {
        let epoch = record.epoch();
        if epoch <= self.record.epoch() {
            let record = self.record.clone();
            return vec![MemberAction::ToPeer(from, ToPeer::Install { record })];
        }
        if record.check_follows(&self.record).is_err() {
            return Vec::new();
        }
        if !self.guard.is_waiting() {
            // Who asked will most likely finish; if not, this member does.
            self.next_proposal = self.next_proposal.max(now + self.record.parameters().ttl);
        }
        match self.guard.release(record) {
            Release::Done => {
                let writer = self.me.clone();
                vec![MemberAction::ToPeer(from, ToPeer::Released { ballot, epoch, writer })]
            }
            Release::UnderWay => {
                self.waiting.insert(from, ballot);
                Vec::new()
            }
            Release::Begun => {
                self.waiting.insert(from, ballot);
                vec![MemberAction::Quiesce(record.clone())]
            }
        }
    }

    fn carry_out(
        &mut self,
        now: Duration,
        actions: Vec<ProposerAction>,
        dice: u64,
    ) -> Vec<MemberAction> {
        let mut out = Vec::new();
        for action in actions {
            match action {
                ProposerAction::ToVoter(to, message) => {
                    out.push(MemberAction::ToVoter(to, message));
                }
                ProposerAction::ToPeer(to, message) => {
                    out.push(MemberAction::ToPeer(to, message));
                }
                ProposerAction::Failed => {
                    self.failures += 1;
                    let longest = BACKOFF.saturating_mul(1 << self.failures.min(BACKOFF_DOUBLINGS));
                    self.next_proposal = now + longest / 2 + longest.mul_f64(fraction(dice)) / 2;
                }
                ProposerAction::Chosen(record) => {
                    out.extend(self.tell_all(&record));
                    out.extend(self.install(now, record));
                }
            }
        }
        out
    }

    /// Everybody concerned, before and after, learns of the record.
    fn tell_all(&self, record: &Record) -> Vec<MemberAction> {
        let mut voters: Vec<VoterId> = Vec::new();
        let mut pods: Vec<PodId> = Vec::new();
        for known in [&self.record, record] {
            voters.extend(known.voters().iter().map(|entry| entry.id));
            pods.extend(known.view().pods().iter().map(|pod| pod.id.clone()));
        }
        voters.sort_unstable();
        voters.dedup();
        pods.sort_unstable();
        pods.dedup();
        pods.retain(|pod| *pod != self.me.pod);
        let record = || record.clone();
        let voters = voters
            .into_iter()
            .map(|to| MemberAction::ToVoter(to, ToVoter::Install { record: record() }));
        let pods = pods
            .into_iter()
            .map(|to| MemberAction::ToPeer(to, ToPeer::Install { record: record() }));
        voters.chain(pods).collect()
    }

    fn propose_if_due(&mut self, now: Duration, dice: u64) -> Vec<MemberAction> {
        if self.proposer.is_busy() || now < self.next_proposal || !self.takes_part {
            return Vec::new();
        }
        let mut dropped = Vec::new();
        let Some((record, stop)) = self.next_wish(now, &mut dropped) else { return dropped };
        let before = self.record.clone();
        let actions = self.proposer.propose(now, &before, record, stop, dice);
        dropped.extend(self.carry_out(now, actions, dice));
        dropped
    }

    /// The record to propose next, and who is presumed dead in it.
    fn next_wish(
        &mut self,
        now: Duration,
        dropped: &mut Vec<MemberAction>,
    ) -> Option<(Record, Vec<Writer>)> {
        let successor = self.record.epoch().next().ok()?;
        if let Some(record) = self.guard.waiting_for().or(self.pending.as_ref()) {
            // What was released or accepted must be decided, or nobody may ever write again.
            return (record.epoch() == successor).then(|| (record.clone(), Vec::new()));
        }
        if let Some(writer) = self.lapsed_by_majority() {
            if self.suspect.as_ref() != Some(&writer) {
                self.suspect = Some(writer);
                self.next_proposal = now + STAGGER.saturating_mul(self.rank());
                if self.next_proposal > now {
                    return None;
                }
                return self.next_wish(now, dropped);
            }
            let record = self.record.next(&Change::Fail(writer.clone())).ok()?;
            return Some((record, vec![writer]));
        }
        if !self.lease.is_heard() {
            return None;
        }
        if !self.record.names(&self.me) {
            let (pod, incarnation) = (self.pod.clone(), self.me.incarnation);
            let record = self.record.next(&Change::Join { pod, incarnation }).ok()?;
            return Some((record, Vec::new()));
        }
        while let Some(change) = self.wishes.pop_front() {
            match self.record.next(&change) {
                Ok(record) if record_is_new(&self.record, &record) => {
                    self.wishes.push_front(change);
                    return Some((record, Vec::new()));
                }
                Ok(_) => {}
                Err(reason) => dropped.push(MemberAction::Dropped { change, reason }),
            }
        }
        None
    }

    /// A writer, not this one, whose lease has run out at a majority of voters.
    fn lapsed_by_majority(&self) -> Option<Writer> {
        let writers = self.record.writers().iter();
        writers
            .map(|(pod, incarnation)| Writer { pod: pod.clone(), incarnation: *incarnation })
            .filter(|writer| *writer != self.me)
            .find(|writer| {
                let voters = self.lapsed.iter().filter(|(voter, _)| self.record.has_voter(**voter));
                let lapsed = voters.filter(|(_, lapsed)| lapsed.contains(writer)).count();
                lapsed >= self.record.majority()
            })
    }

    /// How many live writers come before this one: who proposes first after a failure.
    fn rank(&self) -> u32 {
        let before = self.record.writers().keys().filter(|pod| **pod < self.me.pod).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    fn to_voters(&self, message: &ToVoter) -> Vec<MemberAction> {
        let voters = self.record.voters().iter();
        voters.map(|entry| MemberAction::ToVoter(entry.id, message.clone())).collect()
    }
}

/// Whether the change made any difference beside the epoch.
fn record_is_new(before: &Record, after: &Record) -> bool {
    before.view().pods() != after.view().pods()
        || before.voters() != after.voters()
        || before.writers() != after.writers()
        || before
            .groups()
            .iter()
            .map(|it| &it.leader)
            .ne(after.groups().iter().map(|it| &it.leader))
}

/// The first wait after a try that failed; it doubles with each.
const BACKOFF: Duration = Duration::from_millis(15);
/// 15 ms doubled four times is 240 ms.
const BACKOFF_DOUBLINGS: u32 = 4;
/// Between the first tries of two members that see the same failure.
const STAGGER: Duration = Duration::from_millis(10);

/// The dice as a fraction from 0 to 1.
fn fraction(dice: u64) -> f64 {
    f64::from(u32::try_from(dice >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}
