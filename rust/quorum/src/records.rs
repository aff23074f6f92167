//! The records that count, for threads that run no event loop of their own.
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hashroute_coordination::Record;
use hashroute_core::Epoch;
use tokio::sync::watch;

/// What [`Node::records`](crate::Node::records) tells, to be read and waited for on any thread.
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Records {
    told: watch::Receiver<Option<Record>>,
}

impl Records {
    /// The newest record that the node knows to be chosen.
    #[must_use]
    pub fn newest(&self) -> Option<Record> {
        self.told.borrow().clone()
    }

    /// Waits, for at most `patience`, until the newest record is of a later epoch than `above`;
    /// returns the newest record, whatever its epoch. Returns at once when the node has ended.
    ///
    /// The thread is woken by the record; nothing is polled.
    #[must_use]
    pub fn wait_above(&self, above: Epoch, patience: Duration) -> Option<Record> {
        let mut told = self.told.clone();
        let is_newer =
            |record: &Option<Record>| record.as_ref().is_some_and(|record| record.epoch() > above);
        block_on(pin!(told.wait_for(is_newer)), patience);
        self.newest()
    }

    /// Whether the node has ended: no other record will come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.told.has_changed().is_err()
    }
}

impl From<watch::Receiver<Option<Record>>> for Records {
    fn from(told: watch::Receiver<Option<Record>>) -> Self {
        Self { told }
    }
}

/// Polls `future` on this thread until it is ready, or for at most `patience`.
fn block_on<F: Future>(mut future: Pin<&mut F>, patience: Duration) {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let begun = Instant::now();
    while future.as_mut().poll(&mut context).is_pending() {
        // A patience beyond the clock's range is one without end.
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use hashroute_coordination::{ClusterId, LeaseParameters, VoterEntry, VoterId};
    use hashroute_core::{Parameters, Pod, PodId, View};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn record(epoch: u64) -> Record {
        let pod = Pod::new(PodId::new("pod-a").expect("an id"));
        let parameters = Parameters::new(64, 0.05, 0).expect("parameters");
        let view = View::new(Epoch::new(epoch), parameters, vec![pod]).expect("a view");
        let voter = VoterEntry { id: VoterId(1), address: String::new() };
        let lease = LeaseParameters {
            ttl: Duration::from_millis(300),
            renewal_interval: Duration::from_millis(50),
            drift_ppm: 1_000,
            margin: Duration::from_millis(10),
        };
        Record::first(ClusterId(1), lease, vec![voter], &view).expect("a record")
    }

    fn channel(first: Option<Record>) -> (watch::Sender<Option<Record>>, Records) {
        let (sender, told) = watch::channel(first);
        (sender, told.into())
    }

    fn epoch_of(record: Option<Record>) -> Option<u64> {
        record.map(|record| record.epoch().get())
    }

    #[test]
    fn what_is_there_already_is_not_waited_for() {
        let (_sender, records) = channel(Some(record(7)));
        assert_eq!(epoch_of(records.wait_above(Epoch::new(6), LONG)), Some(7));
    }

    #[test]
    fn a_record_wakes_who_waits_for_it_and_an_old_one_does_not() {
        let (sender, records) = channel(None);
        let waiting = thread::spawn(move || records.wait_above(Epoch::new(2), LONG));
        for epoch in [1, 2, 3] {
            sender.send(Some(record(epoch))).expect("somebody waits");
        }
        assert_eq!(epoch_of(waiting.join().expect("no panic")), Some(3));
    }

    #[test]
    fn patience_ends_with_what_is_known() {
        let (_sender, records) = channel(Some(record(2)));
        let short = Duration::from_millis(1);
        assert_eq!(epoch_of(records.wait_above(Epoch::new(2), short)), Some(2));
    }

    #[test]
    fn nobody_waits_for_a_node_that_has_ended() {
        let (sender, records) = channel(None);
        assert!(!records.is_over());
        drop(sender);
        assert!(records.is_over());
        assert_eq!(epoch_of(records.wait_above(Epoch::new(0), LONG)), None);
    }
}
