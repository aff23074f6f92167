//! The bodies of a request and of its answer, moved under the flow control of both sides.
//!
//! Credit goes back to a sender when its bytes were handed on, so that a reader that stops stops
//! its sender, and what waits in between is bounded by the window of the stream.
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

/// Why a body stopped moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The side that the bytes come from.
    Source,
    /// The side that they go to: it wants no more of them.
    Sink,
}

/// The body of a request: what was read of it is kept while it may have to be sent again.
#[derive(Debug)]
pub(crate) struct RequestBody {
    stream: RecvStream,
    /// What was read and is not known to be done with, in order.
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    kept_bytes_max: usize,
    /// Whether all that was read is in `kept`.
    is_whole: bool,
    /// How many chunks of `kept` the present attempt has taken.
    taken: usize,
    /// What the present attempt took and did not send yet.
    unsent: Bytes,
    /// Bytes read for which the sender has no credit back yet.
    uncredited: usize,
    end: End,
}

#[derive(Debug)]
enum End {
    /// More may come.
    Open,
    /// The data ended; trailers may come.
    Data,
    /// All of it was read.
    Whole(Option<HeaderMap>),
}

impl RequestBody {
    /// Keeps up to `kept_bytes_max` bytes to be sent again.
    pub(crate) fn new(stream: RecvStream, kept_bytes_max: usize) -> Self {
        let end = if stream.is_end_stream() { End::Whole(None) } else { End::Open };
        Self {
            stream,
            kept: VecDeque::new(),
            kept_bytes: 0,
            kept_bytes_max,
            is_whole: true,
            taken: 0,
            unsent: Bytes::new(),
            uncredited: 0,
            end,
        }
    }

    /// Whether there is nothing to send beside the head.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty() && matches!(self.end, End::Whole(None))
    }

    /// Whether everything that was read could be sent again.
    pub(crate) fn is_replayable(&self) -> bool {
        self.is_whole
    }

    /// Begins again, for another attempt. To be called only if it is replayable.
    pub(crate) fn rewind(&mut self) {
        self.taken = 0;
        self.unsent = Bytes::new();
    }

    /// Keeps nothing any more: the answer has begun, so there is no other attempt.
    pub(crate) fn commit(&mut self) {
        if self.is_whole {
            self.is_whole = false;
            self.kept.drain(..self.taken);
            self.taken = 0;
        }
    }

    /// Reads ahead of the first attempt: one more chunk, or `None` at the end of the data. Gives
    /// credit for it, as whoever looks for something in the body bounds how far it looks.
    pub(crate) fn poll_read_ahead(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, h2::Error>> {
        if !matches!(self.end, End::Open) {
            return Poll::Ready(Ok(None));
        }
        let Some(chunk) = ready!(self.stream.poll_data(cx)).transpose()? else {
            self.end = End::Data;
            return Poll::Ready(Ok(None));
        };
        self.uncredited += chunk.len();
        self.credit(chunk.len());
        self.kept.push_back(chunk.clone());
        self.count_kept(chunk.len());
        Poll::Ready(Ok(Some(chunk)))
    }

    /// Sends what there is to send. Ready when all of it was sent, or when a side broke.
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut SendStream<Bytes>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            if !self.unsent.is_empty() {
                let is_last = self.is_at_end();
                let length = ready!(poll_send_chunk(cx, &mut self.unsent, is_last, to))?;
                self.credit(length);
                if is_last && self.unsent.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            match ready!(self.poll_next(cx)).map_err(|_| Broken::Source)? {
                Some(chunk) => self.unsent = chunk,
                None => return Poll::Ready(self.send_end(to)),
            }
        }
    }

    /// Whether `unsent` is the last of it and no trailers follow.
    fn is_at_end(&self) -> bool {
        if self.taken < self.kept.len() {
            return false;
        }
        match &self.end {
            End::Open => self.stream.is_end_stream(),
            End::Data => false,
            End::Whole(trailers) => trailers.is_none(),
        }
    }

    fn send_end(&mut self, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
        let sent = match &self.end {
            End::Whole(Some(trailers)) => to.send_trailers(trailers.clone()),
            End::Open | End::Data | End::Whole(None) => to.send_data(Bytes::new(), true),
        };
        sent.map_err(|_| Broken::Sink)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, h2::Error>> {
        if let Some(chunk) = self.kept.get(self.taken) {
            let chunk = chunk.clone();
            if self.is_whole {
                self.taken += 1;
            } else {
                self.kept.pop_front();
            }
            return Poll::Ready(Ok(Some(chunk)));
        }
        if matches!(self.end, End::Open) {
            if let Some(chunk) = ready!(self.stream.poll_data(cx)).transpose()? {
                self.uncredited += chunk.len();
                if self.is_whole {
                    self.kept.push_back(chunk.clone());
                    self.taken = self.kept.len();
                    self.count_kept(chunk.len());
                }
                return Poll::Ready(Ok(Some(chunk)));
            }
            self.end = End::Data;
        }
        if matches!(self.end, End::Data) {
            self.end = End::Whole(ready!(self.stream.poll_trailers(cx))?);
        }
        Poll::Ready(Ok(None))
    }

    fn count_kept(&mut self, length: usize) {
        self.kept_bytes += length;
        if self.kept_bytes > self.kept_bytes_max {
            self.commit();
        }
    }

    fn credit(&mut self, length: usize) {
        let length = length.min(self.uncredited);
        self.uncredited -= length;
        // It fails only for more than was received, which `uncredited` rules out.
        let _never = self.stream.flow_control().release_capacity(length);
    }
}

/// Sends a part of `chunk` as large as the peer's windows allow; with it the end of the stream, if
/// it `is_last` and all of it fits. Returns the number of bytes sent.
pub(crate) fn poll_send_chunk(
    cx: &mut Context<'_>,
    chunk: &mut Bytes,
    is_last: bool,
    to: &mut SendStream<Bytes>,
) -> Poll<Result<usize, Broken>> {
    to.reserve_capacity(chunk.len());
    let mut room = to.capacity();
    while room == 0 {
        match ready!(to.poll_capacity(cx)) {
            Some(Ok(capacity)) => room = capacity,
            Some(Err(_)) | None => return Poll::Ready(Err(Broken::Sink)),
        }
    }
    let part = chunk.split_to(room.min(chunk.len()));
    let length = part.len();
    to.send_data(part, is_last && chunk.is_empty()).map_err(|_| Broken::Sink)?;
    Poll::Ready(Ok(length))
}
