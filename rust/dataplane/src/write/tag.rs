//! The tag of a write: what it writes, and by which record it was routed.

use core::fmt::{self, Write as _};
use hashroute_core::{Epoch, Slot};
use std::borrow::Cow;
use std::sync::Arc;
use thiserror::Error;

use serde::Deserialize;

/// The longest name of a group, in bytes.
pub const GROUP_BYTES_MAX: usize = 255;
/// The longest tag over `ZeroMQ`, in bytes: every byte of the group encoded, and the longest numbers.
pub const TAG_BYTES_MAX: usize = 836;

/// How the frame of a tag begins over `ZeroMQ`, whatever its version.
const MARK: &[u8] = b"hashroute/";
const VERSION: &[u8] = b"1";

/// The name of a group of services of which one writes: 1 to [`GROUP_BYTES_MAX`] bytes of UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct GroupName(Arc<str>);

/// A name that no group can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the name of a group has 1 to 255 bytes, not {0}")]
pub struct GroupNameError(usize);

impl GroupName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    ///
    /// [`GroupNameError`] if it is empty or longer than [`GROUP_BYTES_MAX`] bytes.
    pub fn new(name: &str) -> Result<Self, GroupNameError> {
        if name.is_empty() || name.len() > GROUP_BYTES_MAX {
            return Err(GroupNameError(name.len()));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub const fn as_arc(&self) -> &Arc<str> {
        &self.0
    }

    /// The name as it travels: percent-encoded but for letters, digits, `-`, `_`, `.` and `~`.
    #[must_use]
    pub fn encoded(&self) -> Cow<'_, str> {
        if self.0.bytes().all(stands_for_itself) {
            return Cow::Borrowed(&self.0);
        }
        let mut encoded = String::with_capacity(self.0.len().saturating_mul(3));
        for byte in self.0.bytes() {
            if stands_for_itself(byte) {
                encoded.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _never = write!(encoded, "%{byte:02X}");
            }
        }
        Cow::Owned(encoded)
    }

    /// Reads a name as it travels; `None` if it is not in the one form that [`Self::encoded`] gives.
    #[must_use]
    pub fn decode(encoded: &[u8]) -> Option<Self> {
        let mut name = Vec::with_capacity(encoded.len().min(GROUP_BYTES_MAX));
        let mut rest = encoded;
        while let Some((&byte, tail)) = rest.split_first() {
            if name.len() >= GROUP_BYTES_MAX {
                return None;
            }
            if stands_for_itself(byte) {
                name.push(byte);
                rest = tail;
                continue;
            }
            let ([high, low], tail) = tail.split_first_chunk::<2>()?;
            let decoded = (digit(*high)? << 4) | digit(*low)?;
            if byte != b'%' || stands_for_itself(decoded) {
                return None;
            }
            name.push(decoded);
            rest = tail;
        }
        Self::new(core::str::from_utf8(&name).ok()?).ok()
    }
}

impl TryFrom<String> for GroupName {
    type Error = GroupNameError;

    fn try_from(name: String) -> Result<Self, GroupNameError> {
        Self::new(&name)
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a write writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A slot: its owner writes.
    Slot(Slot),
    /// A group: its leader writes.
    Group(GroupName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot {slot}"),
            Self::Group(group) => write!(f, "group {group}"),
        }
    }
}

/// What travels with a write.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag {
    /// What it writes.
    pub target: Target,
    /// The epoch of the record by which it was routed.
    pub epoch: Epoch,
    /// The term of the target in that record.
    pub term: Epoch,
}

/// A tag that is there and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TagError {
    /// A part of it is missing, or is there twice.
    #[error("the tag is not whole: a write has one slot or one group, one epoch and one term")]
    NotWhole,
    /// A part is no number, or the group is not encoded as it must be.
    #[error("{part} of the tag is not what it must be: see docs/wire.md")]
    Malformed {
        /// Which.
        part: &'static str,
    },
}

/// The parts of a tag as headers carry them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TagParts<'a> {
    /// `x-hashroute-slot`
    pub slot: Option<&'a [u8]>,
    /// `x-hashroute-group`
    pub group: Option<&'a [u8]>,
    /// `x-hashroute-epoch`
    pub epoch: Option<&'a [u8]>,
    /// `x-hashroute-term`
    pub term: Option<&'a [u8]>,
}

