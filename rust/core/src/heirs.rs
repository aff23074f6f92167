//! The first heirs of slots, kept from the first time that somebody asks for them.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU64, Ordering};

use once_cell::race::OnceBox;

/// How many pods after the owner are kept.
pub(crate) const KEPT: usize = 15;

/// Slots that are this many apart share a place: 512 KiB a row are enough for any slots.
const PLACES_MAX: u32 = 1 << 16;
const PLACE_BITS: u32 = PLACES_MAX.trailing_zeros();

/// A word has room for three pods at least, of 16 bits each, beside the most slots' tag.
const ROWS_MAX: usize = KEPT / 3;

/// Some pods of a list that come one after the other, as indices: the lowest bits are the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    word: u64,
    pod_bits: u32,
    left: usize,
}

impl Row {
    /// One pod alone.
    #[inline]
    pub(crate) fn of_one(pod: u16) -> Self {
        Self { word: pod.into(), pod_bits: u16::BITS, left: 1 }
    }

    /// Takes the next pod.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        let pod = self.word & !u64::MAX.wrapping_shl(self.pod_bits);
        self.word = self.word.wrapping_shr(self.pod_bits);
        Some((pod & 0xFFFF) as u16)
    }
}

/// The heirs of the slots that somebody asked for. The fewer pods there are, the fewer bits each
/// takes, and the more of a slot's heirs are in a row: all 15 of 16 pods, six of a thousand.
pub(crate) struct Heirs {
    places: u32,
    tag_bits: u32,
    pod_bits: u32,
    /// How many heirs a slot has here.
    count: usize,
    rows: [Rows; ROWS_MAX],
}

/// One row of every slot.
#[derive(Default)]
struct Rows {
    /// How many heirs it has.
    count: usize,
    /// By place: the heirs, and below them the number of the slot without its low 16 bits, plus
    /// one. 0 is empty. One word each, so whoever reads it reads what one thread wrote, and all
    /// threads would write the same. Nothing is allocated before somebody asks.
    words: OnceBox<Box<[AtomicU64]>>,
}

impl Heirs {
    /// None yet, for this many slots, and `pods` of which `contenders` may own slots.
    pub(crate) fn new(slots: u32, pods: usize, contenders: usize) -> Self {
        let tag_bits = slots.trailing_zeros().saturating_sub(PLACE_BITS) + 1;
        let pod_bits = (usize::BITS - pods.saturating_sub(1).leading_zeros()).max(1);
        let count = KEPT.min(contenders.saturating_sub(1));
        let room = ((u64::BITS - tag_bits) / pod_bits) as usize;
        let rows = core::array::from_fn(|row| Rows {
            count: count.saturating_sub(row * room).min(room),
            words: OnceBox::new(),
        });
        Self { places: slots.min(PLACES_MAX), tag_bits, pod_bits, count, rows }
    }

    /// How many heirs of a slot to find for one row: all, or the first row alone, since few ask
    /// for more.
    pub(crate) fn count_for(&self, row: usize) -> usize {
        if row == 0 { self.rows[0].count } else { self.count }
    }

    /// Whether there is such a row, kept or not.
    pub(crate) fn has(&self, row: usize) -> bool {
        self.rows.get(row).is_some_and(|rows| rows.count > 0)
    }

    /// One row of the heirs of a slot, if it is kept.
    #[inline]
    pub(crate) fn get(&self, slot: u32, row: usize) -> Option<Row> {
        let rows = self.rows.get(row)?;
        let words = rows.words.get()?;
        let word = words.get(place(slot, words.len()))?.load(Ordering::Relaxed);
        let is_of_slot = word & !u64::MAX.wrapping_shl(self.tag_bits) == tag_of(slot);
        is_of_slot.then(|| self.row(word, rows.count))
    }

    /// Keeps the first heirs of a slot, instead of those of another one that shares its place.
    /// Returns one row of them.
    pub(crate) fn keep(&self, slot: u32, heirs: &[u16], row: usize) -> Option<Row> {
        let empty = || Box::new((0..self.places).map(|_| AtomicU64::new(0)).collect());
        let (mut left, mut wanted) = (heirs, None);
        for (number, rows) in self.rows.iter().take_while(|rows| rows.count > 0).enumerate() {
            let Some((heirs, others)) = left.split_at_checked(rows.count) else { break };
            left = others;
            let pack = |word, pod: &u16| word << self.pod_bits | u64::from(*pod);
            let word = heirs.iter().rev().fold(0, pack) << self.tag_bits | tag_of(slot);
            let words = rows.words.get_or_init(empty);
            words.get(place(slot, words.len()))?.store(word, Ordering::Relaxed);
            if number == row {
                wanted = Some(self.row(word, heirs.len()));
            }
        }
        wanted
    }

    #[inline]
    fn row(&self, word: u64, count: usize) -> Row {
        Row { word: word.wrapping_shr(self.tag_bits), pod_bits: self.pod_bits, left: count }
    }
}

/// Where a slot is kept among so many places, a power of two.
#[inline]
fn place(slot: u32, places: usize) -> usize {
    slot as usize & places.wrapping_sub(1)
}

/// There are at most 2^24 slots, so this is from 1 to 256.
#[inline]
fn tag_of(slot: u32) -> u64 {
    u64::from(slot >> PLACE_BITS) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// All kept heirs of a slot.
    fn all(heirs: &Heirs, slot: u32) -> Option<Vec<u16>> {
        let rows = (0..).take_while(|row| heirs.has(*row)).map(|row| heirs.get(slot, row));
        let rows: Option<Vec<Row>> = rows.collect();
        let pods = |mut row: Row| std::iter::from_fn(move || row.next());
        rows.map(|rows| rows.into_iter().flat_map(pods).collect())
    }

    #[test]
    fn heirs_are_kept_until_a_slot_of_the_same_place_comes() {
        let heirs = Heirs::new(1 << 24, 65_535, 65_535);
        let pods: Vec<u16> = (65_520..65_535).collect();
        assert_eq!(all(&heirs, 5), None);
        heirs.keep(5, &pods, 0);
        assert_eq!(all(&heirs, 5), Some(pods.clone()));
        assert_eq!(all(&heirs, 6), None);
        let last = (1 << 24) - (1 << 16) + 5;
        heirs.keep(last, &[0; KEPT], 0);
        assert_eq!(all(&heirs, last), Some(std::vec![0; KEPT]));
        assert_eq!(all(&heirs, 5), None);
        // A first row alone says nothing about the others.
        heirs.keep(5, &pods[..heirs.count_for(0)], 0);
        assert_eq!((heirs.get(5, 0).is_some(), heirs.get(5, 1)), (true, None));
    }

    #[test]
    fn heirs_come_back_whatever_the_number_of_pods_and_slots() {
        for slots in [1_u32, 2, 1 << 16, 1 << 17, 1 << 24] {
            for pods in (1..200).chain([1000, 1024, 1025, 4096, 8192, 32_768, 65_535]) {
                let heirs = Heirs::new(slots, pods, pods);
                let first = u16::try_from(pods.saturating_sub(KEPT + 1)).unwrap();
                let expected: Vec<u16> = (first..).take(KEPT.min(pods - 1)).collect();
                for row in (0..).take_while(|row| heirs.has(*row)) {
                    let told = heirs.keep(slots - 1, &expected[..heirs.count_for(row)], row);
                    assert_eq!(told, heirs.get(slots - 1, row), "{slots} slots, {pods} pods");
                }
                assert_eq!(all(&heirs, slots - 1), Some(expected), "{slots} slots, {pods} pods");
            }
        }
    }
}
