//! What a member of a cluster with a register proposes, and when.

use std::time::Duration;

use super::member::{Purpose, RegisterMember};
use super::{
    INTENT_LEASES, INTENT_LEAST, Key, RegisterAction, Revision, SILENCE_MOST, STAGGER, Value,
};
use crate::change::Change;
use crate::error::ChangeError;
use crate::lease::LeaseParameters;
use crate::planted::Bug;
use crate::record::{Record, Writer};

impl RegisterMember {
    /// When it is looked again at what there is to propose, if nothing is heard before: never at
    /// once, for what could be done now is done.
    fn look_again(&self, now: Duration) -> Duration {
        let Some(record) = &self.record else { return Duration::MAX };
        let all = self.planted.has(Bug::DueForEver);
        // Whatever there is to propose waits for an answer; the answer is looked at when it comes.
        if self.is_proposing() || !(self.hears(now, record) || all) {
            return Duration::MAX;
        }
        if now < self.next_proposal {
            return self.next_proposal;
        }
        let parameters = record.parameters();
        let quiet = parameters.quiet_time() + GRAIN;
        let others = self.others(record).filter(|_| !record.has_lease_voters());
        let silences = others.filter_map(|it| Some(self.seen.silence(&it)? + quiet));
        let intent = self.seen.intent().map(|(.., since)| {
            [since + parameters.renewal_interval * 2, since + intent_patience(parameters)]
        });
        let times = silences.chain(intent.into_iter().flatten());
        times.filter(|at| *at > now || all).min().unwrap_or(Duration::MAX)
    }

    /// Whether the store has answered so lately that what was seen of it says something: who does
    /// not hear it judges nobody.
    fn hears(&self, now: Duration, record: &Record) -> bool {
        let window = record.parameters().holder_window();
        let window = if record.has_lease_voters() { window.max(SILENCE_MOST) } else { window };
        self.answered_at.is_some_and(|at| now < at + window)
    }

