//! The last thousand of something that is measured again and again.
use std::collections::VecDeque;
use std::time::Duration;

/// The last [`LENGTH`] measurements of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    values: VecDeque<Duration>,
}

impl Window {
    /// One more; the oldest goes if there are too many.
    pub(crate) fn push(&mut self, value: Duration) {
        if self.values.len() == LENGTH {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    /// The least of them; none if there are none.
    pub(crate) fn least(&self) -> Option<Duration> {
        self.values.iter().min().copied()
    }

    /// The last one; zero if there is none.
    pub(crate) fn last(&self) -> Duration {
        self.values.back().copied().unwrap_or_default()
    }

    /// The value that `per_cent` of them do not exceed; zero if there are none.
    ///
    /// Cost: sorts a copy.
    pub(crate) fn percentile(&self, per_cent: usize) -> Duration {
        let mut sorted: Vec<Duration> = self.values.iter().copied().collect();
        sorted.sort_unstable();
        let place = (sorted.len() * per_cent).div_ceil(100).saturating_sub(1);
        sorted.get(place).copied().unwrap_or_default()
    }
}

/// So many are remembered.
pub(crate) const LENGTH: usize = 1_000;

/// `time` in milliseconds, for figures.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_last_thousand() {
        let mut window = Window::default();
        assert_eq!(window.percentile(99), Duration::ZERO);
        assert_eq!(window.least(), None);
        for milliseconds in 0..1_100 {
            window.push(Duration::from_millis(milliseconds));
        }
        assert_eq!(window.least(), Some(Duration::from_millis(100)));
        assert_eq!(window.percentile(50), Duration::from_millis(599));
        assert_eq!(window.percentile(99), Duration::from_millis(1_089));
        assert_eq!(window.last(), window.percentile(100));
    }
}
