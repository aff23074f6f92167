//! How fast another machine's clock runs beside ours.
use std::collections::VecDeque;
use std::time::Duration;

/// What was seen of one clock, of the last minutes.
///
/// An answer that carries the other clock was made between our sending and our receiving. So the
/// other clock's lead at that time is known to half a round trip, best in the quickest of the
/// round trips of some seconds. Two such readings, far apart, tell the rates apart to the sum of
/// their uncertainties over the time between them.
#[derive(Debug, Default)]
pub(crate) struct Drift {
    /// The best reading of each span, oldest first.
    readings: VecDeque<Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    /// By our clock, in the middle between sending and receiving, in nanoseconds.
    at: i128,
    /// How far the other clock was ahead of that.
    lead: i128,
    /// By how much that may be wrong.
    uncertainty: i128,
}

impl Drift {
    /// The other clock read `theirs` between these two readings of ours.
    pub(crate) fn saw(&mut self, sent: Duration, received: Duration, theirs: u64) {
        let (sent, received) = (signed(sent), signed(received));
        let at = i128::midpoint(sent, received);
        let uncertainty = (received - sent).div_euclid(2) + 1;
        let reading = Reading { at, lead: i128::from(theirs) - at, uncertainty };
        let span = signed(SPAN);
        match self.readings.back_mut() {
            Some(last) if last.at.div_euclid(span) == at.div_euclid(span) => {
                if uncertainty < last.uncertainty {
                    *last = reading;
                }
            }
            Some(_) | None => self.readings.push_back(reading),
        }
        if self.readings.len() > SPANS {
            self.readings.pop_front();
        }
    }

    /// By how many millionths the other clock runs faster, and by how many that may be wrong; none
    /// before a minute has been seen.
    pub(crate) fn rate_ppm(&self) -> Option<(f64, f64)> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let between = last.at - first.at;
        if between < signed(WATCHED_LEAST) {
            return None;
        }
        let ppm = |nanos: i128| ratio(nanos, between) * 1e6;
        Some((ppm(last.lead - first.lead), ppm(last.uncertainty + first.uncertainty)))
    }
}

fn signed(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people, of a few digits")]
fn ratio(part: i128, whole: i128) -> f64 {
    part as f64 / whole as f64
}

/// Of the readings of so much time, the best one is kept.
const SPAN: Duration = Duration::from_secs(10);

/// So many of them are kept: five minutes.
const SPANS: usize = 30;

/// Nothing is said before so much time has been seen.
const WATCHED_LEAST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that runs `ppm` millionths fast, seen over round trips of these microseconds.
    fn watch(ppm: i64, seconds: u64, round_trips: &[u64]) -> Drift {
        let mut drift = Drift::default();
        for (second, micros) in (0..seconds).zip(round_trips.iter().cycle()) {
            let sent = Duration::from_secs(1_000 + second);
            let received = sent + Duration::from_micros(*micros);
            // It was read right when it arrived: as far from the middle as can be.
            let true_nanos = i64::try_from(received.as_nanos()).unwrap();
            let theirs = true_nanos + true_nanos / 1_000_000 * ppm;
            drift.saw(sent, received, u64::try_from(theirs).unwrap());
        }
        drift
    }

    #[test]
    fn a_clock_that_runs_fast_is_seen_within_its_uncertainty() {
        for ppm in [-300, 0, 1_500] {
            let drift = watch(ppm, 200, &[9_000, 300, 40_000]);
            let (rate, uncertainty) = drift.rate_ppm().unwrap();
            let wanted = f64::from(i32::try_from(ppm).unwrap());
            assert!((rate - wanted).abs() <= uncertainty + 0.1, "{rate} +- {uncertainty}");
            assert!(uncertainty < 5.0, "the quickest round trips count: {uncertainty}");
        }
    }

    #[test]
    fn nothing_is_said_too_soon() {
        assert_eq!(Drift::default().rate_ppm(), None);
        assert_eq!(watch(500, 40, &[300]).rate_ppm(), None);
    }
}