    /// The writers of other pods.
    fn others<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = Writer> + 'a {
        let others = record.writers().iter().filter(|(pod, _)| **pod != self.me.pod);
        others.map(|(pod, incarnation)| Writer { pod: pod.clone(), incarnation: *incarnation })
    }

    /// Whether an answer is awaited that decides what comes next.
    pub(super) fn is_proposing(&self) -> bool {
        let decides = |it: Purpose| matches!(it, Purpose::Intent | Purpose::Commit);
        self.waiting.values().any(|waiting| decides(waiting.purpose))
    }

    pub(super) fn propose_if_due(&mut self, now: Duration) -> Vec<RegisterAction> {
        let actions = self.propose(now);
        self.next_look = self.look_again(now);
        actions
    }

    fn propose(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(record) = self.record.clone() else { return Vec::new() };
        if !self.hears(now, &record) || self.is_proposing() || now < self.next_proposal {
            return Vec::new();
        }
        if let Some(action) = self.say_released(now) {
            return vec![action];
        }
        if self.seen.intent().is_some() {
            return self.bring_intent_on(now, &record).into_iter().collect();
        }
        let mut actions = Vec::new();
        if let Some((next, is_wish)) = self.next_wish(now, &record, &mut actions) {
            actions.push(if self.is_free(now, &record, &next, None) {
                self.commit(now, &record, next, None, is_wish)
            } else {
                let when = vec![(Key::Record, self.record_at), (Key::Intent, Revision(0))];
                let then = vec![(Key::Intent, Some(Value::Intent(next, self.me.clone())))];
                self.transact(now, Purpose::Intent, when, then, vec![Key::Record, Key::Intent])
            });
        }
        actions
    }

    /// Makes the intent the record if nobody stands in its way any more; withdraws it if it has
    /// stood for too long, or can follow no record.
    fn bring_intent_on(&mut self, now: Duration, record: &Record) -> Option<RegisterAction> {
        let (next, revision, by, since) = self.seen.intent()?;
        let (next, is_mine) = (next.clone(), *by == self.me);
        let is_sound = next.check_follows_planted(record, self.planted).is_ok();
        if is_sound && self.is_free(now, record, &next, Some(revision)) {
            // Its author is the first to do so; others only if that one does not.
            if is_mine || now >= since + record.parameters().renewal_interval * 2 {
                let first = self.wishes.front().cloned();
                let is_wish = is_mine
                    && first.is_some_and(|it| {
                        record.next_planted(&it, self.planted).is_ok_and(|made| made == next)
                    });
                return Some(self.commit(now, record, next, Some(revision), is_wish));
            }
            return None;
        }
        if is_sound && now < since + intent_patience(record.parameters()) {
            return None;
        }
        if is_mine {
            // The wish goes on, or is dropped, by how often it was tried.
            self.tries += 1;
        }
        let when = vec![(Key::Intent, revision)];
        let then = vec![(Key::Intent, None)];
        Some(self.transact(now, Purpose::Intent, when, then, vec![Key::Record, Key::Intent]))
    }

    /// Whether nobody who loses something in `next` may still write it, as far as is known here: the
    /// commit is on the condition that it is so.
    fn is_free(
        &mut self,
        now: Duration,
        record: &Record,
        next: &Record,
        intent: Option<Revision>,
    ) -> bool {
        if intent.is_some() && self.planted.has(Bug::IntentForced) {
            return true;
        }
        let mut losers = record.losers(next);
        losers.retain(|writer| !self.has_released(writer, intent));
        if record.has_lease_voters() {
            // Voters vote on what is written down as the intent, and on nothing else.
            losers.retain(|writer| !self.seen.has_renounced(writer));
            let is_voted_for = intent.is_some_and(|it| self.is_voted_for(record, it));
            return is_voted_for || (losers.is_empty() && !self.needs_votes(record, next));
        }
        losers.iter().all(|writer| self.is_over(now, record, writer))
    }

    /// Whether the process has stopped for this intent.
    fn has_released(&self, writer: &Writer, intent: Option<Revision>) -> bool {
        let any = self.planted.has(Bug::ReleaseOfOtherIntent);
        intent.is_some_and(|it| self.seen.has_released(writer, (!any).then_some(it)))
    }

    /// Whether the lease of the process has ended: it said so, or its last beat is old enough.
    fn is_over(&mut self, now: Duration, record: &Record, writer: &Writer) -> bool {
        if *writer == self.me {
            return false;
        }
        if writer.pod == self.me.pod && self.planted.has(Bug::RestartTakesOver) {
            return true;
        }
        if record.has_lease_voters() {
            return self.has_lapsed(now, record, writer);
        }
        let quiet = record.parameters().quiet_time();
        let quiet = if self.planted.has(Bug::HalfTheWait) { quiet / 2 } else { quiet };
        self.seen.has_renounced(writer) || now > self.seen.silent_since(now, writer) + quiet
    }

    /// The transaction that makes `next` the record, on the condition that nothing has changed
    /// that its safety rests on.
    fn commit(
        &mut self,
        now: Duration,
        record: &Record,
        next: Record,
        intent: Option<Revision>,
        is_wish: bool,
    ) -> RegisterAction {
        let mut when =
            vec![(Key::Record, self.record_at), (Key::Intent, intent.unwrap_or_default())];
        let mut then = vec![(Key::Record, Some(Value::Record(next.clone())))];
        if intent.is_some() {
            then.push((Key::Intent, None));
        }
        let is_voted_for = intent.is_some_and(|it| self.is_voted_for(record, it));
        for loser in record.losers(&next) {
            if self.has_released(&loser, intent) {
                when.push(self.seen.unchanged(Key::Released(loser)));
            } else if is_voted_for {
                // The votes are for this very intent: that it stands is their condition.
            } else if !self.planted.has(Bug::BeatUnchecked) {
                when.push(self.seen.unchanged(Key::Beat(loser)));
            }
        }
        when.retain(|(key, _)| match key {
            Key::Record => !self.planted.has(Bug::RecordUnchecked),
            Key::Intent => !self.planted.has(Bug::IntentUnchecked),
            Key::Beat(_) | Key::Released(_) => true,
        });
        if next.names(&self.me) {
            then.push((Key::Beat(self.me.clone()), Some(Value::Alive)));
        }
        then.extend(self.seen.strangers(&next).into_iter().map(|key| (key, None)));
        self.committing = Some((next, is_wish));
        let otherwise = when.iter().map(|(key, _)| key.clone()).collect();
        self.transact(now, Purpose::Commit, when, then, otherwise)
    }

    /// A commit did not go through: something it rested on has changed.
    pub(super) fn failed(&mut self, now: Duration, is_wish: bool) {
        self.postpone(now);
        self.tries += u32::from(is_wish);
    }

    pub(super) fn postpone(&mut self, now: Duration) {
        let interval = self.parameters().map_or(STAGGER, |it| it.renewal_interval);
        self.next_proposal = now + interval / 2 + STAGGER.saturating_mul(self.rank());
    }

    /// What to propose next, and whether it is the first of the wishes.
    fn next_wish(
        &mut self,
        now: Duration,
        record: &Record,
        out: &mut Vec<RegisterAction>,
    ) -> Option<(Record, bool)> {
        if record.has_lease_voters() && self.holder.heard_since().is_none() {
            // Who is not answered decides nothing: it may be the one that is cut off.
            return None;
        }
        if let Some(writer) = self.dead_writer(now, record) {
            if self.suspect.as_ref() != Some(&writer) {
                self.suspect = Some(writer.clone());
                self.next_proposal = now + STAGGER.saturating_mul(self.rank());
                if self.next_proposal > now {
                    return None;
                }
            }
            return Some((record.next_planted(&Change::Fail(writer), self.planted).ok()?, false));
        }
        if !record.names(&self.me) {
            let before = record
                .writers()
                .get(&self.me.pod)
                .map(|incarnation| Writer { pod: self.me.pod.clone(), incarnation: *incarnation });
            // The process before this one of the same pod has no way to say that it has stopped.
            if before.is_some_and(|before| !self.is_over(now, record, &before)) {
                return None;
            }
            let (pod, incarnation) = (self.pod.clone(), self.me.incarnation);
            let change = Change::Join { pod, incarnation };
            return Some((record.next_planted(&change, self.planted).ok()?, false));
        }
        if record.has_lease_voters() && !self.holder.is_fresh() {
            // A change of voters stops renewals for a moment; one right after the other would stop
            // them for so long that leases end.
            return None;
        }
        while let Some(change) = self.wishes.front().cloned() {
            let tries = self.tries;
            let next = if tries < TRIES_MOST {
                record.next_planted(&change, self.planted)
            } else {
                Err(ChangeError::NotAgreed { tries })
            };
            match next {
                Ok(next) if self.hangs_on_unheard(now, record, &next) => {
                    self.failed(now, true);
                    return None;
                }
                Ok(next) => return Some((next, true)),
                Err(reason) => {
                    self.tries = 0;
                    self.wishes.pop_front();
                    // Should it have been committed after all, that makes not the wish after it.
                    self.committing = None;
                    out.push(RegisterAction::Dropped { change, reason });
                }
            }
        }
        None
    }

    /// A writer, not this one, whose lease has ended.
    fn dead_writer(&mut self, now: Duration, record: &Record) -> Option<Writer> {
        if record.has_lease_voters() && !self.holder.judges(now, record) {
            return None;
        }
        let others: Vec<Writer> = self.others(record).collect();
        others.into_iter().find(|writer| self.is_over(now, record, writer))
    }

    /// How many writers come before this one: who proposes first after a failure.
    fn rank(&self) -> u32 {
        let writers = self.record.as_ref().map(Record::writers);
        let before = writers.map_or(0, |it| it.keys().filter(|pod| **pod < self.me.pod).count());
        u32::try_from(before).unwrap_or(u32::MAX)
    }
}

/// How long an intent may stand.
fn intent_patience(parameters: LeaseParameters) -> Duration {
    (parameters.ttl * INTENT_LEASES).max(INTENT_LEAST)
}

/// What is silent for exactly as long as a lease has not ended: clocks have grains.
const GRAIN: Duration = Duration::from_nanos(1);
/// So many tries for one change that the operator asked for.
const TRIES_MOST: u32 = 8;
