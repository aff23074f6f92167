//! How late the thread that keeps the lease wakes up: what the machine does to it.
use std::collections::VecDeque;
use std::time::Duration;

use hashroute_coordination::LeaseParameters;

use crate::window::Window;

/// A ticker's lateness. The thread asks to be woken up each [`TICK`], and notes by how much later
/// it was. The timers of the event loop round up to a millisecond, so that is the least it sees.
#[derive(Debug)]
pub(crate) struct Stalls {
    due: Duration,
    worst: Duration,
    recent: Window,
    /// The worst of each of the last minutes, the present one last.
    minutes: VecDeque<Duration>,
    minute_ends: Duration,
}

/// What was measured until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct StallFigures {
    pub(crate) worst: Duration,
    pub(crate) worst_lately: Duration,
    pub(crate) recent: Window,
}

impl Stalls {
    pub(crate) fn new(now: Duration) -> Self {
        Self {
            due: now + TICK,
            worst: Duration::ZERO,
            recent: Window::default(),
            minutes: VecDeque::from([Duration::ZERO]),
            minute_ends: now + MINUTE,
        }
    }

    /// When the thread is to be woken up next.
    pub(crate) fn deadline(&self) -> Duration {
        self.due
    }

    /// The thread is awake.
    pub(crate) fn tick(&mut self, now: Duration) {
        if now < self.due {
            return;
        }
        let late = now - self.due;
        self.due = now + TICK;
        self.worst = self.worst.max(late);
        self.recent.push(late);
        if now >= self.minute_ends {
            self.minute_ends = now + MINUTE;
            self.minutes.push_back(Duration::ZERO);
            if self.minutes.len() > MINUTES {
                self.minutes.pop_front();
            }
        }
        if let Some(minute) = self.minutes.back_mut() {
            *minute = late.max(*minute);
        }
    }

    /// The longest stall since the start.
    pub(crate) fn worst(&self) -> Duration {
        self.worst
    }

    /// The longest stall of the last ten minutes.
    pub(crate) fn worst_lately(&self) -> Duration {
        self.minutes.iter().max().copied().unwrap_or_default()
    }

    pub(crate) fn figures(&self) -> StallFigures {
        let (worst, worst_lately) = (self.worst, self.worst_lately());
        StallFigures { worst, worst_lately, recent: self.recent.clone() }
    }
}

/// Whether a lease is long enough for a machine with such stalls: four times the longest.
pub(crate) fn is_long_enough(lease: LeaseParameters, worst: Duration) -> bool {
    lease.ttl >= worst.saturating_mul(STALLS_IN_A_LEASE)
}

/// A lease is to be so many times the longest stall that was measured in a short time, for longer
/// ones will come.
pub(crate) const STALLS_IN_A_LEASE: u32 = 4;

/// How often the thread wakes up to see whether it can.
const TICK: Duration = Duration::from_millis(10);

const MINUTE: Duration = Duration::from_secs(60);

/// So many minutes count as lately.
const MINUTES: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_by_how_much_the_thread_woke_up_late() {
        let at = Duration::from_millis;
        let mut stalls = Stalls::new(at(0));
        stalls.tick(at(5));
        assert_eq!(stalls.deadline(), at(10));
        stalls.tick(at(47));
        assert_eq!((stalls.worst(), stalls.deadline()), (at(37), at(57)));
        stalls.tick(at(58));
        assert_eq!(stalls.figures().recent.last(), at(1));
        assert!(is_long_enough(LeaseParameters::TIGHT, stalls.worst()));
        assert!(!is_long_enough(LeaseParameters::TIGHT, at(38)));
    }

    #[test]
    fn what_is_long_past_is_no_longer_lately() {
        let mut stalls = Stalls::new(Duration::ZERO);
        stalls.tick(Duration::from_millis(210));
        for second in 1..700 {
            stalls.tick(Duration::from_secs(second) + Duration::from_millis(210));
        }
        // Each tick above is a second after the one before: 990 ms late.
        assert_eq!(stalls.worst_lately(), Duration::from_millis(990));
        let mut calm = Stalls::new(Duration::ZERO);
        calm.tick(Duration::from_secs(3));
        let mut now = calm.deadline();
        while now < Duration::from_secs(700) {
            calm.tick(now);
            now = calm.deadline();
        }
        assert_eq!(calm.worst_lately(), Duration::ZERO);
        assert!(calm.worst() > Duration::from_secs(2));
    }
}
