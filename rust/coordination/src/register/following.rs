//! What a member does about a newer record, and about an intent by which it loses something.

use std::time::Duration;

use super::member::{Purpose, RegisterMember};
use super::seat::ballot;
use super::{Key, RegisterAction, Revision, Value};
use crate::error::ChangeError;
use crate::guard::Release;
use crate::planted::Bug;
use crate::record::Record;

/// An intent that the process stops for, or has stopped for.
#[derive(Clone, Debug)]
pub(super) struct Stopping {
    intent: Revision,
    record: Record,
    has_quiesced: bool,
    pub(super) is_said: bool,
}

impl RegisterMember {
    /// Every write admitted before the release has ended: the release may be said.
    pub fn quiesced(&mut self, now: Duration, record: &Record) -> Vec<RegisterAction> {
        self.guard.quiesced(record);
        if let Some(place) = self.quiescing.iter().position(|it| it == record) {
            self.quiescing.remove(place);
        }
        // The wait for an intent that was withdrawn says nothing of writes admitted after that.
        let is_last = !self.quiescing.contains(record) || self.planted.has(Bug::EarlierWaitCounts);
        match &mut self.stopping {
            Some(stopping) if stopping.record == *record => stopping.has_quiesced = is_last,
            Some(_) | None => return Vec::new(),
        }
        self.say_released(now).into_iter().collect()
    }

    /// Goes by what was seen: a newer record, a new intent, one that was withdrawn.
    pub(super) fn follow(&mut self, now: Duration) -> Vec<RegisterAction> {
        let mut actions = Vec::new();
        if let Some((record, revision)) = self.seen.record()
            && self.record.as_ref().is_none_or(|mine| {
                record.epoch() > mine.epoch() && record.cluster() == mine.cluster()
            })
        {
            let record = record.clone();
            self.record_at = revision;
            self.confirmed_at = revision;
            self.seen.tidy(&record);
            self.record = Some(record.clone());
            self.guard.installed();
            self.holder.installed(&record);
            self.reports.clear();
            self.missed = None;
            self.stopping = None;
            self.quiescing.clear();
            self.suspect = None;
            self.next_proposal = now;
            self.next_renewal = now;
            let is_expected = self.committing.as_ref().is_some_and(|(next, _)| *next == record);
            actions.push(RegisterAction::Installed(record));
            if is_expected && self.has_committed(revision) {
                actions.extend(self.made());
            } else if !is_expected {
                self.committing = None;
            }
            actions.extend(self.take_part_or_not());
        }
        actions.extend(self.follow_intent(now));
        actions.extend(self.vote(now));
        actions
    }

    /// Whether the record of this commit was made by this process: it left its beat with it. That
    /// the record looks like the one that was to be is not enough: another may have made the same,
    /// and long before this process was asked for it.
    fn has_committed(&self, revision: Revision) -> bool {
        self.seen.unchanged(Key::Beat(self.me.clone())).1 == revision
            || self.planted.has(Bug::MadeByAnother)
    }

    /// What this process was committing is the record. If it was the first of the wishes, that is
    /// made.
    pub(super) fn made(&mut self) -> Option<RegisterAction> {
        let (record, _) = self.committing.take().filter(|(_, is_wish)| *is_wish)?;
        self.tries = 0;
        let (change, epoch) = (self.wishes.pop_front()?, record.epoch());
        Some(RegisterAction::Made { change, epoch })
    }

    /// Who was a writer, and finds its pod removed or another process in its place, takes part no
    /// more: a removal would be undone by whom it was meant for, and two processes of a pod that go
    /// on joining would take each other's place for ever.
    fn take_part_or_not(&mut self) -> Vec<RegisterAction> {
        let Some(record) = &self.record else { return Vec::new() };
        let named = record.writers().get(&self.me.pod);
        let is_mine = named == Some(&self.me.incarnation);
        let is_removed = record.view().index_of(self.me.pod.as_str()).is_none();
        let is_another = named.is_some() && !is_mine;
        if self.was_writer && (is_removed || is_another) && !self.planted.has(Bug::RemovedComesBack)
        {
            self.give_up_lease();
            return self.drop_wishes();
        }
        self.was_writer |= is_mine;
        Vec::new()
    }

    /// Nothing that was asked of this process will be made by it; but what it is committing may be.
    pub(super) fn drop_wishes(&mut self) -> Vec<RegisterAction> {
        if self.is_proposing() {
            return Vec::new();
        }
        let pod = self.me.pod.to_string();
        let dropped = self.wishes.drain(..).map(|change| RegisterAction::Dropped {
            change,
            reason: ChangeError::NoWriter { pod: pod.clone() },
        });
        dropped.collect()
    }

    fn follow_intent(&mut self, now: Duration) -> Vec<RegisterAction> {
        let Some(mine) = self.record.clone() else { return Vec::new() };
        let intent = self.seen.intent().map(|(record, revision, ..)| (record.clone(), revision));
        let next =
            intent.filter(|(record, _)| record.check_follows_planted(&mine, self.planted).is_ok());
        if self.planted.has(Bug::ResumedEarly)
            && let Some((.., since)) = self.seen.intent()
            && now > since + mine.parameters().ttl
        {
            self.guard.installed();
            return Vec::new();
        }
        if let Some(stopping) = &self.stopping {
            let stands = next.as_ref().is_some_and(|(_, revision)| *revision == stopping.intent);
            if stands || !(next.is_some() || self.is_withdrawn()) {
                return Vec::new();
            }
            self.guard.installed();
            self.stopping = None;
        }
        let Some((record, intent)) = next.filter(|(next, _)| mine.losers(next).contains(&self.me))
        else {
            return Vec::new();
        };
        let by = self.me.pod.clone();
        let release = self.guard.release(&record, &by, ballot(intent));
        let has_quiesced = release == Release::Done || self.planted.has(Bug::ReleaseTooEarly);
        let is_said = false;
        self.stopping = Some(Stopping { intent, record: record.clone(), has_quiesced, is_said });
        match release {
            Release::Begun => {
                self.quiescing.push(record.clone());
                let said = self.say_released(now);
                [RegisterAction::Quiesce(record)].into_iter().chain(said).collect()
            }
            Release::Done => self.say_released(now).into_iter().collect(),
            Release::UnderWay | Release::Refused => Vec::new(),
        }
    }

    /// Whether the intent is gone and cannot have become the record: the record was still the one
    /// before at the commit that removed it, or later. (Another intent that follows the record says
    /// the same: it was written on that condition.)
    pub(super) fn is_withdrawn(&self) -> bool {
        self.seen.gone(&Key::Intent).is_some_and(|at| self.confirmed_at >= at)
    }

    /// Says that this process has stopped for the intent, on the condition that it still stands.
    pub(super) fn say_released(&mut self, now: Duration) -> Option<RegisterAction> {
        let stopping = self.stopping.as_ref().filter(|it| it.has_quiesced && !it.is_said)?;
        let intent = stopping.intent;
        if self.waiting.values().any(|waiting| waiting.purpose == Purpose::Release) {
            return None;
        }
        let when = vec![(Key::Intent, intent)];
        let then = vec![(Key::Released(self.me.clone()), Some(Value::Released(intent)))];
        Some(self.transact(now, Purpose::Release, when, then, vec![Key::Intent, Key::Record]))
    }
}
