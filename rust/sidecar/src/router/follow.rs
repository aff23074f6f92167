//! Puts the records of a quorum in force, one after the other, as they come.
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use hashroute_coordination::Record;
use hashroute_core::Epoch;
use hashroute_quorum::Records;

use super::{Present, State};
use crate::error::ApplyError;
use crate::routing::{Terms, ring_of};

/// The thread that waits for records.
pub(super) const THREAD: &str = "hr-follow";
/// How often it looks whether it is still wanted. Records wake it at once.
const PATIENCE: Duration = Duration::from_millis(500);

/// Follows until it is dropped, and a little longer.
#[derive(Debug)]
pub(super) struct Follower {
    is_over: Arc<AtomicBool>,
}

impl Follower {
    /// Puts the newest record in force, and waits for the next ones on a thread.
    pub(super) fn spawn(state: Arc<State>, records: Records) -> io::Result<Self> {
        let is_over = Arc::<AtomicBool>::default();
        let follower = Self { is_over: Arc::clone(&is_over) };
        let mut epoch = Epoch::new(0);
        if let Some(record) = records.newest() {
            epoch = record.epoch();
            // Of one epoch there is one record: what is older than the one in force is known.
            let _known = state.apply_record(record);
        }
        thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
            while !is_over.load(Ordering::Relaxed) && !records.is_over() {
                let newest = records.wait_above(epoch, PATIENCE);
                if let Some(record) = newest.filter(|record| record.epoch() > epoch)
                    && !is_over.load(Ordering::Relaxed)
                {
                    epoch = record.epoch();
                    let _known = state.apply_record(record);
                }
            }
        })?;
        Ok(follower)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

impl State {
    /// Puts a record in force: its view, and the terms that it agrees on. Pods that stay keep their
    /// health and what they have in flight.
    ///
    /// # Errors
    ///
    /// [`ApplyError::StaleEpoch`] if it is not newer than the record in force.
    pub(super) fn apply_record(&self, record: Record) -> Result<(), ApplyError> {
        let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.present.load_full();
        let (current, got) = (present.record.as_ref().map(Record::epoch), record.epoch());
        if let Some(current) = current.filter(|current| *current >= got) {
            let (current, got) = (current.get(), got.get());
            return Err(ApplyError::StaleEpoch { current, got });
        }
        let (fleet, terms) = match ring_of(&record) {
            Some(ring) => {
                let fleet = present.fleet.follow(ring, self.settings.policy());
                (Arc::new(fleet), Terms::of_record(&record))
            }
            None => (Arc::clone(&present.fleet), present.terms.clone()),
        };
        self.put_in_force(Present { fleet, terms, record: Some(record) });
        Ok(())
    }
}
