//! Numbers for states: the same for the same content, in every run, and as good as certainly
//! different for different content.

use std::hash::{Hash, Hasher};

/// The number of the content.
pub(crate) fn number(content: &impl Hash) -> u64 {
    let mut hasher = Folder(SEED);
    content.hash(&mut hasher);
    hasher.finish()
}

/// Folds each word in by a multiplication to twice its width, as wyhash does (Wang Yi, 2019).
struct Folder(u64);

impl Folder {
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
    fn fold(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word) * u128::from(MULTIPLIER);
        let (low, high) = (wide as u64, (wide >> u64::BITS) as u64);
        // The word once more, so that no state swallows what comes.
        self.0 = (low ^ high).wrapping_add(word.rotate_left(32)) ^ SEED;
    }
}

impl Hasher for Folder {
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.fold(chunk.try_into().map_or(0, u64::from_le_bytes));
        }
        let mut last = [0; 8];
        let rest = chunks.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.fold(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, word: u8) {
        self.fold(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.fold(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.fold(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.fold(word as u64);
    }

    fn finish(&self) -> u64 {
        let mut last = Self(self.0);
        last.fold(SEED);
        last.0
    }
}

const SEED: u64 = 0x9E37_79B9_7F4A_7C15;
const MULTIPLIER: u64 = 0xD1B5_4A32_D192_ED03;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_million_contents_that_differ_little_have_a_million_numbers() {
        let mut numbers = BTreeSet::new();
        for one in 0..1000_u64 {
            for other in 0..1000_u32 {
                numbers.insert(number(&(one, other, "pod", Some(one))));
            }
        }
        assert_eq!(numbers.len(), 1_000_000);
        let words = ["", "a", "a\0", "b", "ab", "abcdefgh", "abcdefgh\0"];
        assert_eq!(words.map(|word| number(&word)).into_iter().collect::<BTreeSet<_>>().len(), 7);
    }
}
