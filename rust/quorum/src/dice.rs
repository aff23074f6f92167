//! Random numbers for what decides and has no dice of its own.
use crate::error::StartError;

/// Random numbers that no other process draws, but by a chance of one in 2^64 for each pair.
#[derive(Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Dice whose start the operating system drew.
    ///
    /// # Errors
    ///
    /// [`StartError::NoRandomness`].
    pub(crate) fn new() -> Result<Self, StartError> {
        let state = getrandom::u64()
            .map_err(|error| StartError::NoRandomness { reason: error.to_string() })?;
        Ok(Self { state })
    }

    /// The next number. Source: splitmix64, Steele, Lea and Flood (2014): each of the 2^64 numbers
    /// comes once before any comes twice.
    pub(crate) fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ() {
        let (mut one, mut other) = (Dice::new().unwrap(), Dice::new().unwrap());
        let mut words: Vec<u64> = (0..1000).flat_map(|_| [one.word(), other.word()]).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 2000);
    }
}
