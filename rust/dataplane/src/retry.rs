//! What a failure on the way to a pod means for the request: another pod, patience, or an error.
//!
//! The rule is P5: a request that certainly did not reach a pod is sent again, free of charge; one
//! that may have is sent again only if it is idempotent, and out of a budget, so that an outage is
//! not amplified. An error says *not applied* only if no attempt can have reached a pod.

use crate::error::Outcome;
use crate::fleet::TRIED_MAX;
use core::sync::atomic::{AtomicU64, Ordering};

/// The most attempts that a request may make: as many pods as it can remember.
pub const ATTEMPTS_MAX: u32 = 8;
const _: () = assert!(ATTEMPTS_MAX as usize == TRIED_MAX);

/// What went wrong with one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The connection was refused, or could not be made in time.
    Refused,
    /// The connection ended before any byte of the request was given to it.
    NotSent,
    /// The pod refused the stream unseen (`REFUSED_STREAM`).
    RefusedStream,
    /// The pod said goodbye, and this stream lies beyond the last that it handled (`GOAWAY`).
    GoAwayBeyond,
    /// The connection ended after some of the request was given to it.
    Lost,
    /// The pod broke the stream off with any other code.
    Reset,
    /// The pod was found down while the request waited there; its connection may still stand.
    PodDown,
}

impl Failure {
    /// Whether the pod may have begun to handle the request.
    #[must_use]
    pub const fn may_have_reached(self) -> bool {
        match self {
            Self::Refused | Self::NotSent | Self::RefusedStream | Self::GoAwayBeyond => false,
            Self::Lost | Self::Reset | Self::PodDown => true,
        }
    }
}

/// How far a request got before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Whether its caller has seen any of the response: then no other pod can take over.
    pub response_started: bool,
    /// Whether everything that its caller sent so far is still at hand to be sent again.
    pub replayable: bool,
}

/// What to do about a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it to another pod.
    Retry(Cost),
    /// Leave it where it is, until its deadline or the end of its connection.
    Wait,
    /// Answer its caller with an error of this outcome.
    Fail(Outcome),
}

/// What a retry costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing: no pod has done work for the request.
    Free,
    /// One token of the [`RetryBudget`].
    Budgeted,
}

/// The attempts of one request.
#[derive(Debug, Clone)]
pub struct Attempts {
    idempotent: bool,
    left: u32,
    /// Whether an attempt that failed may have reached its pod.
    reached: bool,
}

impl Attempts {
    /// A request about to be sent for the first time, which may be sent `attempts_max` times in
    /// all: at least 1, at most [`ATTEMPTS_MAX`].
    #[must_use]
    pub fn new(idempotent: bool, attempts_max: u32) -> Self {
        let left = attempts_max.min(ATTEMPTS_MAX).saturating_sub(1);
        Self { idempotent, left, reached: false }
    }

    /// Decides what a failure of the present attempt means, and counts the retry that it orders.
    ///
    /// A retry with a cost is paid from `budget`; if that is empty, there is no retry.
    pub fn failed(
        &mut self,
        failure: Failure,
        progress: Progress,
        budget: &RetryBudget,
    ) -> Verdict {
        let mut verdict = self.classify(failure, progress);
        if verdict == Verdict::Retry(Cost::Budgeted) && !budget.try_spend() {
            verdict = self.give_up(failure, progress);
        }
        if matches!(verdict, Verdict::Retry(_)) {
            self.left = self.left.saturating_sub(1);
            self.reached |= failure.may_have_reached();
        }
        verdict
    }

    /// The same decision as [`Attempts::failed`] with a budget that is never empty; counts nothing.
    #[must_use]
    pub const fn classify(&self, failure: Failure, progress: Progress) -> Verdict {
        if progress.response_started || !progress.replayable || self.left == 0 {
            return self.give_up(failure, progress);
        }
        match (failure.may_have_reached(), self.idempotent) {
            (false, _) => Verdict::Retry(Cost::Free),
            (true, true) => Verdict::Retry(Cost::Budgeted),
            (true, false) => self.give_up(failure, progress),
        }
    }

    /// The outcome of an error that ends the request now, for example at its deadline.
    ///
    /// `sent` says whether any byte of the present attempt was given to a connection.
    #[must_use]
    pub const fn outcome(&self, sent: bool) -> Outcome {
        if self.reached || sent { Outcome::Unknown } else { Outcome::NotApplied }
    }

    /// What is left if the request cannot be sent again.
    const fn give_up(&self, failure: Failure, progress: Progress) -> Verdict {
        match failure {
            // A pod that is down for its probes may yet answer; only its connection's end is final.
            Failure::PodDown => Verdict::Wait,
            Failure::Refused
            | Failure::NotSent
            | Failure::RefusedStream
            | Failure::GoAwayBeyond
            | Failure::Lost
            | Failure::Reset => {
                // Whatever a pod says of a stream afterwards, one that answered had the request.
                let sent = failure.may_have_reached() || progress.response_started;
                Verdict::Fail(self.outcome(sent))
            }
        }
    }
}

/// Tokens are counted in millionths, so that a ratio below one adds up exactly.
const TOKEN: u64 = 1_000_000;
/// The largest reserve, in tokens.
const RESERVE_MAX: u32 = 1_000_000;

/// Bounds retries to a ratio of the requests, plus a reserve for quiet times.
///
/// A bucket of tokens that begins full. Each request adds `ratio` of a token, up to `reserve`; a
/// retry that may repeat work takes one. So over any stretch of time there are at most
/// `ratio x requests + reserve` such retries. Shared by all threads; takes no lock.
#[derive(Debug)]
pub struct RetryBudget {
    tokens: AtomicU64,
    ratio: u64,
    reserve: u64,
}

impl RetryBudget {
    /// A full budget. `ratio` is retries a request, from 0 to 1; `reserve` is in retries.
    ///
    /// What is out of range is taken as the nearest value that is not; not-a-number as 0.
    #[must_use]
    pub fn new(ratio: f64, reserve: u32) -> Self {
        let ratio = millionths(ratio);
        let reserve = u64::from(reserve.min(RESERVE_MAX)).saturating_mul(TOKEN);
        Self { tokens: AtomicU64::new(reserve), ratio, reserve }
    }

    /// Counts a request: to be called once for each, and not for its retries.
    pub fn deposit(&self) {
        // A full bucket, the usual case, costs one load.
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| {
            let more = tokens.saturating_add(self.ratio).min(self.reserve);
            (more != tokens).then_some(more)
        });
    }

    /// Takes the token of one retry; `false` if there is none.
    pub fn try_spend(&self) -> bool {
        let spent = self
            .tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(TOKEN));
        spent.is_ok()
    }
}

/// From a ratio between 0 and 1, rounded to the nearest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=1,000,000 before the cast; not-a-number casts to 0"
)]
fn millionths(ratio: f64) -> u64 {
    (ratio.clamp(0.0, 1.0) * 1e6).round() as u64
}

#[cfg(test)]
mod tests;
