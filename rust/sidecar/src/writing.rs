//! What writes have in common over both transports: whom they look for, and what they tell.
use std::fmt;
use std::time::Duration;

use hashroute_coordination::Resource;
use hashroute_core::{Epoch, PodId, Ring};
use hashroute_dataplane::fleet::{Fleet, Permit};
use hashroute_dataplane::refusal::Refusal;
use hashroute_dataplane::write::{Event, GaveUp, GroupName, Target, Why};

use crate::quorum::resource;
use crate::routing::{Owner, Routing};

/// What a write is about, whatever the record.
#[derive(Clone, Debug)]
pub enum Goal {
    /// The slot of the key with this hash.
    Key(u64),
    /// A group.
    Group(GroupName),
}

/// The owner to which a write goes, by one record.
#[derive(Debug)]
pub(crate) struct Destination {
    resource: Resource,
    pub(crate) target: Target,
    /// The epoch of the record.
    pub(crate) record: Epoch,
    pub(crate) owner: Owner,
}

/// What came of the last attempt; `F` is how a transport fails.
#[derive(Debug)]
pub(crate) enum Last<F> {
    NoRecord,
    NoOwner(Target, Epoch),
    Silent(PodId),
    Refused(PodId, Refusal),
    Failed(PodId, F),
}

/// A failure in words.
pub(crate) trait Failing {
    /// A sentence about it; `pod` names the pod.
    fn describe(&self, pod: &str) -> String;
}

impl Goal {
    /// The owner by the record of `routing`, and what counts the write in flight there; or why the
    /// write goes nowhere, and what to tell the write of that.
    pub(crate) fn destination<F>(
        &self,
        routing: &Routing,
        fleet: &Fleet,
    ) -> Result<(Destination, Permit), (Last<F>, Event<'static>)> {
        let record = routing.record().map(|record| record.epoch());
        let record = record.ok_or((Last::NoRecord, Event::NoOwner { record: None }))?;
        let target = self.target(&routing.ring);
        let resource = resource(&target);
        let owner = routing.owner(&resource);
        let owner = owner.and_then(|owner| Some((fleet.take(owner.pod?)?, owner)));
        let Some((permit, owner)) = owner else {
            let event = Event::NoOwner { record: Some(record) };
            return Err((Last::NoOwner(target, record), event));
        };
        if fleet.is_silent(permit.pod()) {
            return Err((Last::Silent(owner.writer.pod), Event::OwnerSilent { record }));
        }
        Ok((Destination { resource, target, record, owner }, permit))
    }

    /// What it writes by the view of `ring`.
    pub(crate) fn target(&self, ring: &Ring) -> Target {
        match self {
            Self::Key(hash) => Target::Slot(ring.slot_of_hash(*hash)),
            Self::Group(group) => Target::Group(group.clone()),
        }
    }
}

impl Destination {
    /// Whether by the record of `routing` another process writes there.
    pub(crate) fn is_replaced(&self, routing: &Routing) -> bool {
        let owner = routing.owner(&self.resource);
        owner.is_none_or(|owner| owner.writer != self.owner.writer)
    }
}

/// The end of a write that no pod answered, as a sentence for its caller.
pub(crate) fn explain_end<F: Failing>(end: &GaveUp, patience: Duration, last: &Last<F>) -> String {
    let patience = patience.as_millis();
    match end.why {
        Why::PatienceOver => {
            format!("no pod accepted the write within writes.patience ({patience} ms): {last}")
        }
        Why::Final | Why::MayBeApplied => last.to_string(),
        Why::NotReplayable => format!(
            "{last}; it is not sent again, as it is longer than retry.buffer_bytes or its answer \
             has begun"
        ),
        Why::OwnerReplaced => format!(
            "another pod owns now what is written, and the one that had the write did not answer \
             within writes.patience ({patience} ms) since"
        ),
    }
}

impl<F: Failing> fmt::Display for Last<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRecord => f.write_str("no record of the quorum is known yet"),
            Self::NoOwner(target, epoch) => write!(f, "at epoch {epoch} nobody owns {target}"),
            Self::Silent(pod) => write!(f, "its owner, pod {pod}, does not answer its probes"),
            Self::Refused(pod, refusal) => write!(f, "pod {pod} {}", refusal.says()),
            Self::Failed(pod, failed) => f.write_str(&failed.describe(&format!("pod {pod}"))),
        }
    }
}
