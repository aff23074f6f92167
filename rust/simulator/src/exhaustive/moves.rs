//! What may happen next.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Request;
use super::letter::Letter;
use super::process::{Life, Machine, Place};
use super::state::State;

/// One event.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Deliver(Arc<Letter>),
    /// A process looks at its clock, as it wanted to.
    Tick(Place),
    /// Time passes.
    Pass(Duration),
    /// The operator asks for a change.
    Ask,
    Lose(Arc<Letter>),
    Delay(Arc<Letter>),
    /// A copy of a message stays on its way.
    Repeat(Arc<Letter>),
    /// A message arrives, and what a voter answers does not, or late.
    LoseAnswer(Arc<Letter>),
    DelayAnswer(Arc<Letter>),
    Crash(Place),
    Pause(Place),
    Mute(Place),
    Deafen(Place),
    Restart(Place),
    Resume(Place),
    Mend(Place),
}

impl Move {
    pub(super) fn is_fault(&self) -> bool {
        match self {
            Self::Lose(_) | Self::Delay(_) | Self::Repeat(_) => true,
            Self::LoseAnswer(_) | Self::DelayAnswer(_) => true,
            Self::Crash(_) | Self::Pause(_) | Self::Mute(_) | Self::Deafen(_) => true,
            Self::Deliver(_) | Self::Tick(_) | Self::Pass(_) | Self::Ask => false,
            Self::Restart(_) | Self::Resume(_) | Self::Mend(_) => false,
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(letter) => write!(out, "{letter}"),
            Self::Pass(until) => write!(out, "it is {until:?}"),
            Self::Lose(letter) => write!(out, "LOST {letter}"),
            Self::Delay(letter) => write!(out, "DELAYED {letter}"),
            Self::Repeat(letter) => write!(out, "REPEATED {letter}"),
            Self::LoseAnswer(letter) => write!(out, "LOST the answer to {letter}"),
            Self::DelayAnswer(letter) => write!(out, "DELAYED the answer to {letter}"),
            Self::Tick(_) | Self::Ask | Self::Restart(_) | Self::Resume(_) | Self::Mend(_) => {
                write!(out, "{self:?}")
            }
            Self::Crash(_) | Self::Pause(_) | Self::Mute(_) | Self::Deafen(_) => {
                write!(out, "FAULT {self:?}")
            }
        }
    }
}

impl State {
    /// Whether nothing is to be done at this instant.
    pub(super) fn is_quiet(&self) -> bool {
        self.prompt().next().is_none() && self.due().next().is_none()
    }

    /// Every event that may happen next.
    pub(super) fn moves(&self) -> Vec<Move> {
        let prompt = self.next_letters();
        let mut moves: Vec<Move> = prompt.iter().cloned().map(Move::Deliver).collect();
        if prompt.is_empty() || !prompt.iter().all(|letter| letter.is_routine()) {
            moves.extend(self.due().map(Move::Tick));
        }
        let places = 0..self.processes.len();
        if moves.is_empty() {
            let late = self.letters.iter().filter(|it| it.is_late && self.hears(it.to));
            moves.extend(late.cloned().map(Move::Deliver));
            let next = self.processes.iter().filter_map(super::process::Process::deadline).min();
            moves.extend(next.filter(|next| self.is_within(*next)).map(Move::Pass));
            moves.extend(places.clone().filter_map(|place| self.cure(place)));
            moves.extend(self.may_ask.then_some(Move::Ask));
            if self.faults > 0 {
                let alive = places.clone().filter(|place| self.can_fail(*place));
                moves.extend(
                    alive.flat_map(|it| [Move::Pause(it), Move::Mute(it), Move::Deafen(it)]),
                );
            }
        }
        if self.faults > 0 {
            for letter in &prompt {
                let faults = [Move::Lose, Move::Delay, Move::Repeat];
                moves.extend(faults.map(|fault| fault(Arc::clone(letter))));
                if letter.is_answered() {
                    let faults = [Move::LoseAnswer, Move::DelayAnswer];
                    moves.extend(faults.map(|fault| fault(Arc::clone(letter))));
                }
            }
            moves.extend(places.filter(|place| self.can_fail(*place)).map(Move::Crash));
        }
        moves
    }

    /// Those of the messages that arrive before any time passes of which any may be the next: all of
    /// them, unless nothing but renewals and probes is on its way. Then one pod's come before the
    /// other's, and before anybody looks at a clock: they would only be many ways to one state.
    fn next_letters(&self) -> Vec<Arc<Letter>> {
        let mut letters: Vec<_> = self.prompt().cloned().collect();
        if letters.iter().all(|letter| letter.is_routine()) {
            let first = letters.iter().map(|letter| letter.from).min();
            letters.retain(|letter| Some(letter.from) == first);
        }
        letters
    }

    /// Messages that arrive before any time passes.
    fn prompt(&self) -> impl Iterator<Item = &Arc<Letter>> {
        self.letters.iter().filter(|letter| !letter.is_late && self.hears(letter.to))
    }

    /// Processes that wanted to be woken by now.
    fn due(&self) -> impl Iterator<Item = Place> {
        let due = |place: &Place| {
            self.processes[*place].deadline().is_some_and(|deadline| deadline <= self.now)
        };
        (0..self.processes.len()).filter(due)
    }

    pub(super) fn hears(&self, place: Place) -> bool {
        self.processes.get(place).is_some_and(|process| process.life == Life::Running)
    }

    /// What ends the fault that a process suffers from.
    fn cure(&self, place: Place) -> Option<Move> {
        let process = &self.processes[place];
        match process.life {
            Life::Down => Some(Move::Restart(place)),
            Life::Paused => Some(Move::Resume(place)),
            Life::Running if process.is_mute || process.is_deaf => Some(Move::Mend(place)),
            Life::Running => None,
        }
    }

    /// A fault strikes who is whole. The voter that nobody knows counts only if it is to come.
    fn can_fail(&self, place: Place) -> bool {
        let process = &self.processes[place];
        let is_nobody = matches!(process.machine, Machine::Newcomer(_))
            && self.bounds.request != Request::ReplaceVoter;
        self.cure(place).is_none() && !is_nobody
    }
}
