//! Cuts a stream of frames into whole messages and commands.

use std::borrow::Cow;

use super::Violation;
use super::frame::{Header, frames};

/// The most one peer may make us hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of one message, frame headers included; so also the bound of one frame.
    pub message_bytes_max: usize,
    /// Frames of one message.
    pub message_frames_max: usize,
    /// Bytes of one command.
    pub command_bytes_max: usize,
}

/// Why a message was dropped while it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Oversize {
    /// More than [`Limits::message_bytes_max`].
    Bytes,
    /// More than [`Limits::message_frames_max`].
    Frames,
    /// [`Decoder::shed`] was called.
    Shed,
}

/// What the decoder found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Item<'a> {
    /// A whole message: its frames, byte for byte as they came, without interleaved commands.
    Message(Cow<'a, [u8]>),
    /// The body of a command, for [`super::Command::parse`].
    Command(Cow<'a, [u8]>),
    /// A message that was too large has ended; its body was dropped as it came.
    Dropped {
        /// The first whole frames, at most 4 KiB: usually the envelope.
        head: Vec<u8>,
        /// Which limit.
        reason: Oversize,
    },
}

/// An incremental decoder of one connection's incoming frames, after the handshake.
///
/// Peers may send commands between the frames of one message; those come out first.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The message so far, when it did not come in one piece: whole frames, then the current one.
    partial: Vec<u8>,
    /// Where the current frame begins in `partial`.
    frame_at: usize,
    /// The current frame's header, once it is whole.
    header: Option<Header>,
    /// Bytes of the current frame's body still to come.
    body_left: u64,
    /// Whole frames of the message so far.
    frames: usize,
    /// Set while the rest of a message is dropped.
    oversize: Option<Oversize>,
}

