//! The voter: grants leases and votes on the next record, never both against each other.

use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use crate::lease::LeaseParameters;
use crate::message::{Ballot, FromVoter, Refusal, Sequence, ToVoter};
use crate::planted::{Bug, Planted};
use crate::record::{Record, VoterId, Writer};

/// What a voter must not forget over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VoterState {
    /// Its name, and that of its disk.
    pub id: VoterId,
    /// The newest record that it knows to be chosen.
    pub installed: Record,
    /// The highest ballot for the next epoch in which it promised to take part.
    pub promised: Option<Ballot>,
    /// What it accepted for the next epoch, and in which ballot.
    pub accepted: Option<(Ballot, Record)>,
    /// What it will accept in this ballot as soon as nobody who loses by it may still write: written
    /// down ahead, so that then nobody waits for a disk. A state that was read back does not tell
    /// whether it was accepted since, so it counts as accepted; see [`Voter::new`].
    pub tentative: Option<(Ballot, Record)>,
}

impl VoterState {
    /// The state of a voter that has promised and accepted nothing.
    #[must_use]
    pub fn first(id: VoterId, installed: Record) -> Self {
        Self { id, installed, promised: None, accepted: None, tentative: None }
    }

    /// What the voter accepted, or will accept, in this ballot.
    #[must_use]
    pub fn vote(&self, ballot: Ballot) -> Option<&Record> {
        let mut votes = [&self.accepted, &self.tentative].into_iter().flatten();
        votes.find(|(known, _)| *known == ballot).map(|(_, record)| record)
    }
}

/// What a voter asks its shell to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterAction {
    /// Make this state durable before anything after it is carried out.
    Persist(Box<VoterState>),
    /// Carry out what comes after this when every state so far is durable: at once, if none is on
    /// its way to the disk.
    AwaitDisk,
    /// Send a message.
    Send {
        /// To the member of this pod.
        to: PodId,
        /// What.
        message: FromVoter,
    },
}

/// One voter of a cluster. See the module of the crate for how to drive it.
#[derive(Clone, Debug, Hash)]
pub struct Voter {
    state: VoterState,
    /// What is known of each writer of the record, and of those before it that are still guarded.
    /// Sorted. Forgotten over a restart: see `quiet_until`.
    watches: Vec<(Writer, Watch)>,
    /// Before this the voter does not know all leases that it may have granted, or that others
    /// granted before it became a voter: it ends none.
    quiet_until: Duration,
    /// Writers that get no renewals while a ballot stands that wants to end their leases.
    held: Option<Hold>,
    /// The ballot promised last, while its proposer can be heard: others wait for it.
    standing: Option<Standing>,
    planted: Planted,
}

/// What a voter knows of one writer.
#[derive(Clone, Copy, Debug, Hash)]
struct Watch {
    /// The guard: no renewal was granted that lets the writer write after this. None: none was.
    guarded_until: Option<Duration>,
    /// Without a renewal until then, members are told that the lease has run out.
    expected_by: Duration,
    /// Whether they were told.
    reported: bool,
    /// Whether the writer renounced: it has stopped for good.
    renounced: bool,
}

#[derive(Clone, Debug, Hash)]
struct Hold {
    writers: Vec<Writer>,
    until: Duration,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Standing {
    ballot: Ballot,
    since: Duration,
    heard: Duration,
}

impl Voter {
    /// A voter that starts with what its disk holds. Nothing it granted before is known, so it is
    /// quiet at first.
    ///
    /// A tentative vote counts as a vote from here on. It may have become one; and if it has not, no
    /// harm is done: it was proposed in its ballot, so that no other record can have been chosen in
    /// a lower one, and before it is *said* to be accepted, guards are looked at once more.
    #[must_use]
    pub fn new(state: VoterState, now: Duration) -> Self {
        Self::with_planted(state, now, Planted::default())
    }

    /// The same with a wrong rule, for the simulator.
    #[must_use]
    pub fn with_planted(mut state: VoterState, now: Duration, planted: Planted) -> Self {
        if let Some(vote) = state.tentative.take().filter(|_| !planted.has(Bug::TentativeForgotten))
        {
            state.accepted = Some(vote);
        }
        let quiet = state.installed.parameters().quiet_time();
        let quiet_until = if planted.has(Bug::NoQuietTime) { now } else { now + quiet };
        let (watches, held, standing) = (Vec::new(), None, None);
        let mut voter = Self { state, watches, quiet_until, held, standing, planted };
        voter.watch_writers(now);
        voter
    }

    /// What the voter knows durably, or has asked to make durable.
    #[must_use]
    pub fn state(&self) -> &VoterState {
        &self.state
    }

