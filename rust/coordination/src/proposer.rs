//! The proposer: gets one record chosen for one epoch, or learns which one was.

use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use crate::message::{Ballot, FromVoter, ToPeer, ToVoter};
use crate::planted::{Bug, Planted};
use crate::record::{Record, VoterId, Writer};

/// What a proposer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposerAction {
    /// Send a message to a voter.
    ToVoter(VoterId, ToVoter),
    /// Send a message to the member of another pod.
    ToPeer(PodId, ToPeer),
    /// A majority accepted this record, or a voter has it installed: install it and tell others.
    Chosen(Record),
    /// The try came to nothing; another one may be made.
    Failed,
}

/// One member's tries to get a record chosen, one at a time.
#[derive(Clone, Debug)]
pub struct Proposer {
    attempt: Option<Attempt>,
    /// The highest round seen; the next try goes above it.
    round: u64,
    planted: Planted,
}

#[derive(Clone, Debug)]
struct Attempt {
    before: Record,
    ballot: Ballot,
    wish: Record,
    stop: Vec<Writer>,
    phase: Phase,
    send_at: Duration,
    give_up_at: Duration,
}

#[derive(Clone, Debug)]
enum Phase {
    Preparing { promised: BTreeMap<VoterId, Option<(Ballot, Record)>> },
    Voting { record: Record, released: Vec<Writer>, accepted: Vec<VoterId> },
}

impl Proposer {
    /// A proposer without a try.
    #[must_use]
    pub fn new(planted: Planted) -> Self {
        Self { attempt: None, round: 0, planted }
    }

    /// Whether a try is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.attempt.is_some()
    }

    /// When [`Proposer::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.attempt.as_ref().map(|attempt| attempt.send_at.min(attempt.give_up_at))
    }

    /// Begins a try to make `wish` the record after `before`. Writers in `stop` are presumed dead
    /// and get no more renewals meanwhile. `dice` is a random number never used before.
    pub fn propose(
        &mut self,
        now: Duration,
        before: &Record,
        wish: Record,
        stop: Vec<Writer>,
        dice: u64,
    ) -> Vec<ProposerAction> {
        self.round += 1;
        let ballot = Ballot { round: self.round, proposer: dice };
        self.attempt = Some(Attempt {
            before: before.clone(),
            ballot,
            wish,
            stop,
            phase: Phase::Preparing { promised: BTreeMap::new() },
            send_at: now,
            give_up_at: now + PREPARE_TIME,
        });
        self.tick(now)
    }

    /// Gives the present try up, if there is one.
    pub fn abandon(&mut self) {
        self.attempt = None;
    }

    /// Sends again what was not answered, or gives up.
    pub fn tick(&mut self, now: Duration) -> Vec<ProposerAction> {
        let Some(attempt) = &mut self.attempt else { return Vec::new() };
        if now >= attempt.give_up_at {
            self.attempt = None;
            return vec![ProposerAction::Failed];
        }
        if now < attempt.send_at {
            return Vec::new();
        }
        attempt.send_at = now + RESEND_INTERVAL;
        attempt.calls()
    }

    /// Handles a voter's answer.
    pub fn handle(
        &mut self,
        now: Duration,
        by: VoterId,
        message: &FromVoter,
    ) -> Vec<ProposerAction> {
        let Some(attempt) = &mut self.attempt else { return Vec::new() };
        match message {
            FromVoter::Promised { epoch, ballot, accepted } if attempt.is(*epoch, *ballot) => {
                attempt.promised(now, by, accepted.clone(), self.planted)
            }
            FromVoter::Accepted { epoch, ballot } if attempt.is(*epoch, *ballot) => {
                let chosen = attempt.accepted(by, self.planted);
                self.finish(chosen)
            }
            FromVoter::Guarded { epoch, ballot, remaining } if attempt.is(*epoch, *ballot) => {
                attempt.send_at = attempt.send_at.min(now + *remaining);
                Vec::new()
            }
            FromVoter::Outbid { epoch, promised } if attempt.wish.epoch() == *epoch => {
                self.round = self.round.max(promised.round);
                if attempt.ballot < *promised {
                    self.attempt = None;
                    return vec![ProposerAction::Failed];
                }
                Vec::new()
            }
            FromVoter::Decided { record } if record.epoch() >= attempt.wish.epoch() => {
                self.finish(Some(record.clone()))
            }
            FromVoter::Missing { epoch } if *epoch < attempt.before.epoch() => {
                let record = attempt.before.clone();
                let mut actions = vec![ProposerAction::ToVoter(by, ToVoter::Install { record })];
                actions.extend(attempt.calls_to(by));
                actions
            }
            FromVoter::Promised { .. }
            | FromVoter::Accepted { .. }
            | FromVoter::Guarded { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. }
            | FromVoter::Renewed { .. }
            | FromVoter::Refused { .. }
            | FromVoter::Heard { .. }
            | FromVoter::Lapsed { .. } => Vec::new(),
        }
    }

    /// A writer has stopped for what it loses in the record of this ballot.
    pub fn released(
        &mut self,
        epoch: Epoch,
        ballot: Ballot,
        writer: Writer,
    ) -> Vec<ProposerAction> {
        let Some(attempt) = &mut self.attempt else { return Vec::new() };
        if !attempt.is(epoch, ballot) {
            return Vec::new();
        }
        let Phase::Voting { released, .. } = &mut attempt.phase else { return Vec::new() };
        if released.contains(&writer) {
            return Vec::new();
        }
        released.push(writer);
        attempt.calls()
    }

    fn finish(&mut self, chosen: Option<Record>) -> Vec<ProposerAction> {
        let Some(record) = chosen else { return Vec::new() };
        self.attempt = None;
        vec![ProposerAction::Chosen(record)]
    }
}

