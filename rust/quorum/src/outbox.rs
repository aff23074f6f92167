//! What waits to be sent on one stream: bounded, and never waited for by who sends.
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio_stream::Stream;

/// Makes both ends of a queue of at most `most` items.
pub(crate) fn outbox<T>(most: usize) -> (Outbox<T>, OutboxStream<T>) {
    let queue = Queue { items: VecDeque::new(), most, waker: None, state: State::Open };
    let queue = Arc::new(Mutex::new(queue));
    (Outbox(Arc::clone(&queue)), OutboxStream(queue))
}

/// The end that items go into. Dropping it closes the queue.
#[derive(Debug)]
pub(crate) struct Outbox<T>(Arc<Mutex<Queue<T>>>);

/// The end that a stream is made of. It ends after the last item once the queue was closed.
#[derive(Debug)]
pub(crate) struct OutboxStream<T>(Arc<Mutex<Queue<T>>>);

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    most: usize,
    waker: Option<Waker>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Nothing comes any more; what is there is still delivered.
    Closed,
    /// Nobody takes anything any more.
    Abandoned,
}

impl<T> Outbox<T> {
    /// Puts an item in; if there is no room, the oldest one is dropped. For messages that may be
    /// lost, of which the newest are the most use.
    pub(crate) fn push(&self, item: T) {
        let mut queue = lock(&self.0);
        if queue.state != State::Open {
            return;
        }
        if queue.items.len() >= queue.most {
            queue.items.pop_front();
        }
        queue.items.push_back(item);
        wake(queue);
    }

    /// Puts an item in, if there is room and somebody there to take it.
    pub(crate) fn offer(&self, item: T) -> bool {
        let mut queue = lock(&self.0);
        if queue.state != State::Open || queue.items.len() >= queue.most {
            return false;
        }
        queue.items.push_back(item);
        wake(queue);
        true
    }

    /// Ends the stream with this item; what waited before it is dropped.
    pub(crate) fn end_with(&self, item: T) {
        let mut queue = lock(&self.0);
        if queue.state == State::Open {
            queue.items.clear();
            queue.items.push_back(item);
            queue.state = State::Closed;
            wake(queue);
        }
    }

    /// Whether nobody takes anything any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        lock(&self.0).state == State::Abandoned
    }
}

impl<T> Drop for Outbox<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        if queue.state == State::Open {
            queue.state = State::Closed;
            wake(queue);
        }
    }
}

impl<T> Stream for OutboxStream<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut queue = lock(&self.0);
        if let Some(item) = queue.items.pop_front() {
            return Poll::Ready(Some(item));
        }
        if queue.state != State::Open {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for OutboxStream<T> {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.state = State::Abandoned;
        queue.items.clear();
    }
}

fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the stream's task, outside the lock.
fn wake<T>(mut queue: MutexGuard<'_, Queue<T>>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn drain<T>(stream: OutboxStream<T>) -> Vec<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(stream.collect())
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let (outbox, stream) = outbox(2);
        (1..=3).for_each(|item| outbox.push(item));
        assert!(!outbox.offer(4));
        drop(outbox);
        assert_eq!(drain(stream), [2, 3]);
    }

    #[test]
    fn the_last_word_ends_the_stream() {
        let (outbox, stream) = outbox(2);
        assert!(outbox.offer(1));
        outbox.end_with(9);
        outbox.push(2);
        assert_eq!(drain(stream), [9]);
    }

    #[test]
    fn who_is_not_listened_to_is_told() {
        let (outbox, stream) = outbox(2);
        outbox.push(1);
        drop(stream);
        assert!(outbox.is_abandoned());
        assert!(!outbox.offer(2));
    }
}
