//! The voter of a process whose cluster's record lies in a store: it grants leases, and votes on
//! intents.
//!
//! It is the very [`Voter`] of the engine without a store, and the store is its disk: the record
//! there is what it has installed, and what it votes for is the intent, in the ballot that is the
//! revision of the intent. Both are written before it hears of them, so it has nothing to write
//! down, and a voter that starts again reads its vote where it was. That a vote becomes void is
//! said by the store as well: an intent that is gone, and not the record, is none any more.

use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use super::{RegisterAction, Revision};
use crate::message::{Ballot, FromVoter, ToVoter};
use crate::planted::{Bug, Planted};
use crate::record::{Record, VoterId, Writer};
use crate::voter::{Voter, VoterAction, VoterState};

/// A voter, once the store was read.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    id: VoterId,
    /// Whom it answers in what the store says: nobody hears that.
    me: PodId,
    voter: Option<Voter>,
    /// What it has voted for.
    said: Option<Ballot>,
    /// The vote that it cannot give yet, and whom it waits for.
    waiting: Option<Waiting>,
    planted: Planted,
}

/// A vote that is to be given when those who lose something have stopped, or their leases have run
/// out here.
#[derive(Clone, Debug)]
struct Waiting {
    ballot: Ballot,
    epoch: Epoch,
    live: Vec<Writer>,
    /// When it is tried again.
    until: Duration,
}

/// An intent that follows the record, as it is put to the vote.
pub(super) struct Motion {
    pub(super) record: Record,
    pub(super) revision: Revision,
    /// Who has said in the store that it has stopped.
    pub(super) released: Vec<Writer>,
    /// Who hears of the vote.
    pub(super) tell: Vec<PodId>,
}

impl Seat {
    pub(super) fn new(id: VoterId, me: PodId, planted: Planted) -> Self {
        Self { id, me, voter: None, said: None, waiting: None, planted }
    }

