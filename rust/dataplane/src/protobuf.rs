//! Finds one field in a serialized protobuf message, without a schema and without a copy.
//!
//! Source: the protocol buffers encoding guide. What is read is only what stands in the way: a
//! field of another number is skipped by its length.

use crate::key::Key;
use core::fmt;
use serde::Deserialize;
use thiserror::Error;

/// The most field numbers in a path.
pub const FIELD_PATH_MAX: usize = 8;

/// How far into a message a field may begin and still be found, in bytes.
///
/// Serializers write fields in the order of their numbers, and a field that names an entity has a
/// small one; the limit bounds the work that a message made of a million tiny fields can cause. The
/// field itself may be as long as the message.
pub const SCAN_BYTES_MAX: usize = 1 << 20;

/// The largest field number that protobuf allows.
const NUMBER_MAX: u32 = (1 << 29) - 1;
/// The bytes of the longest varint.
const VARINT_BYTES_MAX: usize = 10;

/// The way to a field: the number of a field of the message, then of a field of that field, …
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<u32>")]
pub struct FieldPath {
    numbers: [u32; FIELD_PATH_MAX],
    length: usize,
}

/// Why numbers are not a path to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldPathError {
    /// The path is empty or longer than [`FIELD_PATH_MAX`].
    #[error(
        "a field path has 1 to 8 field numbers, not {0}: write for example 1, or 5.2 for field 2 of field 5"
    )]
    Length(usize),
    /// A number that no field can have.
    #[error("a protobuf field number is between 1 and 536870911, not {0}")]
    Number(u32),
}

impl FieldPath {
    /// Checks and keeps the numbers of a path.
    ///
    /// # Errors
    ///
    /// [`FieldPathError`] if there are none or more than [`FIELD_PATH_MAX`], or one is not between
    /// 1 and 536,870,911.
    pub fn new(numbers: &[u32]) -> Result<Self, FieldPathError> {
        if let Some(number) = numbers.iter().find(|number| !(1..=NUMBER_MAX).contains(*number)) {
            return Err(FieldPathError::Number(*number));
        }
        let mut path = Self { numbers: [0; FIELD_PATH_MAX], length: numbers.len() };
        match path.numbers.get_mut(..numbers.len()) {
            Some(kept) if !kept.is_empty() => kept.copy_from_slice(numbers),
            _ => return Err(FieldPathError::Length(numbers.len())),
        }
        Ok(path)
    }

    /// The first field of a message, which every message of one field has.
    pub(crate) const fn first_field() -> Self {
        let mut numbers = [0; FIELD_PATH_MAX];
        numbers[0] = 1;
        Self { numbers, length: 1 }
    }

    /// The numbers, outermost first; never empty.
    #[must_use]
    pub fn numbers(&self) -> &[u32] {
        self.numbers.get(..self.length).unwrap_or(&self.numbers)
    }
}

impl TryFrom<Vec<u32>> for FieldPath {
    type Error = FieldPathError;

    fn try_from(numbers: Vec<u32>) -> Result<Self, FieldPathError> {
        Self::new(&numbers)
    }
}

/// Writes the path as configurations do: `5.2`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, number) in self.numbers().iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            write!(f, "{number}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldPath({self})")
    }
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldLookup<'a> {
    /// The value: the bytes of a string, of bytes or of an embedded message; or an integer, see
    /// [`Key::from_integer`].
    Found(Key<'a>),
    /// Nothing can be said before this many bytes of the message have arrived.
    NeedMore {
        /// Counted from the beginning of the message; always more than there were.
        message_bytes: usize,
    },
    /// The whole message was read and the field is not in it. A field that has its default value is
    /// usually not written, so it is missing too.
    Missing,
    /// The field does not begin within [`SCAN_BYTES_MAX`].
    TooFar,
    /// The bytes are not a protobuf message.
    Malformed,
}

/// A search for one field that goes on as the message arrives; no byte is read twice, except those
/// of the field in which the last call stopped.
///
/// - The **first** occurrence counts, and the search ends there. Protobuf lets the last one win, but
///   to know the last one a router would have to wait for the end of every message; serializers
///   write a singular field once, and of a repeated field the first element is the natural key.
/// - A varint or a fixed-width number is an integer key, zero-extended to 64 bits. (A negative
///   `int32` or `int64` travels in two's complement, so it equals the Python `int` as a key; of an
///   `sint` or a `float` the key is the bits that travel.)
/// - A field of the right number but of a type that cannot hold the rest of the path is passed over,
///   as parsers do. So is what is inside a group, the long deprecated way to nest.
#[derive(Debug, Clone)]
pub struct FieldScan {
    path: FieldPath,
    /// The index in `path` of the number sought at this depth.
    depth: usize,
    /// Where the next tag begins; may lie beyond what has arrived.
    offset: usize,
    /// Where the embedded messages around `offset` end; `ends[0]` belongs to depth 1.
    ends: [usize; FIELD_PATH_MAX],
    /// How many groups are open at `offset`.
    groups: u32,
}

impl FieldScan {
    /// A search that stands at the beginning of a message.
    #[must_use]
    pub const fn new(path: &FieldPath) -> Self {
        Self { path: *path, depth: 0, offset: 0, ends: [0; FIELD_PATH_MAX], groups: 0 }
    }

