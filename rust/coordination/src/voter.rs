//! The voter: grants leases and votes on the next record, never both against each other.

use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use crate::lease::LeaseParameters;
use crate::message::{Ballot, FromVoter, Refusal, Sequence, ToVoter};
use crate::planted::{Bug, Planted};
use crate::record::{Record, VoterId, Writer};

/// What a voter must not forget over a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterState {
    /// Its name, and that of its disk.
    pub id: VoterId,
    /// The newest record that it knows to be chosen.
    pub installed: Record,
    /// The highest ballot for the next epoch in which it promised to take part.
    pub promised: Option<Ballot>,
    /// What it accepted for the next epoch, and in which ballot.
    pub accepted: Option<(Ballot, Record)>,
}

/// What a voter asks its shell to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoterAction {
    /// Make this state durable before anything after it is carried out.
    Persist(Box<VoterState>),
    /// Send a message.
    Send {
        /// To the member of this pod.
        to: PodId,
        /// What.
        message: FromVoter,
    },
}

/// One voter of a cluster. See the module of the crate for how to drive it.
#[derive(Clone, Debug)]
pub struct Voter {
    state: VoterState,
    /// Until when each writer must be assumed to write. Forgotten over a restart: see `quiet_until`.
    guards: BTreeMap<Writer, Guarding>,
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
#[derive(Clone, Copy, Debug)]
struct Guarding {
    /// No renewal is known that could let the writer write after this.
    until: Duration,
    /// The last renewal that was granted.
    granted: Option<Sequence>,
    /// The last renewal that the writer renounced; none of them is granted again.
    renounced: Option<Sequence>,
    /// Whether members were told that the lease has run out.
    reported: bool,
}

impl Guarding {
    fn unheard(until: Duration) -> Self {
        Self { until, granted: None, renounced: None, reported: false }
    }
}

#[derive(Clone, Debug)]
struct Hold {
    writers: Vec<Writer>,
    until: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    ballot: Ballot,
    since: Duration,
    heard: Duration,
}

impl Voter {
    /// A voter that starts with what its disk holds. Nothing it granted before is known, so it is
    /// quiet at first.
    #[must_use]
    pub fn new(state: VoterState, now: Duration) -> Self {
        Self::with_planted(state, now, Planted::default())
    }

    /// The same with a wrong rule, for the simulator.
    #[must_use]
    pub fn with_planted(state: VoterState, now: Duration, planted: Planted) -> Self {
        let quiet = state.installed.parameters().quiet_time();
        let quiet_until = if planted.has(Bug::NoQuietTime) { now } else { now + quiet };
        let mut voter = Self {
            state,
            guards: BTreeMap::new(),
            quiet_until,
            held: None,
            standing: None,
            planted,
        };
        voter.watch_writers(now);
        voter
    }

    /// What the voter knows durably.
    #[must_use]
    pub fn state(&self) -> &VoterState {
        &self.state
    }

    /// Until when `writer` must be assumed to hold a lease, as far as this voter's grants go.
    #[must_use]
    pub fn guard_until(&self, writer: &Writer) -> Option<Duration> {
        self.guards.get(writer).map(|guarding| guarding.until)
    }

    /// When [`Voter::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.guards
            .values()
            .filter(|guarding| !guarding.reported)
            .map(|guarding| guarding.until.max(self.quiet_until))
            .min()
    }

    /// Tells members which leases have run out since the last call.
    pub fn tick(&mut self, now: Duration) -> Vec<VoterAction> {
        let quiet = now < self.quiet_until;
        let mut news = false;
        for guarding in self.guards.values_mut().filter(|it| !it.reported) {
            if !quiet && now >= guarding.until {
                guarding.reported = true;
                news = true;
            }
        }
        if !news {
            return Vec::new();
        }
        let epoch = self.state.installed.epoch();
        let writers = self.lapsed();
        let alive = self.state.installed.writers().keys().cloned();
        let message = FromVoter::Lapsed { epoch, writers };
        alive.map(|pod| send(pod, message.clone())).collect()
    }

