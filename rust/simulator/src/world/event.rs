//! What can happen, in the order in which it does.

use std::cmp::Ordering;
use std::time::Duration;

use hashroute_coordination::{FromVoter, Resource, ToPeer, ToVoter, VoterId, WriteTag};
use hashroute_core::PodId;

use super::Place;
use super::clients::Effect;

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A voter or member looks at its clock.
    Wake {
        place: Place,
        boot: u32,
    },
    ToVoter {
        place: Place,
        from: PodId,
        message: ToVoter,
    },
    FromVoter {
        place: Place,
        by: VoterId,
        message: FromVoter,
    },
    ToPeer {
        place: Place,
        from: PodId,
        message: ToPeer,
    },
    /// A voter's disk has made the oldest waiting state durable; then its messages leave.
    Synced {
        place: Place,
        boot: u32,
    },
    Fault,
    Restart {
        place: Place,
    },
    Crash {
        place: Place,
    },
    ClientWrites,
    WriteArrives {
        place: Place,
        resource: Resource,
        tag: WriteTag,
    },
    /// The process hands the effect of an admitted write to the network.
    EffectLeaves {
        place: Place,
        boot: u32,
        effect: Effect,
    },
    /// The store has it. Its answer is not lost, and changes nothing but that the write has ended.
    EffectArrives {
        place: Place,
        boot: u32,
        effect: Effect,
    },
    Heal,
}

impl Event {
    /// Where it happens, if a process has to run for it.
    pub(super) fn place(&self) -> Option<Place> {
        match self {
            Self::Wake { place, .. }
            | Self::ToVoter { place, .. }
            | Self::FromVoter { place, .. }
            | Self::ToPeer { place, .. }
            | Self::Synced { place, .. }
            | Self::Restart { place }
            | Self::Crash { place }
            | Self::WriteArrives { place, .. }
            | Self::EffectLeaves { place, .. } => Some(*place),
            Self::Fault | Self::ClientWrites | Self::EffectArrives { .. } | Self::Heal => None,
        }
    }
}

/// An event, when it happens, and its number: the earlier of two at one time happens first.
pub(super) struct Entry(pub(super) Duration, pub(super) u64, pub(super) Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
