//! The proposer: gets one record chosen for one epoch, or learns which one was.

use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use crate::lease::LeaseParameters;
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
    Chosen {
        /// The record.
        record: Record,
        /// Whether this very try brought it about: it is what was wished for, no voter of the
        /// majority had accepted it before, and a majority has in this ballot.
        own: bool,
    },
    /// The try came to nothing; another one may be made.
    Failed,
}

/// What is to be decided.
#[derive(Clone, Debug, Hash)]
pub struct Wish {
    /// The record that counts now.
    pub before: Record,
    /// The one that should follow it.
    pub record: Record,
    /// Writers that are presumed dead: nobody waits for their release, and they get no more
    /// renewals meanwhile.
    pub stop: Vec<Writer>,
    /// Who is asked first whether it would release what it loses. Nobody stops writing before all
    /// of them have answered: a wish that cannot come true must not interrupt anybody.
    pub ask_first: Vec<Writer>,
}

/// One member's tries to get a record chosen, one at a time.
#[derive(Clone, Debug, Hash)]
pub struct Proposer {
    attempt: Option<Attempt>,
    /// The highest round seen; the next try goes above it.
    round: u64,
    planted: Planted,
}

#[derive(Clone, Debug, Hash)]
struct Attempt {
    wish: Wish,
    ballot: Ballot,
    phase: Phase,
    send_at: Duration,
    give_up_at: Duration,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    Asking {
        ready: Vec<Writer>,
    },
    Preparing {
        promised: BTreeMap<VoterId, Option<(Ballot, Record)>>,
    },
    /// `reached` have the record: they voted for it, or wait for guards to run out.
    Voting {
        record: Record,
        own: bool,
        released: Vec<Writer>,
        reached: Vec<VoterId>,
        accepted: Vec<VoterId>,
    },
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

    /// Whether the try under way has asked nothing of anybody yet but whether they are there.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| matches!(attempt.phase, Phase::Asking { .. }))
    }

    /// When [`Proposer::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.attempt.as_ref().map(|attempt| attempt.send_at.min(attempt.give_up_at))
    }

    /// Begins a try to make the wish come true. `dice` is a random number never used before.
    pub fn propose(&mut self, now: Duration, wish: Wish, dice: u64) -> Vec<ProposerAction> {
        self.round += 1;
        let ballot = Ballot { round: self.round, proposer: dice };
        let phase = if wish.ask_first.is_empty() {
            Phase::Preparing { promised: BTreeMap::new() }
        } else {
            Phase::Asking { ready: Vec::new() }
        };
        let (send_at, give_up_at) = (now, now + wish.before.parameters().answer_time());
        self.attempt = Some(Attempt { wish, ballot, phase, send_at, give_up_at });
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
        attempt.send_at = now + attempt.parameters().resend_interval();
        attempt.calls(self.planted)
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
                match attempt.accepted(by, self.planted) {
                    Some((record, own)) => self.finish(record, own),
                    None => attempt.reached(by, self.planted),
                }
            }
            FromVoter::Guarded { epoch, ballot, remaining } if attempt.is(*epoch, *ballot) => {
                attempt.send_at = attempt.send_at.min(now + *remaining);
                attempt.reached(by, self.planted)
            }
            FromVoter::Outbid { epoch, promised } if attempt.epoch() == *epoch => {
                self.round = self.round.max(promised.round);
                if attempt.ballot < *promised {
                    self.attempt = None;
                    return vec![ProposerAction::Failed];
                }
                Vec::new()
            }
            FromVoter::Decided { record } if record.epoch() >= attempt.epoch() => {
                self.finish(record.clone(), false)
            }
            FromVoter::Missing { epoch } if *epoch < attempt.wish.before.epoch() => {
                let record = attempt.wish.before.clone();
                let mut actions = vec![ProposerAction::ToVoter(by, ToVoter::Install { record })];
                actions.extend(attempt.call_to(by));
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

    /// A writer is there, and would release what it loses.
    pub fn ready(
        &mut self,
        now: Duration,
        epoch: Epoch,
        ballot: Ballot,
        writer: Writer,
    ) -> Vec<ProposerAction> {
        let Some(attempt) = &mut self.attempt else { return Vec::new() };
        if !attempt.is(epoch, ballot) {
            return Vec::new();
        }
        let Phase::Asking { ready } = &mut attempt.phase else { return Vec::new() };
        ready.push(writer);
        if !attempt.wish.ask_first.iter().all(|writer| ready.contains(writer)) {
            return Vec::new();
        }
        attempt.phase = Phase::Preparing { promised: BTreeMap::new() };
        attempt.send_at = now + attempt.parameters().resend_interval();
        attempt.give_up_at = now + attempt.parameters().answer_time();
        attempt.calls(self.planted)
    }

    /// A writer has stopped for what it loses in the record of this ballot.
    pub fn released(
        &mut self,
        epoch: Epoch,
        ballot: Ballot,
        writer: Writer,
    ) -> Vec<ProposerAction> {
        let Some(attempt) = &mut self.attempt else { return Vec::new() };
        // A release for the record of another try says nothing about this one.
        let other_try = !attempt.is(epoch, ballot) && !self.planted.has(Bug::ReleaseOfOtherTry);
        if other_try || attempt.epoch() != epoch {
            return Vec::new();
        }
        let Phase::Voting { released, .. } = &mut attempt.phase else { return Vec::new() };
        if released.contains(&writer) {
            return Vec::new();
        }
        released.push(writer);
        attempt.calls(self.planted)
    }

    fn finish(&mut self, record: Record, own: bool) -> Vec<ProposerAction> {
        self.attempt = None;
        vec![ProposerAction::Chosen { record, own }]
    }
}

