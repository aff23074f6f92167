//! The end of a process in good order.
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hashroute_coordination::Member;

use crate::clock;

use super::{Shell, VoterPart};

/// How far the end is.
#[derive(Debug)]
pub(crate) struct Stopping {
    phase: Phase,
    reply: SyncSender<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Writes under way end by themselves, until then.
    Waiting { until: Duration },
    /// What was said last is on its way to the voters, until then.
    HungUp { until: Duration },
}

impl Stopping {
    pub(super) fn deadline(&self) -> Duration {
        match self.phase {
            Phase::Waiting { until } | Phase::HungUp { until } => until,
        }
    }
}

impl Shell {
    /// Admits nothing more, and ends when nothing is under way.
    pub(super) fn stop(&mut self, grace: Duration, reply: SyncSender<bool>) {
        self.shared.gate.close();
        let phase = Phase::Waiting { until: clock::now() + grace };
        self.stopping = Some(Stopping { phase, reply });
    }

    /// Returns whether it is over.
    pub(super) fn go_on_stopping(&mut self, now: Duration) -> bool {
        let Some(phase) = self.stopping.as_ref().map(|stopping| stopping.phase) else {
            return false;
        };
        match phase {
            Phase::Waiting { .. } if self.shared.gate.is_idle() => {
                self.with_member(|member: &mut Member, _, _| member.renounce());
                self.deliver();
                self.links.hang_up();
                if let Some(stopping) = &mut self.stopping {
                    stopping.phase = Phase::HungUp { until: now + FLUSH_MOST };
                }
                false
            }
            Phase::Waiting { until } if now >= until => self.is_over(false),
            Phase::Waiting { .. } => false,
            Phase::HungUp { until } => {
                let settled = self.voter.as_ref().is_none_or(VoterPart::is_settled);
                let done = (self.links.are_closed() && settled) || now >= until;
                done && self.is_over(true)
            }
        }
    }

    fn is_over(&mut self, in_time: bool) -> bool {
        if let Some(stopping) = self.stopping.take() {
            let _ = stopping.reply.try_send(in_time);
        }
        true
    }
}

/// Voters that do not take the last word within this hear that the lease has run out instead.
const FLUSH_MOST: Duration = Duration::from_millis(500);
