//! What a sidecar asks of the quorum, and the words in which it hears the answers.
use std::fmt;
use std::sync::Arc;

use hashroute_coordination::{Record, Resource, WriteRefusal, WriteTag};
use hashroute_core::Epoch;
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::write::{Tag, Target};
use hashroute_quorum::{Admission, Node, NodeSnapshot, PodGuard};
use tokio::sync::watch;

/// What a sidecar asks of the quorum: a [`Node`], of its own or of its host.
pub trait Quorum: fmt::Debug + Send + Sync {
    /// The newest record, told whenever another one counts.
    fn records(&self) -> watch::Receiver<Option<Record>>;

    /// Whether no majority of voters was heard for some time. Asked a hundred times a second.
    fn is_stale(&self) -> bool;

    /// The guard of the pod that this process is the member of.
    fn guard(&self) -> Option<Arc<dyn WriteGuard>>;

    /// All figures of this moment.
    fn snapshot(&self) -> NodeSnapshot;
}

/// Decides on the writes that arrive at a pod.
pub trait WriteGuard: fmt::Debug + Send + Sync {
    /// Decides on one write by the clock read now. Without a tag it is judged by the pod's own
    /// record alone.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`]: nothing may be written.
    fn admit(
        &self,
        resource: &Resource,
        tag: Option<WriteTag>,
    ) -> Result<Box<dyn Admitted>, WriteRefusal>;
}

/// One admitted write, under way until it is dropped.
pub trait Admitted: fmt::Debug {
    /// The fencing token.
    fn term(&self) -> Epoch;

    /// The epoch under which it was admitted.
    fn epoch(&self) -> Epoch;
}

impl Quorum for Node {
    fn records(&self) -> watch::Receiver<Option<Record>> {
        Self::records(self)
    }

    fn is_stale(&self) -> bool {
        Self::is_stale(self)
    }

    fn guard(&self) -> Option<Arc<dyn WriteGuard>> {
        Self::guard(self).map(|guard| Arc::new(guard) as _)
    }

    fn snapshot(&self) -> NodeSnapshot {
        Self::snapshot(self)
    }
}

impl WriteGuard for PodGuard {
    fn admit(
        &self,
        resource: &Resource,
        tag: Option<WriteTag>,
    ) -> Result<Box<dyn Admitted>, WriteRefusal> {
        Self::admit(self, resource, tag).map(|admission| Box::new(admission) as _)
    }
}

impl Admitted for Admission {
    fn term(&self) -> Epoch {
        Self::term(self)
    }

    fn epoch(&self) -> Epoch {
        Self::epoch(self)
    }
}

/// What a write writes, in the words of the record.
#[must_use]
pub fn resource(target: &Target) -> Resource {
    match target {
        Target::Slot(slot) => Resource::Slot(*slot),
        Target::Group(group) => Resource::Group(Arc::clone(group.as_arc())),
    }
}

/// By which record it was routed, in the words of the record.
pub(crate) fn write_tag(tag: &Tag) -> WriteTag {
    WriteTag { epoch: tag.epoch, term: tag.term }
}

/// A refusal in the words of the wire; `known` is the epoch of the record that this process routes
/// by, for the refusals that name none.
pub(crate) fn refused(refusal: &WriteRefusal, known: Epoch) -> Refused {
    let (refusal, epoch) = match refusal {
        WriteRefusal::NotOwner { epoch, .. } => (Refusal::NotOwner, *epoch),
        WriteRefusal::StaleTerm { .. } => (Refusal::StaleTerm, known),
        WriteRefusal::Behind { installed, .. } => (Refusal::Behind, *installed),
        WriteRefusal::Moving { .. } => (Refusal::Moving, known),
        WriteRefusal::NoLease => (Refusal::NoLease, known),
    };
    Refused { refusal, epoch: Some(epoch) }
}

/// A refusal as a sentence for people.
#[must_use]
pub fn explain(refusal: &WriteRefusal, target: &Target) -> String {
    match refusal {
        WriteRefusal::NotOwner { epoch, owner: Some(owner), .. } => {
            format!("at epoch {epoch} the owner of {target} is a process of pod {}", owner.pod)
        }
        WriteRefusal::NotOwner { epoch, owner: None, .. } => {
            format!("at epoch {epoch} nobody owns {target}")
        }
        WriteRefusal::StaleTerm { expected, got } => {
            format!("term {got} of {target} is an older owner's: this one's is {expected}")
        }
        WriteRefusal::Behind { installed, got } => {
            format!("this pod is at epoch {installed} and the write at {got}: it is catching up")
        }
        WriteRefusal::Moving { .. } => format!("{target} is being handed over"),
        WriteRefusal::NoLease => "this pod holds no lease: no majority of voters answers it".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hashroute_core::Slot;

    #[test]
    fn every_refusal_of_the_protocol_has_its_word_and_the_epoch_of_the_guards_record() {
        let resource = Resource::Slot(Slot::new(5));
        let (old, new) = (Epoch::new(3), Epoch::new(7));
        let target = Target::Slot(Slot::new(5));
        for (refusal, word, epoch) in [
            (
                WriteRefusal::NotOwner { resource: resource.clone(), epoch: old, owner: None },
                Refusal::NotOwner,
                old,
            ),
            (WriteRefusal::StaleTerm { expected: new, got: old }, Refusal::StaleTerm, new),
            (WriteRefusal::Behind { installed: old, got: new }, Refusal::Behind, old),
            (WriteRefusal::Moving { resource }, Refusal::Moving, new),
            (WriteRefusal::NoLease, Refusal::NoLease, new),
        ] {
            let expected = Refused { refusal: word, epoch: Some(epoch) };
            assert_eq!(refused(&refusal, new), expected);
            assert!(!explain(&refusal, &target).contains("Slot("), "words, not a dump");
        }
    }
}
