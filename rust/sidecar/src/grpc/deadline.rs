//! How long a caller will wait.
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep_until};

/// The deadline of a request, if it has one. Costs nothing if it has none.
#[derive(Debug)]
pub(super) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// The deadline `timeout` after now. One too far off for the clock is none.
    pub(super) fn after(timeout: Option<Duration>) -> Self {
        let at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { timer: at.map(|at| Box::pin(sleep_until(at.into()))) }
    }

    /// What is left of the time; `None` for ever.
    pub(super) fn left(&self) -> Option<Duration> {
        let timer = self.timer.as_ref()?;
        Some(timer.deadline().saturating_duration_since(Instant::now().into()))
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