    /// Handles a message.
    pub fn handle(&mut self, now: Duration, from: PodId, message: ToVoter) -> Vec<VoterAction> {
        match message {
            ToVoter::Renew { epoch, writer, sequence } => {
                self.renew(now, from, epoch, writer, sequence)
            }
            ToVoter::Probe { epoch, writer, sequence } => {
                let newer = (epoch < self.epoch()).then(|| self.state.installed.clone());
                let lapsed = self.lapsed();
                vec![send(from, FromVoter::Heard { writer, sequence, newer, lapsed })]
            }
            ToVoter::Renounce { writer, sequence } => {
                self.renounce(now, writer, sequence);
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

    fn renew(
        &mut self,
        now: Duration,
        from: PodId,
        epoch: Epoch,
        writer: Writer,
        sequence: Sequence,
    ) -> Vec<VoterAction> {
        if let Some(refusal) = self.refusal(now, epoch, &writer, sequence) {
            return vec![send(from, FromVoter::Refused { writer, sequence, refusal })];
        }
        let until = now + self.parameters().ttl;
        let guarding = self.guards.entry(writer.clone()).or_insert(Guarding::unheard(until));
        guarding.until = guarding.until.max(until);
        guarding.granted = guarding.granted.max(Some(sequence));
        guarding.reported = false;
        let lapsed = self.lapsed();
        vec![send(from, FromVoter::Renewed { epoch, writer, sequence, lapsed })]
    }

    /// Why this renewal is not granted, if it is not.
    fn refusal(
        &self,
        now: Duration,
        epoch: Epoch,
        writer: &Writer,
        sequence: Sequence,
    ) -> Option<Refusal> {
        let installed = &self.state.installed;
        if epoch < installed.epoch() {
            return Some(Refusal::Behind(installed.clone()));
        }
        if epoch > installed.epoch() {
            return Some(Refusal::Ahead);
        }
        if !installed.has_voter(self.state.id) {
            return Some(Refusal::NotAVoter);
        }
        if !installed.names(writer) {
            return Some(Refusal::NotNamed);
        }
        if let Some((_, accepted)) = &self.state.accepted
            && !self.planted.has(Bug::GrantAfterAccept)
            && (installed.losers(accepted).contains(writer) || self.changes_voters(accepted))
        {
            return Some(Refusal::Pending(accepted.clone()));
        }
        let renounced = self.guards.get(writer).and_then(|guarding| guarding.renounced);
        if renounced >= Some(sequence) && !self.planted.has(Bug::RenounceForgotten) {
            return Some(Refusal::Renounced);
        }
        let held = self.held.as_ref().filter(|hold| now < hold.until);
        held.filter(|hold| hold.writers.contains(writer)).map(|_| Refusal::Held)
    }

    fn renounce(&mut self, now: Duration, writer: Writer, sequence: Sequence) {
        if !self.state.installed.names(&writer) {
            return;
        }
        let guarding = self.guards.entry(writer).or_insert(Guarding::unheard(now));
        if guarding.renounced >= Some(sequence) {
            return;
        }
        guarding.renounced = Some(sequence);
        // A renewal granted after the renounced one still counts.
        if guarding.granted <= Some(sequence) {
            guarding.until = guarding.until.min(now);
            guarding.reported = false;
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
        self.standing = Some(Standing { ballot, since: now, heard: now });
        let until = now + self.parameters().ttl * 2;
        self.held = Some(Hold { writers: stop, until });
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
        if record.check_follows(&self.state.installed).is_err() {
            return Vec::new();
        }
        if let Some(standing) = self.standing.as_mut().filter(|it| it.ballot == ballot) {
            standing.heard = now;
        }
        let remaining = self.guarded_for(now, &record, released);
        if remaining > Duration::ZERO {
            return vec![send(from, FromVoter::Guarded { epoch, ballot, remaining })];
        }
        self.state.promised = Some(ballot);
        self.state.accepted = Some((ballot, record));
        vec![self.persist(), send(from, FromVoter::Accepted { epoch, ballot })]
    }

    /// For how long a writer that loses something in `record`, and has not released it, must still
    /// be assumed to write. Zero if none must.
    fn guarded_for(&self, now: Duration, record: &Record, released: &[Writer]) -> Duration {
        if self.planted.has(Bug::NoGuardAtVote) {
            return Duration::ZERO;
        }
        let losers = self.state.installed.losers(record);
        losers
            .iter()
            .filter(|writer| !released.contains(writer))
            .filter_map(|writer| self.guards.get(writer))
            .map(|guarding| guarding.until.max(self.quiet_until))
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
        }
        self.state.installed = record;
        self.state.promised = None;
        self.state.accepted = None;
        self.held = None;
        self.standing = None;
        self.watch_writers(now);
        vec![self.persist()]
    }

    /// Writers that no guard is known for are watched from now on, so that one that never renews
    /// is reported; guards of processes that left are dropped once they have run out.
    fn watch_writers(&mut self, now: Duration) {
        let installed = self.state.installed.clone();
        self.guards.retain(|writer, guarding| installed.names(writer) || guarding.until > now);
        let until = now + self.parameters().ttl;
        for (pod, incarnation) in installed.writers() {
            let writer = Writer { pod: pod.clone(), incarnation: *incarnation };
            self.guards.entry(writer).or_insert(Guarding::unheard(until));
        }
    }

    /// Answers a proposer that wants to decide another epoch than the next one here.
    fn wrong_epoch(&self, epoch: Epoch) -> Option<FromVoter> {
        if epoch <= self.epoch() {
            return Some(FromVoter::Decided { record: self.state.installed.clone() });
        }
        if self.epoch().next().ok() != Some(epoch) {
            return Some(FromVoter::Missing { epoch: self.epoch() });
        }
        let voter = self.state.installed.has_voter(self.state.id);
        (!voter && !self.planted.has(Bug::StrangerVotes))
            .then(|| FromVoter::Missing { epoch: self.epoch() })
    }

    /// The lower ballot of another proposer that is still at work. A matter of progress, not of
    /// safety: without it proposers of different wishes would outbid each other for ever.
    fn busy_with(&self, now: Duration, ballot: Ballot) -> Option<Ballot> {
        let standing = self.standing.filter(|it| it.ballot.proposer != ballot.proposer)?;
        let at_work = now < standing.heard + PROPOSER_SILENCE;
        let in_time = now < standing.since + self.parameters().quiet_time() * 2;
        (at_work && in_time).then_some(standing.ballot)
    }

    fn higher_promise(&self, ballot: Ballot) -> Option<Ballot> {
        let higher = self.state.promised.filter(|promised| *promised > ballot);
        higher.filter(|_| !self.planted.has(Bug::PromiseUnchecked))
    }

    fn changes_voters(&self, accepted: &Record) -> bool {
        !self.planted.has(Bug::GrantAcrossVoters)
            && accepted.voters() != self.state.installed.voters()
    }

    /// Writers of the installed record whose guards have run out.
    fn lapsed(&self) -> Vec<Writer> {
        let named = self.guards.iter().filter(|(writer, _)| self.state.installed.names(writer));
        named.filter(|(_, guarding)| guarding.reported).map(|(writer, _)| writer.clone()).collect()
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

/// A proposer at work repeats itself more often than this.
const PROPOSER_SILENCE: Duration = Duration::from_millis(75);

/// The smallest time that passes between two readings that differ.
const GRAIN: Duration = Duration::from_nanos(1);
