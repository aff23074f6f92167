//! The first heirs of slots, kept from the first time that somebody asks for them.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceBox;

/// How many pods after the owner are kept.
pub(crate) const KEPT: usize = 3;

/// Slots that are this many apart share a place: 512 KiB are enough for any number of slots.
const PLACES_MAX: u32 = 1 << 16;

/// The heirs of the slots that somebody asked for, as indices of pods, 65,535 behind the last.
/// Nothing is allocated before the first.
pub(crate) struct Heirs {
    places: u32,
    /// Three heirs, and above them the number of the slot without its low 16 bits, plus one. 0 is
    /// empty. One word each, so whoever reads it reads what one thread wrote, and all threads
    /// would write the same.
    kept: OnceBox<Box<[AtomicU64]>>,
}

impl Heirs {
    /// None yet, of this many slots.
    pub(crate) fn new(slots: u32) -> Self {
        Self { places: slots.min(PLACES_MAX), kept: OnceBox::new() }
    }

    /// The heirs of a slot, if they are kept.
    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<[u16; KEPT]> {
        let kept = self.kept.get()?;
        let word = kept.get(place(slot, kept.len()))?.load(Ordering::Relaxed);
        let [first, second, third, tag] = parts(word);
        (tag == tag_of(slot)).then_some([first, second, third])
    }

    /// Keeps the heirs of a slot, instead of those of another one that shares its place.
    pub(crate) fn keep(&self, slot: u32, heirs: [u16; KEPT]) {
        let empty = || Box::new((0..self.places).map(|_| AtomicU64::new(0)).collect());
        let [first, second, third] = heirs;
        let word = [tag_of(slot), third, second, first]
            .into_iter()
            .fold(0, |word, part| word << 16 | u64::from(part));
        let kept = self.kept.get_or_init(empty);
        if let Some(place) = kept.get(place(slot, kept.len())) {
            place.store(word, Ordering::Relaxed);
        }
    }
}

/// The four quarters of a word, the lowest first.
#[inline]
fn parts(word: u64) -> [u16; 4] {
    [0, 16, 32, 48].map(|shift| ((word >> shift) & 0xFFFF) as u16)
}

/// Where a slot is kept among so many places, a power of two.
#[inline]
fn place(slot: u32, places: usize) -> usize {
    slot as usize & places.wrapping_sub(1)
}

/// There are at most 2^24 slots, so this is from 1 to 256.
#[inline]
fn tag_of(slot: u32) -> u16 {
    (((slot >> 16) & 0xFF) as u16).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::NOBODY;

    #[test]
    fn heirs_are_kept_until_a_slot_of_the_same_place_comes() {
        let heirs = Heirs::new(1 << 24);
        assert_eq!(heirs.get(5), None);
        heirs.keep(5, [1, NOBODY, NOBODY]);
        assert_eq!(heirs.get(5), Some([1, NOBODY, NOBODY]));
        assert_eq!(heirs.get(6), None);
        let last = (1 << 24) - (1 << 16) + 5;
        heirs.keep(last, [65_534, 0, 7]);
        assert_eq!(heirs.get(last), Some([65_534, 0, 7]));
        assert_eq!(heirs.get(5), None);
    }

    #[test]
    fn a_few_slots_have_a_place_each() {
        let heirs = Heirs::new(2);
        heirs.keep(0, [0; KEPT]);
        heirs.keep(1, [1; KEPT]);
        assert_eq!((heirs.get(0), heirs.get(1)), (Some([0; KEPT]), Some([1; KEPT])));
    }
}