impl Tag {
    /// Reads the tag in the headers of a request; `None` if there is no part of one.
    ///
    /// # Errors
    ///
    /// [`TagError`] if there is a part of a tag, and not one whole tag.
    pub fn from_parts(parts: TagParts<'_>) -> Result<Option<Self>, TagError> {
        let target = match (parts.slot, parts.group) {
            (None, None) if parts.epoch.is_none() && parts.term.is_none() => return Ok(None),
            (Some(slot), None) => Target::Slot(parse_slot(slot)?),
            (None, Some(group)) => Target::Group(parse_group(group)?),
            (None, None) | (Some(_), Some(_)) => return Err(TagError::NotWhole),
        };
        let epoch = parse_epoch(parts.epoch.ok_or(TagError::NotWhole)?, "the epoch")?;
        let term = parse_epoch(parts.term.ok_or(TagError::NotWhole)?, "the term")?;
        Ok(Some(Self { target, epoch, term }))
    }

    /// Whether a frame claims to be a tag, whole or not.
    #[must_use]
    pub fn is_claimed_by(frame: &[u8]) -> bool {
        frame.starts_with(MARK)
    }

    /// Reads the content of the frame that carries a tag over `ZeroMQ`; `None` if it does not claim
    /// to be one.
    ///
    /// # Errors
    ///
    /// [`TagError`] if it claims to be one and is not exactly one.
    pub fn from_frame(frame: &[u8]) -> Result<Option<Self>, TagError> {
        let Some(rest) = frame.strip_prefix(MARK) else { return Ok(None) };
        let mut words = rest.split(|byte| *byte == b' ');
        if words.next() != Some(VERSION) {
            return Err(TagError::Malformed { part: "the version" });
        }
        let (target, epoch, term) = (words.next(), words.next(), words.next());
        let (Some(target), Some(epoch), Some(term), None) = (target, epoch, term, words.next())
        else {
            return Err(TagError::NotWhole);
        };
        let parts = TagParts {
            slot: target.strip_prefix(b"slot="),
            group: target.strip_prefix(b"group="),
            epoch: epoch.strip_prefix(b"epoch="),
            term: term.strip_prefix(b"term="),
        };
        Self::from_parts(parts)?.ok_or(TagError::NotWhole).map(Some)
    }

    /// The content of the frame that carries the tag over `ZeroMQ`: at most [`TAG_BYTES_MAX`] bytes.
    #[must_use]
    pub fn to_frame(&self) -> String {
        let (epoch, term) = (self.epoch, self.term);
        match &self.target {
            Target::Slot(slot) => format!("hashroute/1 slot={slot} epoch={epoch} term={term}"),
            Target::Group(group) => {
                format!("hashroute/1 group={} epoch={epoch} term={term}", group.encoded())
            }
        }
    }
}

/// Reads an epoch as it travels: 1 to 20 digits.
#[must_use]
pub fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > NUMBER_DIGITS_MAX {
        return None;
    }
    let mut number: u64 = 0;
    for digit in digits {
        let value = digit.is_ascii_digit().then(|| u64::from(digit & 15))?;
        number = number.checked_mul(10)?.checked_add(value)?;
    }
    Some(number)
}

fn parse_epoch(digits: &[u8], part: &'static str) -> Result<Epoch, TagError> {
    parse_number(digits).map(Epoch::new).ok_or(TagError::Malformed { part })
}

fn parse_slot(digits: &[u8]) -> Result<Slot, TagError> {
    let number = parse_number(digits).and_then(|number| u32::try_from(number).ok());
    number.map(Slot::new).ok_or(TagError::Malformed { part: "the slot" })
}

fn parse_group(encoded: &[u8]) -> Result<GroupName, TagError> {
    GroupName::decode(encoded).ok_or(TagError::Malformed { part: "the group" })
}

const fn stands_for_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

/// The value of an upper-case hexadecimal digit.
fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => letter.checked_sub(b'0'),
        b'A'..=b'F' => letter.checked_sub(b'A')?.checked_add(10),
        _ => None,
    }
}

