//! One process: the state machine in it, and what a fault has done to it.

use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{Member, Voter, VoterId};

use crate::number::number;

/// Which process: voters first, then pods.
pub(super) type Place = usize;

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) machine: Machine,
    pub(super) life: Life,
    /// Whether nobody hears it.
    pub(super) is_mute: bool,
    /// Whether it hears nobody.
    pub(super) is_deaf: bool,
    /// Follows from the machine.
    number: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Machine {
    /// A voter that nobody knows yet.
    Newcomer(VoterId),
    Voter(Arc<Voter>),
    Member(Arc<Member>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Life {
    Running,
    /// Neither hears nor wakes.
    Paused,
    /// Only what is on its disk is left.
    Down,
}

impl Process {
    pub(super) fn new(machine: Machine) -> Self {
        let life = Life::Running;
        let mut process = Self { machine, life, is_mute: false, is_deaf: false, number: 0 };
        process.changed();
        process
    }

    /// Its machine is another than before.
    pub(super) fn changed(&mut self) {
        self.number = match &self.machine {
            Machine::Newcomer(id) => number(id),
            // Of one that is down only the disk is left.
            Machine::Voter(voter) if self.life == Life::Down => number(voter.state()),
            Machine::Member(member) if self.life == Life::Down => number(member.record()),
            Machine::Voter(voter) => number(voter),
            Machine::Member(member) => number(member),
        };
    }

    pub(super) fn fingerprint(&self) -> u64 {
        number(&(self.number, self.life, self.is_mute, self.is_deaf))
    }

    /// When it wants to be woken.
    pub(super) fn deadline(&self) -> Option<Duration> {
        if self.life != Life::Running {
            return None;
        }
        match &self.machine {
            Machine::Newcomer(_) => None,
            Machine::Voter(voter) => voter.deadline(),
            Machine::Member(member) => {
                Some(member.deadline()).filter(|deadline| *deadline < Duration::MAX)
            }
        }
    }
}
