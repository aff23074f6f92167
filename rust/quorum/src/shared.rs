//! What other threads read of the loop that keeps the lease.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    /// When each of the last records began to count here, by its epoch, oldest first.
    installed: Mutex<VecDeque<(u64, Duration)>>,
    /// When a majority of the record's voters had been heard last, in nanoseconds.
    heard: AtomicU64,
    stale_after: Duration,
}

impl Shared {
    pub(crate) fn new(stale_after: Duration) -> Self {
        let (gate, records) = (Arc::default(), watch::Sender::new(None));
        Self { gate, records, installed: Mutex::default(), heard: AtomicU64::new(0), stale_after }
    }

    /// The newest record that this process knows to be chosen.
    pub(crate) fn record(&self) -> Option<Record> {
        self.records.borrow().clone()
    }

    /// Makes the record the newest, if it is newer and of the same cluster; returns whether it is.
    pub(crate) fn publish(&self, record: &Record) -> bool {
        let is_newest = self.records.send_if_modified(|newest| {
            let follows = newest.as_ref().is_none_or(|newest| {
                newest.cluster() == record.cluster() && newest.epoch() < record.epoch()
            });
            if follows {
                *newest = Some(record.clone());
            }
            follows
        });
        if is_newest {
            let mut installed = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
            if installed.len() >= INSTALLED_MOST {
                installed.pop_front();
            }
            installed.push_back((record.epoch().get(), clock::now()));
        }
        is_newest
    }

    /// When the last records began to count here, by their epochs, oldest first.
    pub(crate) fn installed(&self) -> Vec<(u64, Duration)> {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
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

/// So many records are remembered: a term that is older has counted for long.
const INSTALLED_MOST: usize = 64;