/// As many as 2^64 - 1 has.
const NUMBER_DIGITS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot_tag(slot: u32, epoch: u64, term: u64) -> Tag {
        let target = Target::Slot(Slot::new(slot));
        Tag { target, epoch: Epoch::new(epoch), term: Epoch::new(term) }
    }

    #[test]
    fn the_frames_are_those_of_the_documentation() {
        let tag = slot_tag(513, 12, 9);
        assert_eq!(tag.to_frame(), "hashroute/1 slot=513 epoch=12 term=9");
        let target = Target::Group(GroupName::new("fix gateway/é~1").unwrap());
        let tag = Tag { target, ..tag };
        let frame = "hashroute/1 group=fix%20gateway%2F%C3%A9~1 epoch=12 term=9";
        assert_eq!(tag.to_frame(), frame);
        assert_eq!(Tag::from_frame(frame.as_bytes()), Ok(Some(tag)));
    }

    #[test]
    fn a_frame_that_claims_to_be_a_tag_is_exactly_one_or_is_refused() {
        for frame in [
            "hashroute/",
            "hashroute/1",
            "hashroute/1 ",
            "hashroute/2 slot=1 epoch=2 term=3",
            "hashroute/1 slot=1 epoch=2",
            "hashroute/1 slot=1 term=3 epoch=2",
            "hashroute/1  slot=1 epoch=2 term=3",
            "hashroute/1 slot=1 epoch=2 term=3 ",
            "hashroute/1 slot=1 epoch=2 term=3 x",
            "hashroute/1 slot= epoch=2 term=3",
            "hashroute/1 slot=+1 epoch=2 term=3",
            "hashroute/1 slot=4294967296 epoch=2 term=3",
            "hashroute/1 slot=1 epoch=18446744073709551616 term=3",
            "hashroute/1 slot=1 epoch=000000000000000000002 term=3",
            "hashroute/1 group= epoch=2 term=3",
            "hashroute/1 group=a%2 epoch=2 term=3",
            "hashroute/1 group=a%2f epoch=2 term=3",
            "hashroute/1 group=%61 epoch=2 term=3",
            "hashroute/1 group=%FF epoch=2 term=3",
            "hashroute/1 group=a/b epoch=2 term=3",
        ] {
            assert!(Tag::is_claimed_by(frame.as_bytes()));
            assert!(Tag::from_frame(frame.as_bytes()).is_err(), "{frame}");
        }
        for frame in ["", "hashroute", "Hashroute/1 slot=1 epoch=2 term=3", "AAPL"] {
            assert_eq!(Tag::from_frame(frame.as_bytes()), Ok(None), "{frame}");
        }
    }

    #[test]
    fn a_tag_in_headers_is_whole_or_there_is_no_part_of_it() {
        let whole = TagParts {
            slot: Some(b"1"),
            group: None,
            epoch: Some(b"18446744073709551615"),
            term: Some(b"0"),
        };
        assert_eq!(Tag::from_parts(whole), Ok(Some(slot_tag(1, u64::MAX, 0))));
        assert_eq!(Tag::from_parts(TagParts::default()), Ok(None));
        for parts in [
            TagParts { slot: None, ..whole },
            TagParts { epoch: None, ..whole },
            TagParts { term: None, ..whole },
            TagParts { group: Some(b"g"), ..whole },
            TagParts { term: Some(b"9"), ..TagParts::default() },
        ] {
            assert_eq!(Tag::from_parts(parts), Err(TagError::NotWhole), "{parts:?}");
        }
        for parts in [
            TagParts { slot: Some(b"x"), ..whole },
            TagParts { epoch: Some(b""), ..whole },
            TagParts { term: Some(b"-1"), ..whole },
        ] {
            assert!(matches!(Tag::from_parts(parts), Err(TagError::Malformed { .. })), "{parts:?}");
        }
    }

    #[test]
    fn the_longest_tag_is_as_long_as_is_said() {
        let target = Target::Group(GroupName::new(&" ".repeat(GROUP_BYTES_MAX)).unwrap());
        let tag = Tag { target, epoch: Epoch::new(u64::MAX), term: Epoch::new(u64::MAX) };
        assert_eq!(tag.to_frame().len(), TAG_BYTES_MAX);
        assert!(GroupName::new("").is_err() && GroupName::new(&"x".repeat(256)).is_err());
    }

    proptest! {
        #[test]
        fn a_tag_survives_the_wire(
            group in prop::option::of("\\PC{1,60}"), slot: u32, epoch: u64, term: u64,
        ) {
            let group = group.map(|name| Target::Group(GroupName::new(&name).unwrap()));
            let target = group.unwrap_or(Target::Slot(Slot::new(slot)));
            let tag = Tag { target, epoch: Epoch::new(epoch), term: Epoch::new(term) };
            prop_assert_eq!(Tag::from_frame(tag.to_frame().as_bytes()), Ok(Some(tag)));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(tail: Vec<u8>) {
            let frame = [b"hashroute/1 group=".as_slice(), &tail].concat();
            if let Ok(Some(tag)) = Tag::from_frame(&frame) {
                prop_assert_eq!(Tag::from_frame(tag.to_frame().as_bytes()), Ok(Some(tag)));
            }
            let _read = Tag::from_frame(&tail);
        }
    }
}
