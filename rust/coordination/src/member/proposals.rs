//! What a member proposes, and when.

use std::time::Duration;

use hashroute_core::PodId;

use super::{Member, MemberAction};
use crate::change::Change;
use crate::error::ChangeError;
use crate::message::{ToPeer, ToVoter};
use crate::planted::Bug;
use crate::proposer::{ProposerAction, Wish};
use crate::record::{Record, VoterId, Writer};

impl Member {
    pub(super) fn carry_out(
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
                ProposerAction::ToPeer(to, message) if to == self.me.pod => {
                    let from = self.me.pod.clone();
                    out.extend(self.peer_said(now, &from, message, dice));
                }
                ProposerAction::ToPeer(to, message) => {
                    out.push(MemberAction::ToPeer(to, message));
                }
                ProposerAction::Failed => out.extend(self.failed(now, dice)),
                ProposerAction::Chosen { record, own } => {
                    let made = self.asked && own;
                    out.extend(self.tell_all(&record));
                    out.extend(self.install(now, record));
                    if made {
                        out.extend(self.made());
                    }
                }
            }
        }
        out
    }

    pub(super) fn propose_if_due(&mut self, now: Duration, dice: u64) -> Vec<MemberAction> {
        if !self.takes_part {
            return Vec::new();
        }
        if self.hears_of_death(now) {
            self.proposer.abandon();
            self.next_proposal = now;
        }
        if self.proposer.is_busy() || now < self.next_proposal {
            return Vec::new();
        }
        let mut actions = Vec::new();
        if let Some(wish) = self.next_wish(now, &mut actions) {
            let next = self.proposer.propose(now, wish, dice);
            actions.extend(self.carry_out(now, next, dice));
        }
        actions
    }

    /// Whether a writer has just turned out to be dead, and what is under way, if anything is, only
    /// asks whether others are there. Neither that nor a wait for the next try may hold up the end of
    /// the dead one: it may be the very one that does not answer.
    fn hears_of_death(&self, now: Duration) -> bool {
        let is_free = !self.proposer.is_busy() || self.proposer.is_asking();
        is_free
            && !self.undecided()
            && self.dead_writer(now).is_some_and(|dead| self.suspect.as_ref() != Some(&dead))
    }

    /// A try failed: the next one comes later, by a time that differs between members.
    fn failed(&mut self, now: Duration, dice: u64) -> Option<MemberAction> {
        self.failures += 1;
        let first = self.record.parameters().backoff();
        let longest = first.saturating_mul(1 << self.failures.min(BACKOFF_DOUBLINGS));
        self.next_proposal = now + longest / 2 + part(longest / 2, dice);
        let tries = self.tries + 1;
        self.tried(ChangeError::NotAgreed { tries })
    }

    /// What was asked for first cannot be proposed yet: it is looked at again a little later.
    fn put_off(&mut self, now: Duration, reason: ChangeError) -> Option<MemberAction> {
        self.next_proposal = now + self.record.parameters().renewal_interval;
        self.tried(reason)
    }

    /// Counts a try for what was asked for first, and drops that if it was the last.
    fn tried(&mut self, reason: ChangeError) -> Option<MemberAction> {
        if !self.asked {
            return None;
        }
        self.tries += 1;
        if self.tries < TRIES_MOST {
            return None;
        }
        (self.tries, self.asked) = (0, false);
        let change = self.wishes.pop_front()?;
        Some(MemberAction::Dropped { change, reason })
    }

    /// The change that was asked for first is made. That the record looks as it should is not
    /// enough: it may have been agreed, and undone, before the change was asked for.
    fn made(&mut self) -> Option<MemberAction> {
        self.tries = 0;
        let (change, epoch) = (self.wishes.pop_front()?, self.record.epoch());
        Some(MemberAction::Made { change, epoch })
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
        let voters = voters.into_iter();
        let voters =
            voters.map(|to| MemberAction::ToVoter(to, ToVoter::Install { record: record() }));
        let pods = pods.into_iter();
        let pods = pods.map(|to| MemberAction::ToPeer(to, ToPeer::Install { record: record() }));
        voters.chain(pods).collect()
    }

    /// What to propose next.
    fn next_wish(&mut self, now: Duration, out: &mut Vec<MemberAction>) -> Option<Wish> {
        self.asked = false;
        // Who is not answered decides nothing, and would outbid those who could.
        self.lease.heard_since()?;
        if self.undecided() {
            // Something was released or accepted. That nothing changes can be agreed at once; and
            // if a voter has accepted something else, that is what this try will propose.
            let record = self.next_record(&Change::Nothing).ok()?;
            return Some(self.wish_for(now, record, true));
        }
        if let Some(writer) = self.dead_writer(now) {
            if self.suspect.as_ref() != Some(&writer) {
                self.suspect = Some(writer);
                let stagger = self.record.parameters().stagger();
                self.next_proposal = now + stagger.saturating_mul(self.rank(now));
                return if self.next_proposal > now { None } else { self.next_wish(now, out) };
            }
            let record = self.next_record(&Change::Fail(writer)).ok()?;
            return Some(self.wish_for(now, record, true));
        }
        if self.lapsed_writers(now).any(|writer| writer.pod != self.me.pod) {
            // Soon it is known whether it is dead. Until then it would be asked in vain.
            return None;
        }
        if !self.record.names(&self.me) {
            let (pod, incarnation) = (self.pod.clone(), self.me.incarnation);
            let record = self.next_record(&Change::Join { pod, incarnation }).ok()?;
            return Some(self.wish_for(now, record, false));
        }
        if !self.lease.is_fresh() {
            // A change of voters stops renewals for a moment; one right after the other would stop
            // them for so long that leases end.
            return None;
        }
        while let Some(change) = self.wishes.pop_front() {
            if self.is_presumed_made(&change) {
                let epoch = self.record.epoch();
                out.push(MemberAction::Made { change, epoch });
                continue;
            }
            match self.next_record(&change) {
                Ok(record) => {
                    let unheard = self.unheard_voters(now, &record);
                    self.wishes.push_front(change);
                    self.asked = true;
                    if let Some(reason) = unheard {
                        out.extend(self.put_off(now, reason));
                        return None;
                    }
                    return Some(self.wish_for(now, record, false));
                }
                Err(reason) => {
                    self.tries = 0;
                    out.push(MemberAction::Dropped { change, reason });
                }
            }
        }
        None
    }

    /// The wish for `record`. Live writers that lose something are asked first whether they are
    /// there, unless it is `urgent`: then somebody waits for a writer already.
    fn wish_for(&self, now: Duration, record: Record, urgent: bool) -> Wish {
        // The process before this one of the same pod is presumed dead: so one of two is.
        let mut stop: Vec<Writer> = self.lapsed_writers(now).collect();
        let mut ask_first = Vec::new();
        for loser in self.record.shared_losers(&record).iter() {
            if loser.pod == self.me.pod && *loser != self.me {
                stop.push(loser.clone());
            } else if !urgent && *loser != self.me && !stop.contains(loser) {
                ask_first.push(loser.clone());
            }
        }
        let before = self.record.clone();
        Wish { before, record, stop, ask_first }
    }

    /// Whether a change of voters would make everything hang on voters that were not heard lately:
    /// one wrong address after another would end the cluster. (A single voter is replaced by one
    /// that nobody can have heard.)
    fn unheard_voters(&self, now: Duration, next: &Record) -> Option<ChangeError> {
        if next.voters() == self.record.voters() || next.voters().len() == 1 {
            return None;
        }
        let (heard, needed) = (self.lease.heard_of(now, next), next.majority());
        let unheard = heard < needed && !self.planted.has(Bug::UnheardVotersCounted);
        unheard.then_some(ChangeError::VotersUnheard { heard, needed })
    }

    fn next_record(&mut self, change: &Change) -> Result<Record, ChangeError> {
        if let Some((_, record)) = self.draft.as_ref().filter(|(drafted, _)| drafted == change) {
            return Ok(record.clone());
        }
        let record = self.record.next_planted(change, self.planted)?;
        self.draft = Some((change.clone(), record.clone()));
        Ok(record)
    }

    /// Whether something was released or accepted by a voter, and not yet decided.
    fn undecided(&self) -> bool {
        let accepted = self.accepted_elsewhere && !self.planted.has(Bug::UndecidedIgnored);
        self.guard.is_waiting() || accepted
    }

    fn is_presumed_made(&self, change: &Change) -> bool {
        self.planted.has(Bug::ChangePresumed)
            && matches!(change, Change::Drain(_) | Change::Reweight(..))
            && self
                .record
                .next(change)
                .is_ok_and(|next| next.view().pods() == self.record.view().pods())
    }

    /// A writer, not this one, whose lease has run out, if this member may judge.
    pub(super) fn dead_writer(&self, now: Duration) -> Option<Writer> {
        self.lapsed_writers(now).next().filter(|_| self.lease.judges(now, &self.record))
    }

    /// Writers, not this one, whose leases have run out at a majority of voters.
    fn lapsed_writers(&self, now: Duration) -> impl Iterator<Item = Writer> {
        let lapsed = self.reports.lapsed(now, &self.record);
        lapsed.filter(|writer| **writer != self.me).cloned()
    }

    /// How many writers that are alive come before this one: who proposes first after a failure.
    fn rank(&self, now: Duration) -> u32 {
        let dead: Vec<Writer> = self.lapsed_writers(now).collect();
        let before = self.record.writers().keys().filter(|pod| **pod < self.me.pod);
        let before = before.filter(|pod| !dead.iter().any(|writer| writer.pod == **pod)).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }
}

/// A part of the time, by the dice.
fn part(of: Duration, dice: u64) -> Duration {
    let nanos = (of.as_nanos() * u128::from(dice)) >> u64::BITS;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The first wait, of a tenth of a lease, doubled four times.
const BACKOFF_DOUBLINGS: u32 = 4;
/// So many tries for one change that the operator asked for: about ten leases.
const TRIES_MOST: u32 = 8;