    /// Goes on with the search.
    ///
    /// `arrived` is the beginning of the message, from its first byte; each call may see more of it
    /// than the one before. `message_bytes` is the length of the whole message, and the same at
    /// each call. Never panics, whatever the bytes. Cost: linear in what arrived since the last
    /// call, and at most [`SCAN_BYTES_MAX`] over all calls.
    pub fn advance<'a>(&mut self, arrived: &'a [u8], message_bytes: usize) -> FieldLookup<'a> {
        let arrived = arrived.get(..message_bytes).unwrap_or(arrived);
        loop {
            match self.step(arrived, message_bytes) {
                Ok(()) => {}
                Err(Stop::At(lookup)) => return lookup,
                // What is cut short by the end of a message around it can never be completed.
                Err(Stop::Short) if self.end(message_bytes) <= arrived.len() => {
                    return FieldLookup::Malformed;
                }
                Err(Stop::Short) => {
                    let message_bytes = arrived.len().max(self.offset).saturating_add(1);
                    return FieldLookup::NeedMore { message_bytes };
                }
            }
        }
    }

    /// Passes over one field, or goes into it, or out of a message that ends here.
    fn step<'a>(&mut self, arrived: &'a [u8], message_bytes: usize) -> Result<(), Stop<'a>> {
        let end = self.end(message_bytes);
        if self.offset >= end {
            return self.leave();
        }
        if self.offset >= SCAN_BYTES_MAX {
            return Err(Stop::At(FieldLookup::TooFar));
        }
        let mut reader =
            Reader { bytes: arrived.get(..end).unwrap_or(arrived), offset: self.offset };
        let (number, wire) = reader.tag()?;
        let is_wanted = self.groups == 0 && self.path.numbers().get(self.depth) == Some(&number);
        let is_last = self.depth.saturating_add(1) == self.path.length;
        match wire {
            Wire::Varint | Wire::Fixed64 | Wire::Fixed32 => {
                let value = reader.integer(wire)?;
                if is_wanted && is_last {
                    return Err(Stop::At(FieldLookup::Found(Key::from_integer(value))));
                }
            }
            Wire::Delimited => {
                let content_end = reader.content_end(end)?;
                if is_wanted && is_last {
                    return Err(Stop::At(match arrived.get(reader.offset..content_end) {
                        Some(value) => FieldLookup::Found(Key::from(value)),
                        None => FieldLookup::NeedMore { message_bytes: content_end },
                    }));
                }
                if is_wanted {
                    self.enter(content_end);
                } else {
                    reader.offset = content_end;
                }
            }
            Wire::GroupStart => self.groups = self.groups.saturating_add(1),
            Wire::GroupEnd => self.groups = self.groups.checked_sub(1).ok_or(MALFORMED)?,
        }
        self.offset = reader.offset;
        Ok(())
    }

    /// Where the message around `offset` ends.
    fn end(&self, message_bytes: usize) -> usize {
        let around = self.depth.checked_sub(1).and_then(|index| self.ends.get(index));
        around.copied().unwrap_or(message_bytes)
    }

    fn enter(&mut self, end: usize) {
        if let Some(place) = self.ends.get_mut(self.depth) {
            *place = end;
            self.depth = self.depth.saturating_add(1);
        }
    }

    fn leave<'a>(&mut self) -> Result<(), Stop<'a>> {
        if self.groups > 0 {
            return Err(MALFORMED);
        }
        // A repeated field may have another element, so the search goes on outside.
        self.depth = self.depth.checked_sub(1).ok_or(Stop::At(FieldLookup::Missing))?;
        Ok(())
    }
}

/// Why a scan goes no further.
enum Stop<'a> {
    /// With this answer.
    At(FieldLookup<'a>),
    /// The bytes ended within a number.
    Short,
}

const MALFORMED: Stop<'static> = Stop::At(FieldLookup::Malformed);

#[derive(Clone, Copy)]
enum Wire {
    Varint,
    Fixed64,
    Delimited,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// Reads numbers from the front of a slice.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Reader<'_> {
    fn tag(&mut self) -> Result<(u32, Wire), Stop<'static>> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| MALFORMED)?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Delimited,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return Err(MALFORMED),
        };
        if (1..=NUMBER_MAX).contains(&number) { Ok((number, wire)) } else { Err(MALFORMED) }
    }

    fn integer(&mut self, wire: Wire) -> Result<u64, Stop<'static>> {
        match wire {
            Wire::Fixed64 => self.fixed().map(u64::from_le_bytes),
            Wire::Fixed32 => self.fixed().map(u32::from_le_bytes).map(u64::from),
            Wire::Varint | Wire::Delimited | Wire::GroupStart | Wire::GroupEnd => self.varint(),
        }
    }

    /// Reads the length of a delimited field; returns where its content ends.
    fn content_end(&mut self, message_end: usize) -> Result<usize, Stop<'static>> {
        let length = usize::try_from(self.varint()?).map_err(|_| MALFORMED)?;
        let end = self.offset.checked_add(length).filter(|end| *end <= message_end);
        end.ok_or(MALFORMED)
    }

    fn varint(&mut self) -> Result<u64, Stop<'static>> {
        let mut value = 0_u64;
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        for (position, byte) in rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            let bits = u64::from(byte & 0x7f);
            let shift = u32::try_from(position).unwrap_or(u32::MAX).saturating_mul(7);
            let shifted = bits.checked_shl(shift).ok_or(MALFORMED)?;
            if shifted >> shift != bits {
                return Err(MALFORMED);
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                self.offset = self.offset.saturating_add(position).saturating_add(1);
                return Ok(value);
            }
        }
        Err(if rest.len() >= VARINT_BYTES_MAX { MALFORMED } else { Stop::Short })
    }

    fn fixed<const WIDTH: usize>(&mut self) -> Result<[u8; WIDTH], Stop<'static>> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let value = rest.first_chunk::<WIDTH>().ok_or(Stop::Short)?;
        self.offset = self.offset.saturating_add(WIDTH);
        Ok(*value)
    }
}

#[cfg(test)]
mod tests;