impl Attempt {
    fn is(&self, epoch: Epoch, ballot: Ballot) -> bool {
        self.wish.epoch() == epoch && self.ballot == ballot
    }

    fn promised(
        &mut self,
        now: Duration,
        by: VoterId,
        accepted: Option<(Ballot, Record)>,
        planted: Planted,
    ) -> Vec<ProposerAction> {
        let Phase::Preparing { promised } = &mut self.phase else { return Vec::new() };
        promised.insert(by, accepted);
        let voters = if planted.has(Bug::WrongVotersMajority) { &self.wish } else { &self.before };
        let count = promised.keys().filter(|voter| voters.has_voter(**voter)).count();
        if count < self.before.majority() {
            return Vec::new();
        }
        // A record that a majority may have accepted already must be proposed again.
        let earlier = promised.values().flatten().max_by_key(|(ballot, _)| *ballot);
        let record = match earlier {
            Some((_, record)) if !planted.has(Bug::AcceptedIgnored) => record.clone(),
            Some(_) | None => self.wish.clone(),
        };
        self.phase = Phase::Voting { record, released: Vec::new(), accepted: Vec::new() };
        self.give_up_at = now + self.before.parameters().quiet_time() * 2;
        self.send_at = now + RESEND_INTERVAL;
        self.calls()
    }

    fn accepted(&mut self, by: VoterId, planted: Planted) -> Option<Record> {
        let Phase::Voting { record, accepted, .. } = &mut self.phase else { return None };
        if !self.before.has_voter(by) || accepted.contains(&by) {
            return None;
        }
        accepted.push(by);
        let needed = if planted.has(Bug::ChosenByOne) { 1 } else { self.before.majority() };
        (accepted.len() >= needed).then(|| record.clone())
    }

    /// What is to be sent in this phase to whoever has not answered.
    fn calls(&self) -> Vec<ProposerAction> {
        let voters = self.before.voters().iter();
        let mut actions: Vec<_> = voters.flat_map(|entry| self.calls_to(entry.id)).collect();
        if let Phase::Voting { record, released, .. } = &self.phase {
            let waiting = self.before.losers(record);
            actions.extend(waiting.into_iter().filter(|writer| !released.contains(writer)).map(
                |writer| {
                    let message =
                        ToPeer::AskRelease { ballot: self.ballot, record: record.clone() };
                    ProposerAction::ToPeer(writer.pod, message)
                },
            ));
        }
        actions
    }

    fn calls_to(&self, voter: VoterId) -> Option<ProposerAction> {
        let ballot = self.ballot;
        let message = match &self.phase {
            Phase::Preparing { promised } if !promised.contains_key(&voter) => {
                let (epoch, stop) = (self.wish.epoch(), self.stop.clone());
                ToVoter::Prepare { epoch, ballot, stop }
            }
            Phase::Voting { record, released, accepted } if !accepted.contains(&voter) => {
                let (record, released) = (record.clone(), released.clone());
                ToVoter::Accept { ballot, record, released }
            }
            Phase::Preparing { .. } | Phase::Voting { .. } => return None,
        };
        Some(ProposerAction::ToVoter(voter, message))
    }
}

/// Within this a majority promises, or the try is given up: a round trip with a disk sync, with
/// room for a slow disk.
const PREPARE_TIME: Duration = Duration::from_millis(100);

/// After this without an answer a call is sent again.
const RESEND_INTERVAL: Duration = Duration::from_millis(25);