    /// When [`Voter::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        let unreported = self.watches.iter().map(|(_, watch)| watch).filter(|it| !it.reported);
        unreported.map(|watch| watch.expected_by.max(self.quiet_until)).min()
    }

    /// Tells members which leases have run out since the last call.
    pub fn tick(&mut self, now: Duration) -> Vec<VoterAction> {
        if now < self.quiet_until {
            return Vec::new();
        }
        let mut news = false;
        let watches = self.watches.iter_mut().map(|(_, watch)| watch);
        for watch in watches.filter(|it| !it.reported && now >= it.expected_by) {
            watch.reported = true;
            news = true;
        }
        if !news {
            return Vec::new();
        }
        let message = FromVoter::Lapsed { epoch: self.epoch(), writers: self.lapsed() };
        let pods = self.state.installed.writers().keys().cloned();
        pods.map(|pod| send(pod, message.clone())).collect()
    }

    /// Handles a message. `now` must have been read after the message arrived: a guard that starts
    /// at an earlier reading could end before the lease that rests on it.
    pub fn handle(&mut self, now: Duration, from: PodId, message: ToVoter) -> Vec<VoterAction> {
        match message {
            ToVoter::Renew { epoch, writer, sequence } => {
                self.renew(now, from, epoch, writer, sequence)
            }
            ToVoter::Probe { epoch, writer, sequence } => self.probe(from, epoch, writer, sequence),
            ToVoter::Renounce { writer } => {
                self.renounce(now, &writer);
                Vec::new()
            }
            ToVoter::Prepare { epoch, ballot, stop } => {
                self.prepare(now, from, epoch, ballot, stop)
            }
            ToVoter::Accept { ballot, record, released } => {
                self.accept(now, from, ballot, record, &released)
            }
            ToVoter::Install { record } => self.install(now, record),
        }
    }

    /// What it has voted for, or was asked to vote for, can become the record no more: where the
    /// record lies in a store, that says so.
    pub(crate) fn forget_vote(&mut self) {
        (self.state.accepted, self.state.tentative, self.held) = (None, None, None);
    }

    fn renew(
        &mut self,
        now: Duration,
        from: PodId,
        epoch: Epoch,
        writer: Writer,
        sequence: Sequence,
    ) -> Vec<VoterAction> {
        if let Some(refusal) = self.refusal(now, epoch, &writer) {
            return vec![send(from, FromVoter::Refused { writer, sequence, refusal })];
        }
        let until = now + self.parameters().ttl;
        if let Some(watch) = self.watch_mut(&writer) {
            watch.guarded_until = watch.guarded_until.max(Some(until));
            watch.expected_by = until;
            watch.reported = false;
        }
        let (lapsed, undecided) = (self.lapsed(), self.state.accepted.is_some());
        vec![send(from, FromVoter::Renewed { epoch, writer, sequence, lapsed, undecided })]
    }

    /// A voter that is behind says so as well: whoever only probes may be the only one left who knows
    /// what the voter lacks.
    fn probe(
        &self,
        from: PodId,
        epoch: Epoch,
        writer: Writer,
        sequence: Sequence,
    ) -> Vec<VoterAction> {
        let newer = (epoch < self.epoch()).then(|| self.state.installed.clone());
        let (lapsed, undecided) = (self.lapsed(), self.state.accepted.is_some());
        let is_behind = epoch > self.epoch();
        let (to, me, refusal) = (from.clone(), writer.clone(), Refusal::Ahead);
        let heard = FromVoter::Heard { writer, sequence, newer, lapsed, undecided };
        let ahead = FromVoter::Refused { writer: me, sequence, refusal };
        [send(from, heard)].into_iter().chain(is_behind.then(|| send(to, ahead))).collect()
    }

    /// Why this writer's renewal is not granted, if it is not.
    fn refusal(&self, now: Duration, epoch: Epoch, writer: &Writer) -> Option<Refusal> {
        let installed = &self.state.installed;
        if epoch < installed.epoch() && !self.planted.has(Bug::OldEpochGranted) {
            return Some(Refusal::Behind(installed.clone()));
        }
        if epoch > installed.epoch() {
            return Some(Refusal::Ahead);
        }
        if !installed.has_voter(self.state.id) {
            return Some(Refusal::NotAVoter);
        }
        let Some(watch) = self.watch(writer).filter(|_| installed.names(writer)) else {
            return Some(Refusal::NotNamed);
        };
        if watch.renounced {
            // Granting would do no harm but to make everybody wait for one who is gone.
            return Some(Refusal::Renounced);
        }
        if let Some((_, accepted)) = &self.state.accepted
            && self.is_ended_by(writer, accepted)
        {
            return Some(Refusal::Pending(accepted.clone()));
        }
        let held = self.held.as_ref().filter(|hold| now < hold.until);
        held.filter(|hold| hold.writers.contains(writer)).map(|_| Refusal::Held)
    }

