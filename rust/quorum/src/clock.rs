//! The clock that leases go by.
#![expect(unsafe_code, reason = "the operating system's clock is read by a C call")]
use std::time::Duration;

/// The time since the machine started. It goes on while the machine is suspended, so that a lease
/// has ended when it wakes up, and no wall clock moves it.
///
/// Cost: tens of nanoseconds, no system call where the kernel offers one without.
pub(crate) fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid `timespec` that lives through the call, which writes nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    // Linux has had this clock since 2.6.39: without it no lease is safe, and nothing may go on.
    assert!(failed == 0, "CLOCK_BOOTTIME cannot be read: leases need it");
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanos)
}

/// `time` in nanoseconds, as it travels.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let readings: Vec<Duration> = (0..1000).map(|_| now()).collect();
        assert!(readings.is_sorted());
        assert!(readings[0] > Duration::ZERO);
    }
}
