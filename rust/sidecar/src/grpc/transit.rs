//! A request on its way to one pod: until it has a stream, and until its answer has come back.
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};

use super::call::Call;
use super::exchange::{AnswerNote, Ended, Exchange};
use super::reply::Reply;
use super::upstream::{NotOpened, Opened, Patience, Upstream};

/// Why a request is not on its way any more.
#[derive(Debug)]
pub(super) enum Stopped<T> {
    Ended(Ended),
    NotOpened(NotOpened),
    DeadlinePassed {
        is_sent: bool,
    },
    /// Whoever sent it wants to look at it.
    Interrupted(T),
}

impl<T> Stopped<T> {
    /// What interrupted it, or the end that it is in any case.
    pub(super) fn interruption<U>(self) -> Result<T, Stopped<U>> {
        match self {
            Self::Interrupted(why) => Ok(why),
            Self::Ended(ended) => Err(Stopped::Ended(ended)),
            Self::NotOpened(why) => Err(Stopped::NotOpened(why)),
            Self::DeadlinePassed { is_sent } => Err(Stopped::DeadlinePassed { is_sent }),
        }
    }
}

impl Call {
    /// Waits for a connection with room for the request.
    pub(super) async fn open<T>(
        &mut self,
        upstream: &Upstream,
        is_end: bool,
        patience: Patience,
        mut interrupt: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<Opened, Stopped<T>> {
        let head = &self.head;
        let (reply, deadline) = (&mut self.reply, &mut self.deadline);
        let mut opening = pin!(upstream.open(|| head.request(), is_end, patience));
        poll_fn(|cx| {
            if let Poll::Ready(opened) = opening.as_mut().poll(cx) {
                return Poll::Ready(opened.map_err(Stopped::NotOpened));
            }
            if reply.poll_caller_gone(cx).is_ready() {
                return Poll::Ready(Err(Stopped::Ended(Ended::CallerGone)));
            }
            if deadline.poll_passed(cx).is_ready() {
                return Poll::Ready(Err(Stopped::DeadlinePassed { is_sent: false }));
            }
            interrupt(cx).map(|why| Err(Stopped::Interrupted(why)))
        })
        .await
    }

    /// Moves request and answer. An exchange that was interrupted may be gone on with.
    pub(super) async fn drive<T>(
        &mut self,
        exchange: &mut Exchange,
        note: AnswerNote<'_>,
        mut interrupt: impl FnMut(&mut Context<'_>, &Reply) -> Poll<T>,
    ) -> Stopped<T> {
        let (body, reply, deadline) = (&mut self.body, &mut self.reply, &mut self.deadline);
        poll_fn(|cx| {
            if let Poll::Ready(ended) = exchange.poll(cx, body, reply, note) {
                return Poll::Ready(Stopped::Ended(ended));
            }
            if reply.poll_caller_gone(cx).is_ready() {
                return Poll::Ready(Stopped::Ended(Ended::CallerGone));
            }
            if deadline.poll_passed(cx).is_ready() {
                return Poll::Ready(Stopped::DeadlinePassed { is_sent: true });
            }
            interrupt(cx, reply).map(Stopped::Interrupted)
        })
        .await
    }
}