    /// Whether no lease may be granted to the writer once `accepted` may be decided. A change of
    /// voters ends grants to everybody: the voters to come count on their quiet time outlasting
    /// every lease that the ones before granted.
    fn is_ended_by(&self, writer: &Writer, accepted: &Record) -> bool {
        let installed = &self.state.installed;
        let other_voters = accepted.voters() != installed.voters();
        (other_voters && !self.planted.has(Bug::GrantAcrossVoters))
            || (!self.planted.has(Bug::GrantAfterAccept)
                && installed.shared_losers(accepted).contains(writer))
    }

    /// The writer's own word that it has stopped is better than any guard: also than the quiet
    /// time, for no grant that is forgotten can matter to it any more.
    fn renounce(&mut self, now: Duration, writer: &Writer) {
        if let Some(watch) = self.watch_mut(writer).filter(|watch| !watch.renounced) {
            watch.renounced = true;
            watch.expected_by = now;
            watch.reported = false;
        }
    }

    fn prepare(
        &mut self,
        now: Duration,
        from: PodId,
        epoch: Epoch,
        ballot: Ballot,
        stop: Vec<Writer>,
    ) -> Vec<VoterAction> {
        if let Some(answer) = self.wrong_epoch(epoch) {
            return vec![send(from, answer)];
        }
        if let Some(promised) = self.higher_promise(ballot).or_else(|| self.busy_with(now, ballot))
        {
            return vec![send(from, FromVoter::Outbid { epoch, promised })];
        }
        self.state.promised = Some(ballot);
        // In a lower ballot it will not vote any more.
        self.state.tentative.take_if(|(known, _)| *known < ballot);
        let since = self.standing.filter(|it| it.ballot == ballot).map_or(now, |it| it.since);
        self.standing = Some(Standing { ballot, since, heard: now });
        self.held = Some(Hold { writers: stop, until: since + self.parameters().ttl * 2 });
        let accepted = self.state.accepted.clone();
        vec![self.persist(), send(from, FromVoter::Promised { epoch, ballot, accepted })]
    }

    fn accept(
        &mut self,
        now: Duration,
        from: PodId,
        ballot: Ballot,
        record: Record,
        released: &[Writer],
    ) -> Vec<VoterAction> {
        let epoch = record.epoch();
        if let Some(answer) = self.wrong_epoch(epoch) {
            return vec![send(from, answer)];
        }
        if let Some(promised) = self.higher_promise(ballot) {
            return vec![send(from, FromVoter::Outbid { epoch, promised })];
        }
        if record.check_follows_planted(&self.state.installed, self.planted).is_err() {
            return Vec::new();
        }
        if let Some(standing) = self.standing.as_mut().filter(|it| it.ballot == ballot) {
            standing.heard = now;
        }
        let remaining = self.guarded_for(now, &record, released);
        let votes = remaining == Duration::ZERO;
        let before_it = self.write_down(ballot, record, votes);
        let answer = if votes {
            FromVoter::Accepted { epoch, ballot }
        } else {
            FromVoter::Guarded { epoch, ballot, remaining }
        };
        vec![before_it, send(from, answer)]
    }

    /// Takes note of a vote, or of one to come, and returns what has to be done before it is said.
    /// What is written down for this ballot already is not written again: it is the same record, for
    /// no proposer asks for two in one ballot.
    fn write_down(&mut self, ballot: Ballot, record: Record, votes: bool) -> VoterAction {
        let is_known = self.state.vote(ballot).is_some();
        self.state.promised = Some(ballot);
        if votes {
            self.state.accepted = Some((ballot, record));
            self.state.tentative = None;
        } else if !is_known {
            self.state.tentative = Some((ballot, record));
        }
        if is_known { VoterAction::AwaitDisk } else { self.persist() }
    }

    /// For how long a writer that loses something in `record`, and has not released it, must still
    /// be assumed to write. Zero if none must.
    fn guarded_for(&self, now: Duration, record: &Record, released: &[Writer]) -> Duration {
        if self.planted.has(Bug::NoGuardAtVote) {
            return Duration::ZERO;
        }
        let losers = self.state.installed.shared_losers(record);
        let taken_over = |writer: &Writer| {
            self.planted.has(Bug::RestartTakesOver)
                && record.writers().contains_key(&writer.pod)
                && !record.names(writer)
        };
        let live = losers.iter().filter(|it| !released.contains(it) && !taken_over(it));
        live.filter_map(|writer| match self.watch(writer) {
            Some(watch) if watch.renounced => None,
            Some(watch) => watch.guarded_until.max(Some(self.quiet_until)),
            None => Some(self.quiet_until),
        })
        // At the very instant the guard ends it has not run out: clocks have grains.
        .map(|until| (until + GRAIN).saturating_sub(now))
        .max()
        .unwrap_or_default()
    }

