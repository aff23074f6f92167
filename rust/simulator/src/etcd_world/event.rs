//! What can happen in a cluster whose record lies in etcd.

use std::time::Duration;

use hashroute_coordination::{
    Entry, FromVoter, RegisterEvent, Request, Revision, ToVoter, Transaction, VoterId,
};
use hashroute_core::PodId;

use super::Place;
use super::clients::Write;
use crate::world::Effect;

/// A transaction on its way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) place: Place,
    pub(super) boot: u32,
    pub(super) request: Request,
    pub(super) transaction: Transaction,
    /// Until when, in true time, its sender may write because of it, if it leaves a beat.
    pub(super) lets_write: Option<Duration>,
    /// Its sender was told that it failed.
    pub(super) is_given_up: bool,
}

/// One of the watches, one after the other, of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WatchName {
    pub(super) place: Place,
    pub(super) boot: u32,
    pub(super) number: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A member looks at its clock.
    Wake {
        place: Place,
        alarm: u64,
    },
    /// A process has measured its stalls, and takes part.
    Begin {
        place: Place,
        boot: u32,
    },
    /// A transaction leaves the process.
    Leaves(Box<Asked>),
    /// It is at etcd.
    Arrives(Box<Asked>),
    /// Its answer is at the process.
    Answered {
        place: Place,
        boot: u32,
        request: Request,
        answer: RegisterEvent,
    },
    /// A process reads everything.
    Looks(WatchName),
    /// The question is at etcd.
    LookArrives(WatchName),
    /// The answer is at the process, which asks for a watch.
    Looked {
        watch: WatchName,
        revision: Revision,
        entries: Vec<Entry>,
    },
    /// That is at etcd.
    WatchBegins {
        watch: WatchName,
        after: Revision,
    },
    /// etcd goes on telling.
    WatchFlows(WatchName),
    /// What one commit changed is at the process.
    Tells {
        watch: WatchName,
        revision: Revision,
    },
    /// A watch was silent for long: the process asks, past it, whether something changed.
    Silence(WatchName),
    CheckArrives {
        watch: WatchName,
        told: Revision,
    },
    Checked {
        watch: WatchName,
        has_missed: bool,
    },
    /// The process learns that its watch, or what it asked for it, has failed.
    WatchFails(WatchName),
    /// Writes that a release waited for have ended.
    WritesEnded {
        place: Place,
        boot: u32,
    },
    /// A voter is told something by a member.
    ToVoter {
        place: Place,
        from: PodId,
        message: ToVoter,
    },
    /// A member is told something by a voter.
    FromVoter {
        place: Place,
        by: VoterId,
        message: FromVoter,
    },
    Fault,
    Restart {
        place: Place,
    },
    Crash {
        place: Place,
        boot: u32,
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
    /// The service's store has it.
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
            | Self::Begin { place, .. }
            | Self::Answered { place, .. }
            | Self::WritesEnded { place, .. }
            | Self::ToVoter { place, .. }
            | Self::FromVoter { place, .. }
            | Self::Restart { place }
            | Self::Crash { place, .. }
            | Self::WriteArrives { place, .. }
            | Self::EffectLeaves { place, .. } => Some(*place),
            Self::Leaves(asked) => Some(asked.place),
            Self::Looks(watch)
            | Self::Looked { watch, .. }
            | Self::Tells { watch, .. }
            | Self::Silence(watch)
            | Self::Checked { watch, .. }
            | Self::WatchFails(watch) => Some(watch.place),
            Self::Arrives(_)
            | Self::LookArrives(_)
            | Self::WatchBegins { .. }
            | Self::WatchFlows(_)
            | Self::CheckArrives { .. }
            | Self::Fault
            | Self::ClientWrites
            | Self::EffectArrives { .. }
            | Self::Heal => None,
        }
    }
}
