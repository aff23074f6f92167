//! The guard: decides for each write that arrives at a pod whether it may be accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use crate::holder::LeaseHolder;
use crate::message::Ballot;
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
#[derive(Clone, Debug, Default, Hash)]
pub struct Guard {
    /// What was released and is not decided yet. Emptied by the next install.
    released: Vec<Released>,
    planted: Planted,
}

/// A record for which the member released what it loses in it.
#[derive(Clone, Debug, Hash)]
struct Released {
    record: Record,
    /// Who asked, and in which try.
    asked: BTreeMap<PodId, Ballot>,
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
    /// Nothing is under way any more: say so.
    Done,
    /// Too many different records are asked for at once.
    Refused,
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
        self.admit_until(now, me, record, lease.end(), resource, tag)
    }

    /// As [`Guard::admit`], for a lease that ends at `lease_end`; `None` is no lease.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`]: nothing may be written.
    pub fn admit_until(
        &self,
        now: Duration,
        me: &Writer,
        record: &Record,
        lease_end: Option<Duration>,
        resource: &Resource,
        tag: WriteTag,
    ) -> Result<Epoch, WriteRefusal> {
        let installed = record.epoch();
        if tag.epoch > installed && !self.planted.has(Bug::RouterTrusted) {
            return Err(WriteRefusal::Behind { installed, got: tag.epoch });
        }
        let owner = record.writer_of(resource);
        if owner != Some(me) && !self.planted.has(Bug::OwnerUnchecked) {
            let (resource, epoch, owner) = (resource.clone(), installed, owner.cloned());
            return Err(WriteRefusal::NotOwner { resource, epoch, owner });
        }
        let mut term = record.term(resource).unwrap_or(installed);
        if self.planted.has(Bug::RouterTrusted) {
            term = tag.term;
        }
        if tag.term < term && !self.planted.has(Bug::TermUnchecked) {
            return Err(WriteRefusal::StaleTerm { expected: term, got: tag.term });
        }
        if self.has_released(me, resource) {
            return Err(WriteRefusal::Moving { resource: resource.clone() });
        }
        if lease_end.is_none_or(|end| now >= end) && !self.planted.has(Bug::LeaseUnchecked) {
            return Err(WriteRefusal::NoLease);
        }
        Ok(term)
    }

    /// From now on nothing is admitted that the member owns and loses in `record`; `by` asked for
    /// it in this try.
    pub fn release(&mut self, record: &Record, by: &PodId, ballot: Ballot) -> Release {
        if let Some(released) = self.released.iter_mut().find(|it| it.record == *record) {
            if released.quiesced {
                return Release::Done;
            }
            released.asked.insert(by.clone(), ballot);
            return Release::UnderWay;
        }
        if self.released.len() >= RELEASES_MOST {
            return Release::Refused;
        }
        if self.planted.has(Bug::ReleaseForgotten) {
            self.released.clear();
        }
        let asked = BTreeMap::from([(by.clone(), ballot)]);
        self.released.push(Released { record: record.clone(), asked, quiesced: false });
        Release::Begun
    }

    /// Every write admitted before the release has ended; returns who waits to be told.
    pub fn quiesced(&mut self, record: &Record) -> Vec<(PodId, Ballot)> {
        let Some(released) = self.released.iter_mut().find(|it| it.record == *record) else {
            return Vec::new();
        };
        released.quiesced = true;
        std::mem::take(&mut released.asked).into_iter().collect()
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

    fn has_released(&self, me: &Writer, resource: &Resource) -> bool {
        !self.planted.has(Bug::ReleaseIgnored)
            && self.released.iter().any(|it| it.record.writer_of(resource) != Some(me))
    }
}

/// One epoch sees few tries with different wishes; past this many the asker waits for the next.
const RELEASES_MOST: usize = 16;

#[cfg(test)]
mod tests;
