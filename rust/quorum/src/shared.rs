//! What other threads read of the loop that keeps the lease.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hashroute_coordination::Record;
use tokio::sync::watch;

use crate::clock;
use crate::guard::Gate;

/// Written by the loop, read by any thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) records: watch::Sender<Option<Record>>,
    /// When a majority of the record's voters had been heard last, in nanoseconds.
    heard: AtomicU64,
    stale_after: Duration,
}

impl Shared {
    pub(crate) fn new(stale_after: Duration) -> Self {
        let (gate, records) = (Arc::default(), watch::Sender::new(None));
        Self { gate, records, heard: AtomicU64::new(0), stale_after }
    }

    /// The newest record that this process knows to be chosen.
    pub(crate) fn record(&self) -> Option<Record> {
        self.records.borrow().clone()
    }

    /// Makes the record the newest, if it is newer and of the same cluster; returns whether it is.
    pub(crate) fn publish(&self, record: &Record) -> bool {
        self.records.send_if_modified(|newest| {
            let follows = newest.as_ref().is_none_or(|newest| {
                newest.cluster() == record.cluster() && newest.epoch() < record.epoch()
            });
            if follows {
                *newest = Some(record.clone());
            }
            follows
        })
    }

    /// A majority had been heard at this time.
    pub(crate) fn heard(&self, at: Duration) {
        self.heard.store(clock::nanos(at), Ordering::Relaxed);
    }

    /// Whether no majority was heard for longer than is allowed.
    pub(crate) fn is_stale(&self) -> bool {
        let heard = Duration::from_nanos(self.heard.load(Ordering::Relaxed));
        self.records.borrow().is_none() || clock::now().saturating_sub(heard) > self.stale_after
    }
}
