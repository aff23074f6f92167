//! The one clock of a sidecar, and the heartbeats that show whether its loops still turn.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Monotonic time since the sidecar started: the `now` that the data plane is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts a clock at zero.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Returns the time since the start.
    #[must_use]
    pub(crate) fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// When a loop last turned.
#[derive(Debug, Default)]
pub(crate) struct Heartbeat {
    beat_ms: AtomicU64,
}

impl Heartbeat {
    /// Notes that the loop turned at `now`.
    pub(crate) fn beat(&self, now: Duration) {
        self.beat_ms.store(millis(now), Ordering::Relaxed);
    }

    /// Returns how long ago the loop turned, in milliseconds.
    #[must_use]
    pub(crate) fn age_ms(&self, now: Duration) -> u64 {
        millis(now).saturating_sub(self.beat_ms.load(Ordering::Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