impl Attempt {
    fn epoch(&self) -> Epoch {
        self.wish.record.epoch()
    }

    fn parameters(&self) -> LeaseParameters {
        self.wish.before.parameters()
    }

    fn is(&self, epoch: Epoch, ballot: Ballot) -> bool {
        self.epoch() == epoch && self.ballot == ballot
    }

    /// Whose votes count: the voters of the record *before* decide on the next.
    fn electorate(&self, planted: Planted) -> &Record {
        if planted.has(Bug::WrongVotersMajority) { &self.wish.record } else { &self.wish.before }
    }

    fn promised(
        &mut self,
        now: Duration,
        by: VoterId,
        earlier: Option<(Ballot, Record)>,
        planted: Planted,
    ) -> Vec<ProposerAction> {
        let (counts, needed) =
            (self.electorate(planted).has_voter(by), self.electorate(planted).majority());
        let Phase::Preparing { promised } = &mut self.phase else { return Vec::new() };
        if !counts {
            return Vec::new();
        }
        promised.insert(by, earlier);
        if promised.len() < needed {
            return Vec::new();
        }
        // A record that a majority may have accepted already must be proposed again.
        let earlier = promised.values().flatten().max_by_key(|(ballot, _)| *ballot);
        let earlier = earlier.filter(|_| !planted.has(Bug::AcceptedIgnored));
        let own = earlier.is_none();
        let record = earlier.map_or_else(|| self.wish.record.clone(), |(_, record)| record.clone());
        let (released, reached, accepted) = (Vec::new(), Vec::new(), Vec::new());
        self.phase = Phase::Voting { record, own, released, reached, accepted };
        self.give_up_at = now + self.parameters().quiet_time() * 2;
        self.send_at = now + self.parameters().resend_interval();
        self.calls(planted)
    }

    fn accepted(&mut self, by: VoterId, planted: Planted) -> Option<(Record, bool)> {
        let (counts, needed) =
            (self.electorate(planted).has_voter(by), self.electorate(planted).majority());
        let Phase::Voting { record, own, accepted, .. } = &mut self.phase else { return None };
        if !counts || accepted.contains(&by) {
            return None;
        }
        accepted.push(by);
        let needed = if planted.has(Bug::ChosenByOne) { 1 } else { needed };
        (accepted.len() >= needed).then(|| (record.clone(), *own))
    }

    /// A voter has the record. Once a majority has, those that lose something are asked for it: what
    /// they give up is nobody's until a majority has voted, and so nobody waits meanwhile for a
    /// record to travel, or to be read.
    fn reached(&mut self, by: VoterId, planted: Planted) -> Vec<ProposerAction> {
        let (counts, needed) =
            (self.electorate(planted).has_voter(by), self.electorate(planted).majority());
        let Phase::Voting { reached, .. } = &mut self.phase else { return Vec::new() };
        if !counts || reached.contains(&by) {
            return Vec::new();
        }
        reached.push(by);
        if reached.len() == needed { self.calls_for_release(planted) } else { Vec::new() }
    }

    /// Who loses something and has not released it is asked to, if a majority has the record.
    fn calls_for_release(&self, planted: Planted) -> Vec<ProposerAction> {
        let Phase::Voting { record, released, reached, .. } = &self.phase else {
            return Vec::new();
        };
        if reached.len() < self.electorate(planted).majority() {
            return Vec::new();
        }
        let losers = self.wish.before.shared_losers(record);
        let waiting = losers.iter().filter(|writer| !released.contains(writer));
        let ask = |writer: &Writer| {
            let message = ToPeer::AskRelease { ballot: self.ballot, record: record.clone() };
            ProposerAction::ToPeer(writer.pod.clone(), message)
        };
        waiting.map(ask).collect()
    }

    /// What is to be sent in this phase to whoever has not answered.
    fn calls(&self, planted: Planted) -> Vec<ProposerAction> {
        let (ballot, epoch) = (self.ballot, self.epoch());
        let voters = self.electorate(planted).voters().iter();
        let mut actions: Vec<_> = voters.filter_map(|entry| self.call_to(entry.id)).collect();
        match &self.phase {
            Phase::Asking { ready } => {
                let waiting = self.wish.ask_first.iter().filter(|writer| !ready.contains(writer));
                actions.extend(waiting.map(|writer| {
                    let message = ToPeer::AskReady { ballot, epoch };
                    ProposerAction::ToPeer(writer.pod.clone(), message)
                }));
            }
            Phase::Preparing { .. } => {}
            Phase::Voting { .. } => actions.extend(self.calls_for_release(planted)),
        }
        actions
    }

    fn call_to(&self, voter: VoterId) -> Option<ProposerAction> {
        let ballot = self.ballot;
        let message = match &self.phase {
            Phase::Preparing { promised } if !promised.contains_key(&voter) => {
                let (epoch, stop) = (self.epoch(), self.wish.stop.clone());
                ToVoter::Prepare { epoch, ballot, stop }
            }
            Phase::Voting { record, released, accepted, .. } if !accepted.contains(&voter) => {
                let (record, released) = (record.clone(), released.clone());
                ToVoter::Accept { ballot, record, released }
            }
            Phase::Asking { .. } | Phase::Preparing { .. } | Phase::Voting { .. } => return None,
        };
        Some(ProposerAction::ToVoter(voter, message))
    }
}

#[cfg(test)]
mod tests;
