//! The lease as the member sees it: when to renew, and until when it may write.

use std::collections::VecDeque;
use std::time::Duration;

use hashroute_core::Epoch;

use crate::message::{Sequence, ToVoter};
use crate::planted::{Bug, Planted};
use crate::record::{Record, VoterId, Writer};

/// What the holder wants to be sent to every voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A renewal.
    Renew(Sequence),
    /// A probe: it starts no guard.
    Probe(Sequence),
}

impl Call {
    /// The message that it is; a member that may not renew probes.
    pub(crate) fn message(self, epoch: Epoch, writer: Writer, renews: bool) -> ToVoter {
        match self {
            Self::Renew(sequence) if renews => ToVoter::Renew { epoch, writer, sequence },
            Self::Renew(sequence) | Self::Probe(sequence) => {
                ToVoter::Probe { epoch, writer, sequence }
            }
        }
    }
}

/// One member's lease.
///
/// It counts from when renewals were *sent*, so that it has ended before the guard of any voter
/// that granted it. A member whose renewals bring nothing stops renewing and probes, long before
/// its lease ends: else one that is heard but hears nothing would be guarded for ever, and each
/// renewal in vain puts off the time at which another may take its place.
#[derive(Clone, Debug, Hash)]
pub struct LeaseHolder {
    sequence: Sequence,
    /// When each call still unanswered was sent; calls older than two leases are dropped.
    sent: VecDeque<(Sequence, Duration)>,
    /// For each voter the latest sending of a renewal that it granted. Of five voters at most.
    granted: Vec<(VoterId, Duration)>,
    end: Option<Duration>,
    /// When a grant extended the lease last.
    extended_at: Duration,
    /// Whether the lease was extended since the record was installed.
    is_fresh: bool,
    renounced: bool,
    phase: Phase,
    next_call: Duration,
    planted: Planted,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    /// Asks voters whether they answer; these did since `since`.
    Probing { since: Duration, heard: Vec<VoterId> },
    /// Renews, since this time.
    Renewing { since: Duration },
}

impl LeaseHolder {
    /// A holder without a lease that begins to probe at once.
    #[must_use]
    pub fn new(now: Duration, planted: Planted) -> Self {
        Self {
            sequence: Sequence(0),
            sent: VecDeque::new(),
            granted: Vec::new(),
            end: None,
            extended_at: now,
            is_fresh: false,
            renounced: false,
            phase: Phase::Probing { since: now, heard: Vec::new() },
            next_call: now,
            planted,
        }
    }

    /// The instant from which on nothing may be written: none without a lease. Compare it with
    /// the clock at every admission; do not keep the answer.
    #[must_use]
    pub fn end(&self) -> Option<Duration> {
        self.end
    }

