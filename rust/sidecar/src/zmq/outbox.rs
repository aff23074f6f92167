//! What waits to be written to one connection.
use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

/// Bytes for one peer, in order: whole chunks shared with others, then a tail that small messages are copied to.
///
/// Positions count every byte ever queued, so that a request knows whether its own bytes were written.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    chunks: VecDeque<Bytes>,
    tail: Vec<u8>,
    // Bytes at the front of `tail` that were written; only while `chunks` is empty.
    tail_written: usize,
    queued: u64,
    written: u64,
}

impl Outbox {
    /// Appends a copy of `bytes`.
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.queued += bytes.len() as u64;
    }

    /// Appends what `encode` appends to the buffer that it is given.
    pub(super) fn encode(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        encode(&mut self.tail);
        self.queued += self.tail.len().saturating_sub(before) as u64;
    }

    /// Appends `bytes`: without a copy if they are many, since a system call with many pieces costs more than the
    /// copy of a few bytes.
    pub(super) fn share(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_BYTES_MIN {
            self.copy(bytes);
            return;
        }
        if self.tail.len() > self.tail_written {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(self.tail_written);
            self.chunks.push_back(tail);
        }
        self.tail.clear();
        self.tail_written = 0;
        self.queued += bytes.len() as u64;
        self.chunks.push_back(bytes.clone());
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        usize::try_from(self.queued - self.written).unwrap_or(usize::MAX)
    }

    /// The position after the last byte queued.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// The position after the last byte that was written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes until all is written (`true`) or `stream` takes no more (`false`).
    pub(super) fn flush(&mut self, stream: &mut impl Write) -> io::Result<bool> {
        while self.written < self.queued {
            match self.write_once(stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write_once(&self, stream: &mut impl Write) -> io::Result<usize> {
        let tail = self.tail.get(self.tail_written..).unwrap_or_default();
        if self.chunks.is_empty() {
            return stream.write(tail);
        }
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let pieces = self.chunks.iter().map(|chunk| &chunk[..]).chain([tail]);
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
        }
        stream.write_vectored(&slices)
    }

    fn advance(&mut self, mut count: usize) {
        self.written += count as u64;
        while let Some(chunk) = self.chunks.front_mut() {
            if count < chunk.len() {
                chunk.advance(count);
                return;
            }
            count -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail_written += count;
        if self.tail_written == self.tail.len() {
            self.tail.clear();
            self.tail_written = 0;
            self.tail.shrink_to(KEPT_BYTES_MAX);
        } else if self.tail_written > KEPT_BYTES_MAX {
            // The peer reads slower than it is written to: give back what it has read.
            self.tail.drain(..self.tail_written);
            self.tail_written = 0;
        }
    }
}

/// From this size on a message is shared rather than copied.
pub(super) const SHARE_BYTES_MIN: usize = 16 * 1024;
/// Pieces of one system call.
const SLICES_MAX: usize = 32;
/// How much of an empty buffer is kept for the next messages.
const KEPT_BYTES_MAX: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most `take` bytes a call, and blocks every other call.
    struct Slow {
        take: usize,
        blocked: bool,
        got: Vec<u8>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.blocked = !self.blocked;
            if self.blocked {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let before = self.got.len();
            for slice in slices {
                let left = self.take - (self.got.len() - before);
                self.got.extend_from_slice(&slice[..slice.len().min(left)]);
            }
            Ok(self.got.len() - before)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_byte_leaves_once_and_in_order_however_slowly_the_peer_reads() {
        for take in [1_000, 7_777, 40_000, 1 << 20] {
            let mut outbox = Outbox::default();
            let mut slow = Slow { take, blocked: false, got: Vec::new() };
            let mut expected = Vec::new();
            for round in 0..60_u8 {
                outbox.copy(&[round; 100]);
                outbox.share(&Bytes::from(vec![round; usize::from(round) * 1_000]));
                outbox.encode(|tail| tail.push(round));
                expected.extend_from_slice(&[round; 100]);
                expected.extend_from_slice(&vec![round; usize::from(round) * 1_000 + 1]);
                assert_eq!(outbox.queued(), expected.len() as u64);
                outbox.flush(&mut slow).unwrap();
                assert_eq!(outbox.written(), slow.got.len() as u64);
                assert_eq!(outbox.waiting(), expected.len() - slow.got.len());
            }
            while !outbox.flush(&mut slow).unwrap() {}
            assert!(slow.got == expected, "take {take}");
            assert_eq!(outbox.waiting(), 0);
        }
    }

    #[test]
    fn a_large_message_is_shared_and_a_small_one_copied() {
        let mut outbox = Outbox::default();
        let large = Bytes::from(vec![1; SHARE_BYTES_MIN]);
        outbox.share(&large.slice(1..));
        assert!(outbox.chunks.is_empty());
        outbox.share(&large);
        assert_eq!(outbox.chunks.back().unwrap().as_ptr(), large.as_ptr());
    }
}
