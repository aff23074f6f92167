//! Leases that voters grant, of members whose record lies in a store.
//!
//! Where the record names several voters, a lease is theirs to grant, as in the engine without a
//! store: so writes go on while the store does not answer. Only that nobody may write any more what
//! an intent takes is then said by votes of a majority of them, and not by beats.

use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use super::member::RegisterMember;
use super::seat::{Motion, Seat};
use super::{RegisterAction, Revision};
use crate::message::{Ballot, FromVoter, Refusal, ToVoter};
use crate::planted::Bug;
use crate::record::{Record, VoterId, Writer};
use crate::voter::Voter;

/// For so long, in leases, a member keeps its lease that has stopped for an intent and is not
/// answered by the store: longer than a store such as etcd looks for another leader.
const STOPPED_LEASES: u32 = 10;

/// Who has voted for the last intent that anybody has voted for.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    intent: Revision,
    by: Vec<VoterId>,
}

impl Record {
    /// Whether leases are granted by its voters: of a record that lies in a store. One that names a
    /// single voter means the store itself.
    #[must_use]
    pub fn has_lease_voters(&self) -> bool {
        self.voters().len() > 1
    }
}

impl RegisterMember {
    /// The same process, which also votes, under this name. It need not be a member, and goes on
    /// voting when it is none any more.
    ///
    /// No other process may vote under the name while this one lives: whoever chooses it sees to
    /// that, by a lock on where the name is kept.
    #[must_use]
    pub fn voting(mut self, id: VoterId) -> Self {
        self.seat = Some(Seat::new(id, self.me.pod.clone(), self.planted));
        self
    }

    /// The voter of this process, if it votes and has read the store.
    #[must_use]
    pub fn voter(&self) -> Option<&Voter> {
        self.seat.as_ref().and_then(Seat::voter)
    }

    /// A member says this to the voter of this process. `now` must have been read after the message
    /// arrived: see [`Voter::handle`].
    pub fn asked(&mut self, now: Duration, from: PodId, message: ToVoter) -> Vec<RegisterAction> {
        self.seat.as_mut().map_or_else(Vec::new, |seat| seat.asked(now, from, message))
    }

    /// A voter says this to the member of this process.
    pub fn hear_voter(
        &mut self,
        now: Duration,
        by: VoterId,
        message: FromVoter,
    ) -> Vec<RegisterAction> {
        let record = self.record.clone().filter(Record::has_lease_voters);
        let Some(record) = record.filter(|_| self.takes_part) else { return Vec::new() };
        let mut actions = self.voter_said(now, &record, by, message);
        self.lease_end = self.holder.end();
        actions.extend(self.propose_if_due(now));
        actions
    }

    fn voter_said(
        &mut self,
        now: Duration,
        record: &Record,
        by: VoterId,
        message: FromVoter,
    ) -> Vec<RegisterAction> {
        match message {
            FromVoter::Renewed { epoch, writer, sequence, lapsed, .. } => {
                if writer == self.me && epoch == record.epoch() {
                    self.reports.told(now, by, lapsed);
                    self.holder.renewed(now, by, sequence, record);
                }
            }
            FromVoter::Heard { writer, sequence, lapsed, .. } if writer == self.me => {
                self.reports.told(now, by, lapsed);
                self.holder.heard(now, by, sequence, record);
            }
            FromVoter::Lapsed { epoch, writers } => {
                if epoch == record.epoch() {
                    self.reports.told(now, by, writers);
                }
            }
            FromVoter::Accepted { epoch, ballot } => self.count_vote(by, epoch, ballot),
            FromVoter::Guarded { epoch, ballot, .. } => self.is_waited_for(now, epoch, ballot),
            FromVoter::Refused { writer, refusal, .. } if writer == self.me => match refusal {
                Refusal::Ahead => {
                    let record = record.clone();
                    return vec![RegisterAction::ToVoter(by, ToVoter::Install { record })];
                }
                // The store has a newer record: it is asked for at once, for it knows the revision.
                Refusal::Behind(_) => self.next_renewal = now,
                Refusal::NotNamed
                | Refusal::Pending(_)
                | Refusal::Held
                | Refusal::Renounced
                | Refusal::NotAVoter => {}
            },
            // Meant for another process of this pod; or nobody asked.
            FromVoter::Heard { .. }
            | FromVoter::Refused { .. }
            | FromVoter::Promised { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. } => {}
        }
        Vec::new()
    }

    /// A vote counts for its intent alone, whenever this member hears of that.
    fn count_vote(&mut self, by: VoterId, epoch: Epoch, ballot: Ballot) {
        let intent = Revision(ballot.round);
        let follows = self.record.as_ref().is_some_and(|it| it.epoch().next().ok() == Some(epoch));
        if !follows || intent < self.votes.intent {
            return;
        }
        if intent > self.votes.intent {
            let by = std::mem::take(&mut self.votes.by);
            let kept = by.into_iter().filter(|_| self.planted.has(Bug::VotesOfOtherIntent));
            self.votes = Votes { intent, by: kept.collect() };
        }
        if !self.votes.by.contains(&by) {
            self.votes.by.push(by);
        }
    }

