//! The term of each slot, in and out of messages: see `SlotTerms` in the contract.
//!
//! A record has few different terms, every slot is looked at in each change of it, and which term a
//! slot has is a matter of chance: so few terms are handled without a branch on any slot.
use super::error::WireError;
use super::record::at_most;
use crate::proto;

/// The different terms, ascending, and which of them each slot has.
pub(super) fn terms_out(terms: &[u64]) -> proto::SlotTerms {
    if let Some((palette, places)) = few_out(terms) {
        let indices = match index_bits(palette.len()) {
            1 => pack::<1, 8>(&places),
            2 => pack::<2, 4>(&places),
            _ => pack::<4, 2>(&places),
        };
        return proto::SlotTerms { terms: palette, indices };
    }
    let mut palette = terms.to_vec();
    palette.sort_unstable();
    palette.dedup();
    let bytes = index_bits(palette.len()) / 8;
    let place = |term: &u64| palette.partition_point(|other| other < term).to_le_bytes();
    let indices = terms.iter().flat_map(|term| place(term).into_iter().take(bytes)).collect();
    proto::SlotTerms { terms: palette, indices }
}

/// The same for at most [`FEW_TERMS`], with an index for each slot; none if there are more. Each
/// term is found by one look at all slots.
fn few_out(terms: &[u64]) -> Option<(Vec<u64>, Vec<u8>)> {
    let (mut palette, mut places) = (Vec::with_capacity(FEW_TERMS), vec![0; terms.len()]);
    let mut last = 0_u64;
    loop {
        // By how much a term comes after the last one found; what does not wraps around.
        let beyond = terms.iter().map(|term| term.wrapping_sub(last).wrapping_sub(1)).min();
        let Some(beyond) = beyond.filter(|beyond| *beyond < u64::MAX - last) else {
            return Some((palette, places));
        };
        if palette.len() == FEW_TERMS {
            return None;
        }
        last += beyond + 1;
        if !palette.is_empty() {
            for (place, term) in places.iter_mut().zip(terms) {
                *place += u8::from(*term >= last);
            }
        }
        palette.push(last);
    }
}

fn pack<const BITS: usize, const IN_A_BYTE: usize>(places: &[u8]) -> Vec<u8> {
    let byte = |places: &[u8]| places.iter().rev().fold(0, |byte, place| byte << BITS | place);
    let (whole, rest) = places.as_chunks::<IN_A_BYTE>();
    let last = (!rest.is_empty()).then(|| byte(rest));
    whole.iter().map(|places| byte(places)).chain(last).collect()
}

/// Reads the terms of so many slots.
pub(super) fn terms_in(message: &proto::SlotTerms, slots: u32) -> Result<Vec<u64>, WireError> {
    let (palette, indices, slots) = (&message.terms, &message.indices, slots as usize);
    let palette = at_most("slot_terms.terms", palette, slots)?;
    if palette.first() == Some(&0) || !palette.is_sorted_by(|one, other| one < other) {
        let expected = "ascending from 1 or more";
        let got = palette.first().copied().unwrap_or_default();
        return Err(WireError::Number { field: "slot_terms.terms", got, expected });
    }
    let (field, bytes) = ("slot_terms.indices", indices.len());
    let bits = index_bits(palette.len());
    if bytes != (slots * bits).div_ceil(8) {
        let expected = "the bits of one index for each slot";
        return Err(WireError::Length { field, bytes, expected });
    }
    let terms = match bits {
        1 => unpack::<1, 8>(palette, indices, slots),
        2 => unpack::<2, 4>(palette, indices, slots),
        4 => unpack::<4, 2>(palette, indices, slots),
        _ => wide_in(palette, indices, bits / 8),
    };
    terms.map_err(|index| {
        let got = u64::try_from(index).unwrap_or(u64::MAX);
        WireError::Number { field, got, expected: "less than there are terms" }
    })
}

/// The term of each slot, or an index for which there is none.
fn unpack<const BITS: usize, const IN_A_BYTE: usize>(
    palette: &[u64],
    indices: &[u8],
    slots: usize,
) -> Result<Vec<u64>, usize> {
    // 0 is no term.
    let mut known = [0; FEW_TERMS];
    known[..palette.len()].copy_from_slice(palette);
    let index = |byte: u8, place: usize| usize::from(byte >> (place * BITS)) & ((1 << BITS) - 1);
    let mut terms = vec![0; indices.len() * IN_A_BYTE];
    for (places, byte) in terms.as_chunks_mut::<IN_A_BYTE>().0.iter_mut().zip(indices) {
        for (place, term) in places.iter_mut().enumerate() {
            *term = known[index(*byte, place)];
        }
    }
    terms.truncate(slots);
    match terms.iter().position(|term| *term == 0) {
        Some(slot) => Err(index(indices[slot / IN_A_BYTE], slot % IN_A_BYTE)),
        None => Ok(terms),
    }
}

fn wide_in(palette: &[u64], indices: &[u8], bytes: usize) -> Result<Vec<u64>, usize> {
    let index =
        |bytes: &[u8]| bytes.iter().rev().fold(0, |index, byte| index << 8 | usize::from(*byte));
    let indices = indices.chunks_exact(bytes).map(index);
    indices.map(|index| palette.get(index).copied().ok_or(index)).collect()
}

/// Up to so many terms an index takes less than a byte.
const FEW_TERMS: usize = 16;

/// How many bits an index into so many terms takes.
fn index_bits(terms: usize) -> usize {
    match terms {
        0..=2 => 1,
        3..=4 => 2,
        5..=FEW_TERMS => 4,
        0x11..=0x100 => 8,
        0x101..=0x1_0000 => 16,
        _ => 24,
    }
}