    pub(super) fn voter(&self) -> Option<&Voter> {
        self.voter.as_ref()
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Duration {
        let voter = self.voter.as_ref().and_then(Voter::deadline);
        let waiting = self.waiting.as_ref().map(|it| it.until);
        [voter, waiting].into_iter().flatten().min().unwrap_or(Duration::MAX)
    }

    /// Whether it has to be asked again for a vote.
    pub(super) fn is_to_be_asked(&self, now: Duration) -> bool {
        self.waiting.as_ref().is_some_and(|it| now >= it.until)
    }

    /// Tells members which leases have run out since the last call.
    pub(super) fn tick(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(voter) = &mut self.voter else { return Vec::new() };
        said(voter.tick(now)).collect()
    }

    /// The record that the store has, and the intent, if there is one that may follow it. The first
    /// time, this is what a voter begins with that has just started.
    pub(super) fn follow(
        &mut self,
        now: Duration,
        record: &Record,
        motion: Option<Motion>,
    ) -> Vec<RegisterAction> {
        self.waiting = None;
        let accepted = motion.as_ref().map(|it| (ballot(it.revision), it.record.clone()));
        let voter = self.voter.get_or_insert_with(|| {
            let accepted = accepted.filter(|_| !self.planted.has(Bug::IntentUnread));
            let first = VoterState::first(self.id, record.clone());
            Voter::with_planted(VoterState { accepted, ..first }, now, self.planted)
        });
        if record.epoch() > voter.state().installed.epoch() {
            let record = record.clone();
            voter.handle(now, self.me.clone(), ToVoter::Install { record });
        }
        let Some(motion) = motion else { return Vec::new() };
        let ballot = ballot(motion.revision);
        // Two intents that follow one record: the earlier one was withdrawn before the later came.
        if voter.state().accepted.as_ref().is_some_and(|(known, _)| *known < ballot) {
            voter.forget_vote();
        }
        if self.has_said(ballot) { Vec::new() } else { self.put_to_vote(now, ballot, motion) }
    }

    fn put_to_vote(
        &mut self,
        now: Duration,
        ballot: Ballot,
        motion: Motion,
    ) -> Vec<RegisterAction> {
        let Some(voter) = &mut self.voter else { return Vec::new() };
        let Motion { record, released, tell, .. } = motion;
        let epoch = record.epoch();
        if voter.state().promised != Some(ballot) {
            // Who is not named any more is presumed dead: no renewal of it is worth a wait.
            let losers = voter.state().installed.losers(&record).into_iter();
            let stop = losers.filter(|writer| !record.names(writer)).collect();
            voter.handle(now, self.me.clone(), ToVoter::Prepare { epoch, ballot, stop });
        }
        let mut live = voter.state().installed.losers(&record);
        live.retain(|writer| !released.contains(writer));
        let asked = ToVoter::Accept { ballot, record, released };
        let answers = voter.handle(now, self.me.clone(), asked);
        let answer = answers.into_iter().find_map(|action| match action {
            VoterAction::Send { message, .. } => Some(message),
            VoterAction::Persist(_) | VoterAction::AwaitDisk => None,
        });
        match answer {
            Some(FromVoter::Accepted { .. }) => {
                self.said = Some(ballot);
                let vote =
                    |pod| RegisterAction::FromVoter(pod, FromVoter::Accepted { epoch, ballot });
                tell.into_iter().map(vote).collect()
            }
            Some(FromVoter::Guarded { remaining, .. }) => {
                self.waiting = Some(Waiting { ballot, epoch, live, until: now + remaining });
                Vec::new()
            }
            // It goes by a newer record already; or is none of its voters.
            _ => Vec::new(),
        }
    }

    /// The intent that was voted for, if one was, is gone, and is not the record.
    pub(super) fn withdrawn(&mut self) {
        if let Some(voter) = &mut self.voter {
            voter.forget_vote();
        }
        (self.said, self.waiting) = (None, None);
    }

    /// A member asks for a lease, or tells of a record. Votes are asked for in the store alone.
    pub(super) fn asked(
        &mut self,
        now: Duration,
        from: PodId,
        message: ToVoter,
    ) -> Vec<RegisterAction> {
        let Some(voter) = &mut self.voter else { return Vec::new() };
        let caller = match &message {
            ToVoter::Prepare { .. } | ToVoter::Accept { .. } => return Vec::new(),
            ToVoter::Renew { writer, .. } | ToVoter::Probe { writer, .. } => Some(writer.clone()),
            ToVoter::Renounce { .. } | ToVoter::Install { .. } => None,
        };
        let mut actions: Vec<_> = said(voter.handle(now, from.clone(), message)).collect();
        actions.extend(caller.and_then(|caller| self.also_says(now, from, &caller)));
        actions
    }

    /// What a caller hears beside its answer. A vote may have been lost on its way; and whoever a
    /// vote waits for may not hear the store.
    fn also_says(&self, now: Duration, to: PodId, caller: &Writer) -> Option<RegisterAction> {
        let accepted = self.voter.as_ref()?.state().accepted.as_ref();
        if let Some((ballot, record)) = accepted.filter(|(ballot, _)| self.has_said(*ballot)) {
            let vote = FromVoter::Accepted { epoch: record.epoch(), ballot: *ballot };
            return Some(RegisterAction::FromVoter(to, vote));
        }
        let waiting = self.waiting.as_ref().filter(|it| it.live.contains(caller))?;
        let Waiting { ballot, epoch, until, .. } = *waiting;
        let remaining = until.saturating_sub(now);
        Some(RegisterAction::FromVoter(to, FromVoter::Guarded { epoch, ballot, remaining }))
    }

    /// Whether it has voted in this ballot, and the vote stands.
    fn has_said(&self, ballot: Ballot) -> bool {
        let state = self.voter.as_ref().map(Voter::state);
        let accepted = state.and_then(|state| state.accepted.as_ref());
        self.said == Some(ballot) && accepted.is_some_and(|(known, _)| *known == ballot)
    }
}

/// The ballot in which an intent is voted on. No two intents have the same revision, and a later
/// one has a higher.
pub(super) fn ballot(intent: Revision) -> Ballot {
    Ballot { round: intent.0, proposer: 0 }
}

/// What the voter says. What it must not forget is in the store already.
fn said(actions: Vec<VoterAction>) -> impl Iterator<Item = RegisterAction> {
    actions.into_iter().filter_map(|action| match action {
        VoterAction::Send { to, message } => Some(RegisterAction::FromVoter(to, message)),
        VoterAction::Persist(_) | VoterAction::AwaitDisk => None,
    })
}