    /// A voter waits for this member to stop for an intent. The store says more of it; if that goes
    /// on saying nothing, this member does not hear it, and others do.
    fn is_waited_for(&mut self, now: Duration, epoch: Epoch, ballot: Ballot) {
        let (intent, seen) = (Revision(ballot.round), self.last_word());
        let follows = self.record.as_ref().is_some_and(|it| it.epoch().next().ok() == Some(epoch));
        if follows && seen < intent {
            let since = self.missed.filter(|(missed, _)| seen < *missed).map_or(now, |it| it.1);
            self.missed = Some((intent, since));
        }
    }

    /// The last commit up to which the store has answered here, or has told of intents.
    fn last_word(&self) -> Revision {
        self.seen.intent_at().max(self.confirmed_at)
    }

    /// Whether a majority of the record's voters has voted for the intent: no writer that loses by
    /// it, and has not stopped, may write any more, unless it is withdrawn.
    pub(super) fn is_voted_for(&self, record: &Record, intent: Revision) -> bool {
        let votes = self.votes.by.iter().filter(|by| record.has_voter(**by));
        let needed = if self.planted.has(Bug::ChosenByOne) { 1 } else { record.majority() };
        self.votes.intent == intent && votes.count() >= needed
    }

    /// Whether a change of voters waits for votes although nobody loses a lease by it: what the
    /// voters before granted must be over before those to come count as quiet.
    pub(super) fn needs_votes(&self, record: &Record, next: &Record) -> bool {
        record.voters() != next.voters() && !self.planted.has(Bug::VotersUnasked)
    }

    /// Whether by a change of voters everything would hang on voters that were not heard lately.
    pub(super) fn hangs_on_unheard(&self, now: Duration, record: &Record, next: &Record) -> bool {
        let heard = self.holder.heard_of(now, next);
        next.voters() != record.voters() && heard < next.majority()
    }

    /// Calls the voters, if it is time.
    pub(super) fn call_voters(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(record) = self.record.as_ref().filter(|it| it.has_lease_voters()) else {
            return Vec::new();
        };
        let Some(call) = self.holder.tick(now, record) else { return Vec::new() };
        let ttl = record.parameters().ttl;
        let is_answered = self.answered_at.is_some_and(|at| now < at + ttl * STOPPED_LEASES);
        // Whoever has stopped for an intent, and cannot learn what became of it, holds what nobody
        // writes; and whoever is waited for, and cannot learn of that, is in the way of every change.
        let is_deaf = self
            .missed
            .is_some_and(|(intent, since)| self.last_word() < intent && now >= since + ttl);
        let is_of_use = !is_deaf && (self.stopping.is_none() || is_answered);
        let renews = record.names(&self.me) && is_of_use;
        self.to_voters(&call.message(record.epoch(), self.me.clone(), renews))
    }

    /// Says it to every voter of the record.
    pub(super) fn to_voters(&self, message: &ToVoter) -> Vec<RegisterAction> {
        let voters = self.record.iter().filter(|it| it.has_lease_voters()).flat_map(Record::voters);
        voters.map(|entry| RegisterAction::ToVoter(entry.id, message.clone())).collect()
    }

    /// Whether it is known of the writer that its lease has run out, or that it has stopped.
    pub(super) fn has_lapsed(&self, now: Duration, record: &Record, writer: &Writer) -> bool {
        self.seen.has_renounced(writer) || self.reports.lapsed(now, record).any(|it| it == writer)
    }

    /// The voter of this process goes by what was seen in the store.
    pub(super) fn vote(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(record) = self.record.as_ref().filter(|it| it.has_lease_voters()) else {
            return Vec::new();
        };
        let intent = self
            .seen
            .intent()
            .filter(|(next, ..)| next.check_follows_planted(record, self.planted).is_ok());
        let is_over = intent.is_none() && self.is_withdrawn();
        let motion = intent.map(|(next, revision, by, _)| {
            let mut released = record.losers(next);
            released.retain(|it| {
                self.seen.has_released(it, Some(revision)) || self.seen.has_renounced(it)
            });
            let mut tell: Vec<PodId> = record.writers().keys().cloned().collect();
            if !tell.contains(&by.pod) {
                tell.push(by.pod.clone());
            }
            Motion { record: next.clone(), revision, released, tell }
        });
        let Some(seat) = &mut self.seat else { return Vec::new() };
        if is_over {
            seat.withdrawn();
        }
        seat.follow(now, record, motion)
    }

    /// Lets the voter of this process do what is due.
    pub(super) fn tick_seat(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(seat) = &mut self.seat else { return Vec::new() };
        let mut actions = seat.tick(now);
        if seat.is_to_be_asked(now) {
            actions.extend(self.vote(now));
        }
        actions
    }
}

#[cfg(test)]
mod tests;
