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
    /// What was released and is not decided yet. Emptied by the next install.
    released: Vec<Released>,
    planted: Planted,
}

/// A record for which the member released what it loses in it.
#[derive(Clone, Debug)]
struct Released {
    record: Record,
    /// Whether every write admitted before has ended.
    quiesced: bool,
}

/// How far a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing is admitted any more from now on; writes admitted before may be under way.
    Begun,
    /// The same record was asked for before, and its writes are still under way.
    UnderWay,
    /// The same record was asked for before, and nothing is under way any more.
    Done,
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
        if owner.as_ref() != Some(me) && !self.planted.has(Bug::OwnerUnchecked) {
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

    /// From now on nothing is admitted that the member owns and loses in `record`.
    pub fn release(&mut self, record: &Record) -> Release {
        match self.released.iter().find(|released| released.record == *record) {
            Some(released) if released.quiesced => Release::Done,
            Some(_) => Release::UnderWay,
            None => {
                self.released.push(Released { record: record.clone(), quiesced: false });
                Release::Begun
            }
        }
    }

    /// Every write admitted before the release has ended.
    pub fn quiesced(&mut self, record: &Record) {
        for released in self.released.iter_mut().filter(|it| it.record == *record) {
            released.quiesced = true;
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
        self.released.last().map(|released| &released.record)
    }

    fn has_released(&self, me: &Writer, resource: &Resource) -> bool {
        !self.planted.has(Bug::ReleaseIgnored)
            && self.released.iter().any(|it| it.record.owner(resource).as_ref() != Some(me))
    }
}
