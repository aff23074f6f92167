//! The frames in which gRPC messages travel: a flag, a length, the message.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// The bytes before each message: one flag and a length of four bytes, most significant first.
pub const FRAME_HEADER_BYTES: usize = 5;

/// What the first five bytes of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether the message is compressed, in the way that `grpc-encoding` names.
    pub compressed: bool,
    /// The bytes of the message as it travels.
    pub message_bytes: usize,
}

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether `message` is compressed.
    pub compressed: bool,
    /// The message as it travelled.
    pub message: Bytes,
}

/// Why bytes are not frames of gRPC messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The flag is neither of the two that gRPC defines.
    #[error("a gRPC message begins with flag 0 (plain) or 1 (compressed), but this one with {0}")]
    UnknownFlag(u8),
    /// The message is longer than the reader was told to accept.
    #[error("the gRPC message has {message_bytes} bytes; at most {message_bytes_max} are read")]
    TooLong {
        /// The length that the frame announces.
        message_bytes: usize,
        /// The limit.
        message_bytes_max: usize,
    },
}

/// Splits a stream of bytes, however it was cut, into gRPC messages.
///
/// [`FrameReader::next_frame`] gives whole messages; [`FrameReader::peek`] shows the beginning of
/// one that is still arriving. Holds at most the bytes pushed and not yet taken; the pushing side
/// stops when it has its answer. An error is final: the bytes stay and it is told again.
#[derive(Debug)]
pub struct FrameReader {
    buffer: BytesMut,
    message_bytes_max: usize,
}

impl FrameReader {
    /// A reader that refuses messages longer than `message_bytes_max`.
    #[must_use]
    pub fn new(message_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), message_bytes_max }
    }

    /// Adds the bytes that came next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Shows the header of the present frame and as much of its message as has arrived; `None`
    /// until the header is complete.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if the flag is unknown or the announced length is over the limit.
    pub fn peek(&self) -> Result<Option<(FrameHeader, &[u8])>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = self.read_header(*header)?;
        let arrived = rest.get(..header.message_bytes).unwrap_or(rest);
        Ok(Some((header, arrived)))
    }

    /// Takes the next whole message, without copying it; `None` until all of it has arrived.
    ///
    /// # Errors
    ///
    /// [`FrameError`] as [`FrameReader::peek`].
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((header, arrived)) = self.peek()? else { return Ok(None) };
        if arrived.len() < header.message_bytes {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        let message = self.buffer.split_to(header.message_bytes).freeze();
        Ok(Some(Frame { compressed: header.compressed, message }))
    }

    /// Whether the bytes pushed so far end at the border of a frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn read_header(&self, header: [u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
        let [flag, length @ ..] = header;
        let compressed = match flag {
            0 => false,
            1 => true,
            other => return Err(FrameError::UnknownFlag(other)),
        };
        let message_bytes = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if message_bytes > self.message_bytes_max {
            let message_bytes_max = self.message_bytes_max;
            return Err(FrameError::TooLong { message_bytes, message_bytes_max });
        }
        Ok(FrameHeader { compressed, message_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(messages: &[(bool, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (compressed, message) in messages {
            bytes.push(u8::from(*compressed));
            bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            bytes.extend(message);
        }
        bytes
    }

    #[test]
    fn the_beginning_of_a_message_shows_before_its_end() {
        let mut reader = FrameReader::new(100);
        reader.push(&[1, 0, 0, 0]);
        assert_eq!(reader.peek(), Ok(None));
        reader.push(&[3, b'a']);
        let header = FrameHeader { compressed: true, message_bytes: 3 };
        assert_eq!(reader.peek(), Ok(Some((header, &b"a"[..]))));
        assert_eq!(reader.next_frame(), Ok(None));
        reader.push(b"bcX");
        assert_eq!(reader.peek(), Ok(Some((header, &b"abc"[..]))));
    }

    #[test]
    fn an_unknown_flag_and_a_length_over_the_limit_are_refused() {
        let mut reader = FrameReader::new(3);
        reader.push(&[2, 0, 0, 0, 0]);
        assert_eq!(reader.next_frame(), Err(FrameError::UnknownFlag(2)));
        let mut reader = FrameReader::new(3);
        reader.push(&[0, 0, 0, 0, 4]);
        let error = FrameError::TooLong { message_bytes: 4, message_bytes_max: 3 };
        assert_eq!(reader.next_frame(), Err(error));
        assert_eq!(reader.peek(), Err(error));
    }

    proptest! {
        #[test]
        fn messages_survive_any_cut(
            messages: Vec<(bool, Vec<u8>)>, cuts in prop::collection::vec(1_usize..9, 1..50),
        ) {
            let stream = framed(&messages);
            let mut reader = FrameReader::new(usize::MAX);
            let mut read = Vec::new();
            let mut rest = stream.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                reader.push(now);
                while let Some(frame) = reader.next_frame().unwrap() {
                    read.push((frame.compressed, frame.message.to_vec()));
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(read, messages);
            prop_assert!(reader.is_empty());
        }
    }
}