    /// Whether the lease is valid at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Duration) -> bool {
        self.end.is_some_and(|end| now < end)
    }

    /// Whether the lease was extended since the record was installed.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Since when a majority has been heard without a gap longer than a lease, if it is.
    #[must_use]
    pub fn heard_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Renewing { since } => Some(since),
            Phase::Probing { .. } => None,
        }
    }

    /// Since when a majority has been looked for, if none is heard.
    #[must_use]
    pub fn looking_since(&self) -> Option<Duration> {
        match self.phase {
            Phase::Renewing { .. } => None,
            Phase::Probing { since, .. } => Some(since),
        }
    }

    /// Whether a majority has been heard for so long that what was reported says something of others:
    /// who was without one until a moment ago does not judge them, for they come back at the same time.
    pub(crate) fn judges(&self, now: Duration, record: &Record) -> bool {
        let steady = record.parameters().renewal_interval * 2;
        self.heard_since().is_some_and(|since| now >= since + steady)
    }

    /// How many voters of `next` have granted a renewal lately.
    pub(crate) fn heard_of(&self, now: Duration, next: &Record) -> usize {
        let lately = now.saturating_sub(next.parameters().renewal_interval * 3);
        let granted = self.granted.iter().filter(|(_, sent)| *sent >= lately);
        granted.filter(|(voter, _)| next.has_voter(*voter)).count()
    }

    /// When [`LeaseHolder::tick`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        self.next_call
    }

    /// Returns what is due to be sent to every voter of `record`.
    pub fn tick(&mut self, now: Duration, record: &Record) -> Option<Call> {
        if now < self.next_call || self.renounced {
            return None;
        }
        let parameters = record.parameters();
        self.next_call = now + parameters.renewal_interval;
        self.sequence = Sequence(self.sequence.0 + 1);
        self.sent.push_back((self.sequence, now));
        let horizon = now.saturating_sub(parameters.ttl * 2);
        while self.sent.front().is_some_and(|(_, sent)| *sent < horizon) {
            self.sent.pop_front();
        }
        if let Phase::Renewing { since } = self.phase {
            let hopeful_until = if self.extended_at > since {
                self.extended_at + parameters.renewal_patience()
            } else {
                since + parameters.holder_window()
            };
            if now >= hopeful_until && !self.planted.has(Bug::NoProbe) {
                self.phase = Phase::Probing { since: now, heard: Vec::new() };
            }
        }
        Some(match self.phase {
            Phase::Renewing { .. } => Call::Renew(self.sequence),
            Phase::Probing { .. } => Call::Probe(self.sequence),
        })
    }

    /// A voter granted the renewal under the installed record.
    pub fn renewed(&mut self, now: Duration, by: VoterId, sequence: Sequence, record: &Record) {
        // A late grant must not bring back what was given up: somebody may own it by now.
        let void = self.renounced && !self.planted.has(Bug::AckRevivesRenounced);
        if void || !record.has_voter(by) {
            return;
        }
        let Some(mut sent) = self.sent_at(sequence) else { return };
        if self.planted.has(Bug::LeaseFromAck) {
            sent = now;
        }
        if self.planted.has(Bug::AckExtendsNewest) {
            sent = self.sent.back().map_or(sent, |(_, newest)| *newest);
        }
        match self.granted.iter_mut().find(|(voter, _)| *voter == by) {
            Some((_, latest)) => *latest = sent.max(*latest),
            None => self.granted.push((by, sent)),
        }
        self.extend(now, record);
    }

    /// A voter answered a probe; when a majority has, renewals begin.
    pub fn heard(&mut self, now: Duration, by: VoterId, sequence: Sequence, record: &Record) {
        let sent = self.sent_at(sequence);
        let Phase::Probing { since, heard } = &mut self.phase else { return };
        let fresh = sent.is_some_and(|sent| sent >= *since);
        if !fresh || !record.has_voter(by) || heard.contains(&by) {
            return;
        }
        heard.push(by);
        if heard.len() >= record.majority() {
            self.phase = Phase::Renewing { since: now };
            self.next_call = now;
        }
    }

    /// Another record was installed: grants of voters that are none any more do not count. The
    /// others do: their guards outlive the record.
    pub fn installed(&mut self, record: &Record) {
        self.granted.retain(|(voter, _)| record.has_voter(*voter));
        self.is_fresh = false;
    }

    /// Gives the lease up for good, counted grants included.
    pub fn renounce(&mut self) {
        self.renounced = true;
        if !self.planted.has(Bug::RenounceKeepsAcks) {
            self.granted.clear();
            self.end = None;
        }
    }

    /// When the call was sent, if that is not long ago.
    fn sent_at(&self, sequence: Sequence) -> Option<Duration> {
        let (oldest, _) = self.sent.front()?;
        let place = usize::try_from(sequence.0.checked_sub(oldest.0)?).ok()?;
        self.sent.get(place).map(|(_, sent)| *sent)
    }

    /// The lease ends one window after the sending that a majority has granted.
    fn extend(&mut self, now: Duration, record: &Record) {
        let needed = if self.planted.has(Bug::QuorumOfOne) { 1 } else { record.majority() };
        let parameters = record.parameters();
        let window = if self.planted.has(Bug::NoDriftMargin) {
            parameters.ttl
        } else {
            parameters.holder_window()
        };
        // To count for each is quicker than to sort them.
        let grants = || self.granted.iter().map(|(_, sent)| *sent);
        let is_enough = |sent: &Duration| grants().filter(|other| other >= sent).count() >= needed;
        let end = grants().filter(is_enough).max().map(|sent| sent + window);
        if end > self.end {
            self.end = end;
            self.extended_at = now;
            self.is_fresh = true;
        }
    }
}

#[cfg(test)]
mod tests;
