//! What a view says about one pod.

use alloc::string::String;
use alloc::sync::Arc;

use crate::id::PodId;
use crate::weight::Weight;

/// One pod of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The name of the pod, which decides where its slots lie.
    pub id: PodId,
    /// How much of the slots it gets, relative to the others.
    pub weight: Weight,
    /// What it shares with the pods that would fail together with it: a rack, a power feed.
    /// A pod without a zone counts as a zone of its own.
    pub zone: Option<Arc<str>>,
    /// Whether it may own slots.
    pub state: PodState,
    /// Where it listens.
    pub addresses: Addresses,
}

impl Pod {
    /// An active pod of weight one, without zone and addresses.
    #[must_use]
    pub fn new(id: PodId) -> Self {
        Self {
            id,
            weight: Weight::ONE,
            zone: None,
            state: PodState::Active,
            addresses: Addresses::default(),
        }
    }
}

/// Where a pod stands in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodState {
    /// New, and already an owner of slots.
    Joining,
    /// In service.
    #[default]
    Active,
    /// Leaving: owns no slots, and finishes what it has.
    Draining,
    /// Known to be dead: owns no slots, and finishes nothing.
    Down,
}

impl PodState {
    /// Every state, in the order of a pod's life.
    pub const ALL: [Self; 4] = [Self::Joining, Self::Active, Self::Draining, Self::Down];

    /// Whether a pod in this state may own slots.
    #[must_use]
    pub const fn owns_slots(self) -> bool {
        matches!(self, Self::Joining | Self::Active)
    }

    /// The word for the state in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }

    /// The state of this word, if there is one.
    #[must_use]
    pub fn from_name(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Where a pod listens, by transport. The ring neither reads nor checks an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Addresses {
    /// `host:port` of its gRPC server.
    pub grpc: Option<String>,
    /// The `ZeroMQ` endpoint, such as `tcp://127.0.0.1:5551`.
    pub zmq: Option<String>,
}
