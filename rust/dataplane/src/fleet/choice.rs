//! The words of a choice: why this pod, why none, and which were tried.

use super::Transport;
use hashroute_core::PodIndex;
use thiserror::Error;

/// The most pods that a request may have tried.
pub const TRIED_MAX: usize = 8;

/// Why a request goes to the pod to which it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The pod owns the slot.
    Owner,
    /// A pod before it in the preference list is up, but has all the requests that it may have.
    Spill,
    /// The pods before it in the preference list are not up, were tried, or do not serve.
    Failover,
    /// No pod is thought to be well; a try is better than a sure failure.
    LastResort,
}

impl Reason {
    /// The word in the status and in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Spill => "spill",
            Self::Failover => "failover",
            Self::LastResort => "last_resort",
        }
    }
}

/// Why no pod takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoPod {
    /// Every pod that serves was tried.
    #[error("all {pods} pods that serve {transport} were tried")]
    AllTried {
        /// How many.
        pods: usize,
        /// Over which transport.
        transport: Transport,
    },
    /// No pod of the view that owns slots has an address for this transport.
    #[error("no pod of the view has an address for {transport}: give one to at least one pod")]
    NoneServes {
        /// Over which transport.
        transport: Transport,
    },
}

/// The pods that one request has tried, as indices of one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tried {
    pods: [Option<PodIndex>; TRIED_MAX],
}

impl Tried {
    /// No pods.
    #[must_use]
    pub const fn none() -> Self {
        Self { pods: [None; TRIED_MAX] }
    }

    /// Adds a pod. After [`TRIED_MAX`] pods there is no room, and the newest is not remembered;
    /// [`Attempts`](crate::retry::Attempts) allows no more attempts than that.
    pub fn insert(&mut self, pod: PodIndex) {
        if self.contains(pod) {
            return;
        }
        if let Some(free) = self.pods.iter_mut().find(|place| place.is_none()) {
            *free = Some(pod);
        }
    }

    /// Whether the pod was tried.
    #[must_use]
    pub fn contains(&self, pod: PodIndex) -> bool {
        self.pods.contains(&Some(pod))
    }

    /// Whether no pod was tried.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let [first, ..] = self.pods;
        first.is_none()
    }
}