impl Decoder {
    /// A decoder at the start of a frame.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            partial: Vec::new(),
            frame_at: 0,
            header: None,
            body_left: 0,
            frames: 0,
            oversize: None,
        }
    }

    /// Changes the limits from the next frame on.
    pub const fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Bytes held of a message that is not whole yet.
    #[must_use]
    pub const fn held_bytes(&self) -> usize {
        self.partial.len()
    }

    /// Drops the body of the message that is coming in, to free memory; no effect between messages.
    ///
    /// It ends in [`Item::Dropped`], so that its sender can be told.
    pub fn shed(&mut self) {
        if self.between_messages() || self.header.is_some_and(|header| header.command) {
            return;
        }
        self.start_dropping(Oversize::Shed);
        if self.header.is_some() {
            self.partial.truncate(self.frame_at);
        }
        self.partial.shrink_to_fit();
    }

    /// Takes the next message or command off the front of `input`.
    ///
    /// `None` means that all of `input` was taken and more is needed. A message that lies in
    /// `input` in one piece is borrowed; any other is copied once, as it arrives.
    ///
    /// # Errors
    ///
    /// [`Violation::Malformed`]: close the connection, the stream cannot be understood any more.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Item<'a>>, Violation> {
        if self.between_messages()
            && let Some(length) = self.whole_message(input)
        {
            let (message, rest) = input.split_at(length);
            *input = rest;
            return Ok(Some(Item::Message(Cow::Borrowed(message))));
        }
        loop {
            let Some(header) = self.header else {
                if self.take_header(input)? {
                    continue;
                }
                return Ok(None);
            };
            self.take_body(header, input);
            if self.body_left > 0 {
                return Ok(None);
            }
            if let Some(item) = self.end_frame(header) {
                return Ok(Some(item));
            }
        }
    }

    fn between_messages(&self) -> bool {
        self.header.is_none()
            && self.frames == 0
            && self.partial.is_empty()
            && self.oversize.is_none()
    }

    /// The length of the message that starts `input`, if it is whole, plain and within limits.
    fn whole_message(&self, input: &[u8]) -> Option<usize> {
        let mut at = 0;
        for _ in 0..self.limits.message_frames_max {
            let header = Header::parse(input.get(at..)?).ok()??;
            at = header.frame_bytes()?.checked_add(at)?;
            if header.command || at > input.len() || at > self.limits.message_bytes_max {
                return None;
            }
            if !header.more {
                return Some(at);
            }
        }
        None
    }

    /// Takes header bytes; returns whether the header is whole now.
    fn take_header(&mut self, input: &mut &[u8]) -> Result<bool, Violation> {
        loop {
            let so_far = self.partial.get(self.frame_at..).unwrap_or_default();
            if let Some(header) = Header::parse(so_far)? {
                self.start_frame(header)?;
                return Ok(true);
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(false) };
            self.partial.push(byte);
            *input = rest;
        }
    }

    fn start_frame(&mut self, header: Header) -> Result<(), Violation> {
        self.header = Some(header);
        self.body_left = header.body_bytes;
        let message_bytes =
            header.frame_bytes().and_then(|frame_bytes| frame_bytes.checked_add(self.frame_at));
        if header.command {
            if header.body_bytes > self.limits.command_bytes_max as u64 {
                return Err(Violation::Malformed {
                    what: "a command beyond the limit on commands",
                });
            }
        } else if self.oversize.is_none() {
            if message_bytes.is_none_or(|bytes| bytes > self.limits.message_bytes_max) {
                self.start_dropping(Oversize::Bytes);
            } else if self.frames >= self.limits.message_frames_max {
                self.start_dropping(Oversize::Frames);
            }
        }
        if self.drops(header) {
            self.partial.truncate(self.frame_at);
        } else {
            // A peer may announce much and send nothing, so reserve a little and grow with the bytes.
            let expected = usize::try_from(self.body_left).unwrap_or(usize::MAX);
            self.partial.reserve(expected.min(RESERVE_BYTES_MAX));
        }
        Ok(())
    }

    fn take_body(&mut self, header: Header, input: &mut &[u8]) {
        let wanted = usize::try_from(self.body_left).unwrap_or(usize::MAX);
        let (taken, rest) = input.split_at(wanted.min(input.len()));
        if !self.drops(header) {
            self.partial.extend_from_slice(taken);
        }
        self.body_left = self.body_left.saturating_sub(taken.len() as u64);
        *input = rest;
    }

    fn end_frame(&mut self, header: Header) -> Option<Item<'static>> {
        self.header = None;
        if header.command {
            let frame = self.partial.split_off(self.frame_at);
            let body = frame.get(header.header_bytes..).unwrap_or_default().to_vec();
            return Some(Item::Command(Cow::Owned(body)));
        }
        if header.more {
            self.frames = self.frames.saturating_add(1);
            self.frame_at = self.partial.len();
            return None;
        }
        self.frames = 0;
        self.frame_at = 0;
        let message = core::mem::take(&mut self.partial);
        Some(match self.oversize.take() {
            Some(reason) => Item::Dropped { head: message, reason },
            None => Item::Message(Cow::Owned(message)),
        })
    }

    /// Keeps the first frames, where an envelope would be, and the current frame's header.
    fn start_dropping(&mut self, reason: Oversize) {
        self.oversize = self.oversize.or(Some(reason));
        let current = self.partial.split_off(self.frame_at);
        let mut head_bytes: usize = 0;
        for frame in frames(&self.partial) {
            let with_frame = head_bytes.saturating_add(frame.raw.len());
            if with_frame > HEAD_BYTES_MAX {
                break;
            }
            head_bytes = with_frame;
        }
        self.partial.truncate(head_bytes);
        self.frame_at = head_bytes;
        self.partial.extend_from_slice(&current);
    }

    fn drops(&self, header: Header) -> bool {
        self.oversize.is_some() && !header.command
    }
}

/// How much of a dropped message is kept: its envelope, if there is one, is at the front.
const HEAD_BYTES_MAX: usize = 4096;

/// How much is reserved on a header's word alone.
const RESERVE_BYTES_MAX: usize = 256 * 1024;
