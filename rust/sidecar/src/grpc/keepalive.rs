//! Finds out whether a silent peer is still there.
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

/// Asks a peer that was silent for a period whether it is there, and calls it gone after another
/// silent period.
#[derive(Debug)]
pub(crate) struct Keepalive {
    period: Duration,
    timer: Pin<Box<Sleep>>,
    ping: Option<PingPong>,
    bytes_seen: u64,
    is_asked: bool,
}

/// What the passing of a period showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The peer was heard, or has just been asked.
    Tolerable,
    /// The peer was asked a period ago and has said nothing since.
    Dead,
}

impl Keepalive {
    pub(crate) fn new(period: Duration, ping: Option<PingPong>) -> Self {
        Self { period, timer: Box::pin(sleep(period)), ping, bytes_seen: 0, is_asked: false }
    }

    /// Ready at the end of each period, with what `bytes_read` (ever) shows. To be polled again then.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        bytes_read: impl Fn() -> u64,
    ) -> Poll<Silence> {
        if self.is_asked
            && let Some(ping) = &mut self.ping
            && ping.poll_pong(cx).is_ready()
        {
            self.is_asked = false;
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.timer.as_mut().reset(Instant::now() + self.period);
        let bytes = bytes_read();
        let is_silent = bytes == self.bytes_seen;
        self.bytes_seen = bytes;
        if !is_silent {
            return Poll::Ready(Silence::Tolerable);
        }
        if self.is_asked {
            return Poll::Ready(Silence::Dead);
        }
        if let Some(ping) = &mut self.ping {
            self.is_asked = ping.send_ping(Ping::opaque()).is_ok();
        }
        Poll::Ready(Silence::Tolerable)
    }
}
