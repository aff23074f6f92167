//! Frames: one flags byte, a length of one or eight bytes, then the body.

use super::Violation;

pub(super) const MORE: u8 = 0x01;
const LONG: u8 = 0x02;
pub(super) const COMMAND: u8 = 0x04;

/// The longest frame header: flags and an eight-byte length.
pub(super) const HEADER_BYTES_MAX: usize = 9;

/// What a frame's header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) more: bool,
    pub(super) command: bool,
    /// Bytes of the header itself: 2 or 9.
    pub(super) header_bytes: usize,
    /// Bytes of the body that follows.
    pub(super) body_bytes: u64,
}

impl Header {
    /// Reads the header at the start of `input`; `None` if more bytes are needed.
    pub(super) fn parse(input: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((&flags, rest)) = input.split_first() else { return Ok(None) };
        if flags & !(MORE | LONG | COMMAND) != 0 {
            return Err(Violation::Malformed { what: "a frame has reserved flags set" });
        }
        let (more, command) = (flags & MORE != 0, flags & COMMAND != 0);
        if more && command {
            return Err(Violation::Malformed { what: "a command claims that more frames follow" });
        }
        let (header_bytes, body_bytes) = if flags & LONG == 0 {
            let Some(&length) = rest.first() else { return Ok(None) };
            (2, u64::from(length))
        } else {
            let Some(length) = rest.first_chunk::<8>() else { return Ok(None) };
            (HEADER_BYTES_MAX, u64::from_be_bytes(*length))
        };
        if body_bytes > i64::MAX.unsigned_abs() {
            return Err(Violation::Malformed { what: "a frame's length has its highest bit set" });
        }
        Ok(Some(Self { more, command, header_bytes, body_bytes }))
    }

    /// Bytes of the header and the body, if an input could ever hold that many.
    pub(super) fn frame_bytes(self) -> Option<usize> {
        usize::try_from(self.body_bytes).ok()?.checked_add(self.header_bytes)
    }
}

/// One frame of a message, borrowed from the message's raw bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// Whether another frame of the same message follows.
    pub more: bool,
    /// The content.
    pub body: &'a [u8],
    /// Header and content as they came.
    pub raw: &'a [u8],
}

/// Walks the frames of `message`, raw bytes as [`super::Decoder`] hands them out.
///
/// Ends after the last whole frame; a damaged tail is left out rather than reported, because the
/// decoder lets none through.
pub fn frames(message: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = message;
    core::iter::from_fn(move || {
        let header = Header::parse(rest).ok()??;
        let (raw, tail) = rest.split_at_checked(header.frame_bytes()?)?;
        rest = tail;
        Some(Frame { more: header.more, body: raw.get(header.header_bytes..)?, raw })
    })
}

/// The body of the frame at `index` (from 0) of `message`, or `None` if it has fewer frames.
#[must_use]
pub fn nth_frame(message: &[u8], index: usize) -> Option<&[u8]> {
    frames(message).nth(index).map(|frame| frame.body)
}

/// Appends the header of a message frame with `body_bytes` of content.
pub fn encode_frame_header(output: &mut Vec<u8>, body_bytes: usize, more: bool) {
    encode_header(output, if more { MORE } else { 0 }, body_bytes);
}

/// Appends a message frame.
pub fn encode_frame(output: &mut Vec<u8>, body: &[u8], more: bool) {
    encode_frame_header(output, body.len(), more);
    output.extend_from_slice(body);
}

/// Appends the header of a frame, in the short form wherever the length fits one byte.
pub(super) fn encode_header(output: &mut Vec<u8>, flags: u8, body_bytes: usize) {
    if let Ok(length) = u8::try_from(body_bytes) {
        output.extend_from_slice(&[flags, length]);
    } else {
        output.push(flags | LONG);
        output.extend_from_slice(&(body_bytes as u64).to_be_bytes());
    }
}