    fn install(&mut self, now: Duration, record: Record) -> Vec<VoterAction> {
        let installed = &self.state.installed;
        if record.epoch() <= installed.epoch() || record.cluster() != installed.cluster() {
            return Vec::new();
        }
        // Who was no voter of the record before does not know the leases granted under it.
        let next = installed.epoch().next().ok() == Some(record.epoch());
        let knows = next && installed.has_voter(self.state.id);
        if !knows && !self.planted.has(Bug::NoQuietTimeForNewVoter) {
            self.quiet_until = self.quiet_until.max(now + record.parameters().quiet_time());
            for (_, watch) in &mut self.watches {
                // Reports of a record long gone say nothing about this one.
                watch.reported = false;
                watch.expected_by = watch.expected_by.max(self.quiet_until);
            }
        }
        self.state.installed = record;
        self.state.promised = None;
        self.state.accepted = None;
        self.state.tentative = None;
        self.held = None;
        self.standing = None;
        self.watch_writers(now);
        vec![self.persist()]
    }

    /// Every writer of the record is watched, so that one that never renews is reported too.
    /// What is known of processes that left goes when their guards have run out.
    fn watch_writers(&mut self, now: Duration) {
        let installed = self.state.installed.clone();
        if self.planted.has(Bug::GuardsDroppedAtInstall) {
            self.watches.clear();
        }
        self.watches
            .retain(|(writer, watch)| installed.names(writer) || watch.guarded_until > Some(now));
        let expected_by = now + self.parameters().ttl;
        for writer in installed.writers_in_order() {
            let (guarded_until, reported, renounced) = (None, false, false);
            let watch = Watch { guarded_until, expected_by, reported, renounced };
            if let Err(place) = self.watches.binary_search_by(|(known, _)| known.cmp(writer)) {
                self.watches.insert(place, (writer.clone(), watch));
            }
        }
    }

    fn watch(&self, writer: &Writer) -> Option<&Watch> {
        self.watches.iter().find(|(known, _)| known == writer).map(|(_, watch)| watch)
    }

    fn watch_mut(&mut self, writer: &Writer) -> Option<&mut Watch> {
        self.watches.iter_mut().find(|(known, _)| known == writer).map(|(_, watch)| watch)
    }

    /// Answers a proposer that wants to decide another epoch than the next one here, or asks one
    /// that is no voter. Votes of the latter would not be counted; not to cast them is the second
    /// lock on that door.
    fn wrong_epoch(&self, epoch: Epoch) -> Option<FromVoter> {
        if epoch <= self.epoch() {
            return Some(FromVoter::Decided { record: self.state.installed.clone() });
        }
        let next = self.epoch().next().ok() == Some(epoch);
        let votes = self.state.installed.has_voter(self.state.id)
            || self.planted.has(Bug::WrongVotersMajority);
        (!next || !votes).then(|| FromVoter::Missing { epoch: self.epoch() })
    }

    /// The ballot of another proposer that is still at work. A matter of progress, not of safety:
    /// without it proposers of different wishes would outbid each other for ever.
    fn busy_with(&self, now: Duration, ballot: Ballot) -> Option<Ballot> {
        let standing = self.standing.filter(|it| it.ballot.proposer != ballot.proposer)?;
        let at_work = now < standing.heard + self.parameters().proposer_silence();
        let in_time = now < standing.since + self.parameters().quiet_time() * 2;
        (at_work && in_time).then_some(standing.ballot)
    }

    fn higher_promise(&self, ballot: Ballot) -> Option<Ballot> {
        let higher = self.state.promised.filter(|promised| *promised > ballot);
        higher.filter(|_| !self.planted.has(Bug::PromiseUnchecked))
    }

    /// Writers of the installed record whose leases have run out.
    fn lapsed(&self) -> Vec<Writer> {
        let reported =
            self.watches.iter().filter(|(_, watch)| watch.reported).map(|(writer, _)| writer);
        reported.filter(|writer| self.state.installed.names(writer)).cloned().collect()
    }

    fn persist(&self) -> VoterAction {
        VoterAction::Persist(Box::new(self.state.clone()))
    }

    fn epoch(&self) -> Epoch {
        self.state.installed.epoch()
    }

    fn parameters(&self) -> LeaseParameters {
        self.state.installed.parameters()
    }
}

fn send(to: PodId, message: FromVoter) -> VoterAction {
    VoterAction::Send { to, message }
}

/// The smallest time that passes between two readings that differ.
const GRAIN: Duration = Duration::from_nanos(1);

#[cfg(test)]
mod tests;
