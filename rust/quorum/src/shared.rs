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

    /// A majority, or a store that speaks for one, had been heard at this time.
    pub(crate) fn heard(&self, at: Duration) {
        self.heard.fetch_max(clock::nanos(at), Ordering::Relaxed);
    }

    /// Whether no majority was heard for longer than is allowed.
    pub(crate) fn is_stale(&self) -> bool {
        let heard = Duration::from_nanos(self.heard.load(Ordering::Relaxed));
        self.records.borrow().is_none() || clock::now().saturating_sub(heard) > self.stale_after
    }
}

/// So many records are remembered: a term that is older has counted for long.
const INSTALLED_MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{both, first};

    #[test]
    fn the_last_records_are_remembered_with_when_they_began_to_count() {
        let shared = Shared::new(Duration::from_secs(1));
        assert!(shared.installed().is_empty());
        assert!(shared.publish(&first()));
        assert!(shared.publish(&both()));
        assert!(!shared.publish(&first()), "an older one is no news");
        let installed = shared.installed();
        let epochs: Vec<u64> = installed.iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(epochs, [1, 3]);
        assert!(installed.is_sorted_by_key(|(_, at)| *at));
    }

    #[test]
    fn a_long_life_forgets_the_oldest_records() {
        let shared = Shared::new(Duration::from_secs(1));
        let mut record = first();
        for _ in 0..INSTALLED_MOST + 3 {
            assert!(shared.publish(&record));
            record = record.next(&hashroute_coordination::Change::Nothing).unwrap();
        }
        let installed = shared.installed();
        assert_eq!(installed.len(), INSTALLED_MOST);
        assert_eq!(installed.first().map(|(epoch, _)| *epoch), Some(4));
    }
}
