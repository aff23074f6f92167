//! The guard: decides for each write that arrives at a pod whether it may be accepted.

use std::time::Duration;

use hashroute_core::Epoch;

use crate::holder::LeaseHolder;
use crate::planted::{Bug, Planted};
use crate::record::{Record, Resource, Writer};

/// Why a write is not accepted, and what the sender can do about it. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefusal {
    /// Another process owns the resource: refresh the view and send it there.
    #[error("this pod does not own {resource:?} at epoch {}: its owner is {owner:?}", .epoch.get())]
    NotOwner {
        /// What was to be written.
        resource: Resource,
        /// The epoch of the guard's record.
        epoch: Epoch,
        /// Who owns it.
        owner: Option<Writer>,
    },
    /// The sender routes by an older owner of the resource: refresh the view.
    #[error("term {} is stale: the owner's term is {}", .got.get(), .expected.get())]
    StaleTerm {
        /// The term of the resource here.
        expected: Epoch,
        /// The term that came with the write.
        got: Epoch,
    },
    /// The sender knows a newer record than this pod: try again in a moment.
    #[error("this pod is at epoch {} and the write at {}: it is catching up", .installed.get(), .got.get())]
    Behind {
        /// The epoch of the guard's record.
        installed: Epoch,
        /// The epoch that came with the write.
        got: Epoch,
    },
    /// The resource is on its way to another owner: refresh the view and try again in a moment.
    #[error("{resource:?} is being moved")]
    Moving {
        /// What was to be written.
        resource: Resource,
    },
    /// This pod has no lease: no majority of voters hears it.
    #[error("this pod holds no lease: it may write nothing until a majority of voters answers")]
    NoLease,
}

/// What came with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteTag {
    /// The epoch of the record that the sender routed by.
    pub epoch: Epoch,
    /// The term of the resource in that record.
    pub term: Epoch,
}

/// What a member may not accept although it owns it.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Records for which this member released what it loses in them. Emptied by the next install.
    released: Vec<Record>,
    planted: Planted,
}

impl Guard {
    /// A guard that has released nothing.
    #[must_use]
    pub fn new(planted: Planted) -> Self {
        Self { planted, ..Self::default() }
    }

    /// Decides on one write, by the clock read for this very write. On `Ok` the write was admitted
    /// under the term returned: hand it on to whatever stores the effect.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`]: nothing may be written.
    pub fn admit(
        &self,
        now: Duration,
        me: &Writer,
        record: &Record,
        lease: &LeaseHolder,
        resource: &Resource,
        tag: WriteTag,
    ) -> Result<Epoch, WriteRefusal> {
        let installed = record.epoch();
        if tag.epoch > installed {
            return Err(WriteRefusal::Behind { installed, got: tag.epoch });
        }
        let owner = record.owner(resource);
        if owner.as_ref() != Some(me) {
            return Err(WriteRefusal::NotOwner {
                resource: resource.clone(),
                epoch: installed,
                owner,
            });
        }
        let term = record.term(resource).unwrap_or(installed);
        if tag.term < term && !self.planted.has(Bug::TermUnchecked) {
            return Err(WriteRefusal::StaleTerm { expected: term, got: tag.term });
        }
        if self.has_released(me, resource) {
            return Err(WriteRefusal::Moving { resource: resource.clone() });
        }
        if !lease.is_valid(now) && !self.planted.has(Bug::LeaseUnchecked) {
            return Err(WriteRefusal::NoLease);
        }
        Ok(term)
    }

    /// From now on nothing is admitted that `me` owns and loses in `record`.
    pub fn release(&mut self, record: &Record) {
        if !self.planted.has(Bug::ReleaseIgnored) {
            self.released.push(record.clone());
        }
    }

    /// A record was installed: what was released for it is decided.
    pub fn installed(&mut self) {
        self.released.clear();
    }

    /// Whether something is released and not yet decided.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.released.is_empty()
    }

    /// The last record that something was released for.
    #[must_use]
    pub fn waiting_for(&self) -> Option<&Record> {
        self.released.last()
    }

    fn has_released(&self, me: &Writer, resource: &Resource) -> bool {
        self.released.iter().any(|record| record.owner(resource).as_ref() != Some(me))
    }
}
