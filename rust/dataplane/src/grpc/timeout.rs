//! The `grpc-timeout` header: how long a caller will wait, from the arrival of its request.

use core::fmt;
use core::time::Duration;
use thiserror::Error;

/// The most digits that a timeout may have.
const DIGITS_MAX: usize = 8;
/// The largest count that fits in [`DIGITS_MAX`] digits.
const COUNT_MAX: u128 = 99_999_999;
/// Units from fine to coarse: letter, nanoseconds.
const UNITS: [(u8, u128); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// A `grpc-timeout` that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "grpc-timeout must be 1 to 8 digits and a unit (H, M, S, m, u or n), for example 150m for 150 milliseconds"
)]
pub struct TimeoutError;

/// Reads the value of a `grpc-timeout` header.
///
/// The longest timeout that can be written, 99999999 hours, is about 11,400 years: add it to a time
/// with `saturating_add`.
///
/// # Errors
///
/// [`TimeoutError`] if the value is anything but 1 to 8 ASCII digits and one of the six units.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, TimeoutError> {
    let (unit, digits) = value.split_last().ok_or(TimeoutError)?;
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return Err(TimeoutError);
    }
    let mut count: u32 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(TimeoutError);
        }
        // Eight decimal digits stay below 2^27, so neither operation can saturate.
        count = count.saturating_mul(10).saturating_add(u32::from(*digit & 15));
    }
    let count = u64::from(count);
    match unit {
        b'n' => Ok(Duration::from_nanos(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'S' => Ok(Duration::from_secs(count)),
        b'M' => Ok(Duration::from_secs(count.saturating_mul(60))),
        b'H' => Ok(Duration::from_secs(count.saturating_mul(3_600))),
        _ => Err(TimeoutError),
    }
}

/// Writes the value of a `grpc-timeout` header in the finest unit that fits in eight digits.
///
/// What does not divide is rounded up: a pod that gives up just after its caller wastes a moment,
/// one that gives up before it fails a request that had time. Longer than the header can say
/// becomes the longest that it can. Does not allocate.
#[must_use]
pub fn format_timeout(timeout: Duration) -> TimeoutText {
    let nanoseconds = timeout.as_nanos();
    let (count, unit) = UNITS
        .iter()
        .map(|(unit, size)| (nanoseconds.div_ceil(*size), *unit))
        .find(|(count, _)| *count <= COUNT_MAX)
        .unwrap_or((COUNT_MAX, b'H'));
    TimeoutText::new(count, unit)
}

/// The text of a `grpc-timeout`, held without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimeoutText {
    bytes: [u8; DIGITS_MAX + 1],
    /// Where the text begins: it is written from the end.
    start: u8,
}

impl TimeoutText {
    fn new(mut count: u128, unit: u8) -> Self {
        let mut bytes = [b'0'; DIGITS_MAX + 1];
        let mut start = DIGITS_MAX + 1;
        let mut places = bytes.iter_mut().rev();
        if let Some(place) = places.next() {
            *place = unit;
            start = start.saturating_sub(1);
        }
        for place in places {
            *place = b'0' | u8::try_from(count % 10).unwrap_or(0);
            start = start.saturating_sub(1);
            count /= 10;
            if count == 0 {
                break;
            }
        }
        Self { bytes, start: u8::try_from(start).unwrap_or(0) }
    }

    /// The value of the header: ASCII, 2 to 9 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or(&self.bytes)
    }
}

impl fmt::Debug for TimeoutText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimeoutText({})", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(timeout: Duration) -> String {
        String::from_utf8(format_timeout(timeout).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_timeout_is_read_in_every_unit() {
        assert_eq!(parse_timeout(b"1n"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse_timeout(b"20u"), Ok(Duration::from_micros(20)));
        assert_eq!(parse_timeout(b"150m"), Ok(Duration::from_millis(150)));
        assert_eq!(parse_timeout(b"0S"), Ok(Duration::ZERO));
        assert_eq!(parse_timeout(b"2M"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_timeout(b"99999999H"), Ok(Duration::from_secs(99_999_999 * 3_600)));
    }

    #[test]
    fn what_is_not_a_timeout_is_refused() {
        for value in
            ["", "m", "1", "1s", "1h", "-1S", "+1S", "1.5S", " 1S", "1S ", "123456789n", "1mS"]
        {
            assert_eq!(parse_timeout(value.as_bytes()), Err(TimeoutError), "{value:?}");
        }
    }

    #[test]
    fn a_timeout_is_written_as_finely_as_it_fits() {
        assert_eq!(text(Duration::ZERO), "0n");
        assert_eq!(text(Duration::from_nanos(99_999_999)), "99999999n");
        assert_eq!(text(Duration::from_nanos(100_000_001)), "100001u");
        assert_eq!(text(Duration::from_millis(150)), "150000u");
        assert_eq!(text(Duration::MAX), "99999999H");
    }

    proptest! {
        #[test]
        fn a_written_timeout_reads_back_as_no_shorter_and_hardly_longer(
            seconds in 0_u64..350_000_000_000, nanoseconds in 0_u32..1_000_000_000,
        ) {
            let timeout = Duration::new(seconds, nanoseconds);
            let read = parse_timeout(format_timeout(timeout).as_bytes()).unwrap();
            prop_assert!(read >= timeout);
            prop_assert!(read - timeout <= timeout / 100_000 + Duration::from_nanos(1));
        }
    }
}
