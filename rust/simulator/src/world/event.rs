//! What can happen, in the order in which it does.

use hashroute_coordination::{FromVoter, ToPeer, ToVoter, VoterId};
use hashroute_core::PodId;

use super::Place;
use super::clients::{Effect, Write};

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A voter or member looks at its clock.
    Wake {
        place: Place,
        alarm: u64,
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
        write: Write,
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
