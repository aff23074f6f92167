//! The guard of a pod: admits writes from any thread, by the rules of `hashroute_coordination`.
use hashroute_coordination::{Resource, WriteRefusal, WriteTag};
use hashroute_core::Epoch;

/// Admits the writes that arrive at a pod. Cheap to clone; all clones are one guard.
#[derive(Clone, Debug)]
pub struct PodGuard {}

/// One admitted write. It counts as under way until it is dropped: a release of what it wrote
/// waits for it.
#[derive(Debug)]
pub struct Admission {}

impl PodGuard {
    /// Decides on one write by the clock read now. A write without a tag was routed by nobody: it
    /// is judged by this pod's own record alone.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`]: nothing may be written.
    pub fn admit(
        &self,
        resource: &Resource,
        tag: Option<WriteTag>,
    ) -> Result<Admission, WriteRefusal> {
        let _ = (resource, tag);
        todo!()
    }
}

impl Admission {
    /// The fencing token: to be handed to whatever stores the effect.
    #[must_use]
    pub fn term(&self) -> Epoch {
        todo!()
    }

    /// The epoch under which the write was admitted.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        todo!()
    }

    /// A second look, right before the effect leaves: whether the write would still be admitted.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        todo!()
    }
}
