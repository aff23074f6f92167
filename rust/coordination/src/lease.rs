//! The numbers of a lease, and the arithmetic between them.

use std::time::Duration;

/// The numbers that all voters and members of a cluster share. Fixed for the life of a cluster.
///
/// A member may write for [`LeaseParameters::holder_window`] after it *sent* a renewal; a voter
/// assumes that it may for [`LeaseParameters::ttl`] after it *received* it. Clocks that drift by
/// at most `drift_ppm` from true time cannot make the first outlast the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseParameters {
    /// L: how long a voter guards a writer after its renewal.
    pub ttl: Duration,
    /// h: the time between two renewals.
    pub renewal_interval: Duration,
    /// rho: how far a clock may drift from true time, in millionths.
    pub drift_ppm: u32,
    /// eps: what a member ends its lease earlier for, to cover the way from the guard to the act.
    pub margin: Duration,
}

/// An inequality that the numbers of a lease must keep, and do not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The lease would end before its renewals could arrive.
    #[error(
        "the lease of {ttl:?} leaves {window:?} to write in, which is less than two renewal intervals of \
         {renewal_interval:?}: one lost message would end it; raise ttl or lower renewal_interval"
    )]
    TooShort {
        /// L.
        ttl: Duration,
        /// L (1 - 2 rho) - eps.
        window: Duration,
        /// h.
        renewal_interval: Duration,
    },
    /// A clock that drifts so far cannot hold a lease.
    #[error("drift_ppm is {drift_ppm}: expected at most 100000 (a tenth)")]
    DriftTooLarge {
        /// rho, in millionths.
        drift_ppm: u32,
    },
    /// A lease so long that nobody would wait for its end.
    #[error("ttl is {ttl:?}: expected at most 10 minutes")]
    TooLong {
        /// L.
        ttl: Duration,
    },
    /// Renewals without a pause between them.
    #[error("renewal_interval is zero: expected at least a millisecond")]
    NoInterval,
}

impl LeaseParameters {
    /// The default: a dead writer is replaced within half a second on a machine whose event loop
    /// is never stalled for longer than 80 ms.
    pub const DEFAULT: Self = Self {
        ttl: Duration::from_millis(300),
        renewal_interval: Duration::from_millis(50),
        drift_ppm: 1_000,
        margin: Duration::from_millis(10),
    };

    /// For a lease thread at real-time priority: replaced within a quarter of a second.
    pub const TIGHT: Self = Self {
        ttl: Duration::from_millis(150),
        renewal_interval: Duration::from_millis(25),
        drift_ppm: 1_000,
        margin: Duration::from_millis(3),
    };

    /// Checks the inequalities between the numbers.
    ///
    /// # Errors
    ///
    /// [`LeaseError`], naming the inequality that does not hold.
    pub fn check(self) -> Result<Self, LeaseError> {
        if self.drift_ppm > 100_000 {
            return Err(LeaseError::DriftTooLarge { drift_ppm: self.drift_ppm });
        }
        if self.ttl > TTL_MOST {
            return Err(LeaseError::TooLong { ttl: self.ttl });
        }
        if self.renewal_interval < Duration::from_millis(1) {
            return Err(LeaseError::NoInterval);
        }
        let window = self.holder_window();
        if window < self.renewal_interval * 2 {
            let Self { ttl, renewal_interval, .. } = self;
            return Err(LeaseError::TooShort { ttl, window, renewal_interval });
        }
        Ok(self)
    }

    /// How long a member may write after it sent a renewal that a majority granted:
    /// L (1 - 2 rho) - eps.
    #[must_use]
    pub fn holder_window(self) -> Duration {
        self.ttl.saturating_sub(self.drift_of_ttl()).saturating_sub(self.margin)
    }

    /// How long a voter that knows of no grants waits before it may end one: L (1 + 2 rho).
    #[must_use]
    pub fn quiet_time(self) -> Duration {
        self.ttl.saturating_add(self.drift_of_ttl())
    }

    /// The longest stall of a member that cannot end its lease:
    /// the window, less one renewal interval and the round trip.
    #[must_use]
    pub fn stall_budget(self, round_trip: Duration) -> Duration {
        self.holder_window().saturating_sub(self.renewal_interval).saturating_sub(round_trip)
    }

    /// Within this the calls of one round are answered, or the try is given up: a round trip with
    /// a disk sync. A lease has to be so long that this is enough.
    pub(crate) fn answer_time(self) -> Duration {
        self.ttl * 2 / 3
    }

    /// So long after a grant a member renews without another one; then it probes. A probe costs
    /// who hears its answer a round trip, and a renewal in vain costs the others its interval.
    /// The first grant after a probe may take longer: the voters are there, and may be far.
    pub(crate) fn renewal_patience(self) -> Duration {
        self.renewal_interval * 2
    }

    /// After this without an answer a call is sent again.
    pub(crate) fn resend_interval(self) -> Duration {
        self.ttl / 6
    }

    /// A proposer at work repeats itself more often than this.
    pub(crate) fn proposer_silence(self) -> Duration {
        self.ttl / 2
    }

    /// The first wait after a try that failed; it doubles with each.
    pub(crate) fn backoff(self) -> Duration {
        self.ttl / 10
    }

    /// Between the first tries of two members that see the same failure.
    pub(crate) fn stagger(self) -> Duration {
        self.ttl / 15
    }

    /// 2 rho L, rounded up: a window that is a nanosecond too short harms nobody.
    fn drift_of_ttl(self) -> Duration {
        let nanos = u64::try_from(self.ttl.as_nanos()).unwrap_or(u64::MAX);
        let twice = nanos.saturating_mul(u64::from(self.drift_ppm).saturating_mul(2));
        Duration::from_nanos(twice.div_ceil(1_000_000))
    }
}

/// Longer leases serve nobody, and the arithmetic stays far from its limits.
const TTL_MOST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_the_member_ends_before_the_guard_of_the_voter() {
        for parameters in [LeaseParameters::DEFAULT, LeaseParameters::TIGHT] {
            assert!(parameters.check().is_ok());
            assert!(parameters.holder_window() < parameters.ttl);
            assert!(parameters.quiet_time() > parameters.ttl);
        }
        assert_eq!(LeaseParameters::DEFAULT.holder_window(), Duration::from_micros(289_400));
    }

    #[test]
    fn a_lease_that_one_lost_message_ends_is_refused() {
        let short = LeaseParameters { ttl: Duration::from_millis(60), ..LeaseParameters::DEFAULT };
        assert!(matches!(short.check(), Err(LeaseError::TooShort { .. })));
        let long = LeaseParameters { ttl: Duration::from_secs(601), ..LeaseParameters::DEFAULT };
        assert_eq!(long.check(), Err(LeaseError::TooLong { ttl: long.ttl }));
        let restless =
            LeaseParameters { renewal_interval: Duration::ZERO, ..LeaseParameters::DEFAULT };
        assert_eq!(restless.check(), Err(LeaseError::NoInterval));
        let wild = LeaseParameters { drift_ppm: 200_000, ..LeaseParameters::DEFAULT };
        assert_eq!(wild.check(), Err(LeaseError::DriftTooLarge { drift_ppm: 200_000 }));
    }
}
