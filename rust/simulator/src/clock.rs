//! The monotonic clock of one process: its own zero, its own pace.

use std::time::Duration;

/// Maps true time to the time that one process reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What the clock read at true time zero.
    zero: Duration,
    /// How many parts in a million it runs fast; negative: slow.
    fast_ppm: i64,
}

impl Clock {
    pub(crate) fn new(zero: Duration, fast_ppm: i64) -> Self {
        Self { zero, fast_ppm }
    }

    /// What the clock reads at true time `now`.
    pub(crate) fn local(self, now: Duration) -> Duration {
        self.zero + scaled(now, 1_000_000 + self.fast_ppm, 1_000_000)
    }

    /// The first true time at which the clock reads at least `local`.
    pub(crate) fn when(self, local: Duration) -> Duration {
        let since = local.saturating_sub(self.zero);
        scaled(since, 1_000_000, 1_000_000 + self.fast_ppm) + Duration::from_nanos(1)
    }
}

fn scaled(time: Duration, times: i64, over: i64) -> Duration {
    let (times, over) = (times.unsigned_abs(), over.unsigned_abs());
    let nanos = time.as_nanos() * u128::from(times);
    // A division of 64 bits is many times as fast as one of 128, and all but far times fit.
    let nanos = match u64::try_from(nanos) {
        Ok(nanos) => nanos / over,
        Err(_) => u64::try_from(nanos / u128::from(over)).unwrap_or(u64::MAX / 2),
    };
    Duration::from_nanos(nanos)
}
