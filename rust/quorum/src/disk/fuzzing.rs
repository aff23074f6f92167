//! The body of the fuzz target over a voter's files: see `crate::fuzzing`.
use prost::Message;

use super::Stored;
use super::copy::{Body, Copy, choose};
use crate::wire::Codec;

/// The first byte says which of four files are there and which of them have a body under a head
/// that fits, so that the checksum does not keep everything out; the rest is shared among them.
pub(crate) fn read_anything(data: &[u8], codec: &mut Codec) {
    let Some(copies) = copies(data) else { return };
    let sequences = copies.iter().filter_map(|copy| match copy {
        Copy::Whole(body) => Some(body.sequence),
        Copy::Absent | Copy::Damaged(_) | Copy::OtherRelease(_) => None,
    });
    let newest = sequences.max();
    let Ok(chosen) = choose(&copies) else { return };
    assert_eq!(chosen.as_ref().map(|(body, _)| body.sequence), newest);
    let Some((body, index)) = chosen else {
        return assert!(copies.iter().all(|copy| *copy == Copy::Absent));
    };
    assert_eq!(copies[index], Copy::Whole(Box::new(body.clone())));
    let Ok(stored) = body.stored(codec) else { return };
    let again = match &stored {
        Stored::Newcomer(id) => Body::newcomer(codec.cluster(), *id),
        Stored::Known(state) => Body::known(codec, state),
    };
    let written = Copy::parse(Some(again.encode()));
    assert_eq!(written, Copy::Whole(Box::new(again.clone())));
    assert_eq!(again.stored(&mut Codec::new(codec.cluster().to_owned())), Ok(stored));
}

fn copies(data: &[u8]) -> Option<[Copy; 4]> {
    let ([kinds, share], data) = data.split_first_chunk::<2>()?;
    let mut rest = data;
    Some([0, 1, 2, 3].map(|index| {
        let bytes = if index == 3 { rest.len() } else { usize::from(*share) * 4 };
        let (piece, left) = rest.split_at(bytes.min(rest.len()));
        rest = left;
        let is_file = kinds >> (2 * index) & 3;
        let body = Body::decode(piece).ok().filter(|_| is_file > 1);
        let bytes = body.map_or_else(|| piece.to_vec(), |body| body.encode());
        Copy::parse((is_file > 0).then_some(bytes))
    }))
}

/// Whether a voter's state is read from it: what a seed is good for.
#[cfg(test)]
pub(crate) fn is_whole(data: &[u8], codec: &mut Codec) -> bool {
    let chosen = copies(data).map(|copies| choose(&copies));
    matches!(chosen, Some(Ok(Some((body, _)))) if body.stored(codec).is_ok())
}
