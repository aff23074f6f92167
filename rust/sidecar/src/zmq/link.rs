//! The way to one pod: a connection that is made again whenever it is lost.
use std::time::Duration;

use hashroute_core::{PodId, PodIndex};
use hashroute_dataplane::zmtp::RequestId;

use super::connection::Connection;

/// A pod at one address, or the service behind a guard.
#[derive(Debug)]
pub(super) struct Link {
    /// None for the service behind a guard, which is no pod.
    pub(super) pod: Option<PodId>,
    /// As the view has it.
    pub(super) address: String,
    /// The pod in the present view; `None` once it left it or moved, and for a service.
    pub(super) index: Option<PodIndex>,
    /// Whether it is to be kept up; else it finishes what it has.
    pub(super) is_wanted: bool,
    /// Whether another link to the same pod has taken its place, and it stays only for the answers
    /// that may yet come.
    pub(super) is_superseded: bool,
    pub(super) state: LinkState,
    /// Requests that wait for the handshake.
    pub(super) waiting: Vec<RequestId>,
    /// Requests that wait here or at the pod.
    pub(super) in_flight: usize,
    /// Whether the pod has left a PING unanswered for too long.
    pub(super) is_silent: bool,
    /// When the next PING is due.
    pub(super) ping_at: Duration,
    /// How long to wait before the next attempt to connect.
    backoff: Duration,
}

/// How far the connection is.
#[derive(Debug)]
pub(super) enum LinkState {
    /// There is none until `retry_at`.
    Broken {
        /// When to try again.
        retry_at: Duration,
    },
    /// The name in the address is being looked up.
    Resolving {
        /// Since when.
        since: Duration,
    },
    /// The connection or the handshake is being made.
    Connecting {
        /// Since when.
        since: Duration,
        /// The connection.
        connection: Connection,
    },
    /// Messages may be exchanged.
    Ready {
        /// Since when.
        since: Duration,
        /// The connection.
        connection: Connection,
    },
}

/// What a link can do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Send it now.
    Send,
    /// Keep it until the handshake is over, which cannot take long.
    Wait,
    /// More than enough waits already to be written.
    Full,
    /// The pod cannot be reached at the moment.
    Unreachable,
}

impl Link {
    /// A link that has yet to connect.
    pub(super) fn new(pod: Option<PodId>, address: String) -> Self {
        Self {
            pod,
            address,
            index: None,
            is_wanted: true,
            is_superseded: false,
            state: LinkState::Broken { retry_at: Duration::ZERO },
            waiting: Vec::new(),
            in_flight: 0,
            is_silent: false,
            ping_at: Duration::ZERO,
            backoff: BACKOFF_MIN,
        }
    }

    /// Makes the link that takes this one's place at its pod; this one finishes what it has.
    pub(super) fn supersede(&mut self) -> Self {
        let mut next = Self::new(self.pod.clone(), self.address.clone());
        next.index = self.index.take();
        self.is_wanted = false;
        self.is_superseded = true;
        next
    }

    /// Says what to do with a request at `now`; `patience` is how long a connection may take.
    pub(super) fn admission(&self, now: Duration, patience: Duration) -> Admission {
        match &self.state {
            LinkState::Ready { connection, .. } => {
                if connection.outbox.waiting() < LINK_WAITING_BYTES_MAX {
                    Admission::Send
                } else {
                    Admission::Full
                }
            }
            LinkState::Connecting { since, .. } | LinkState::Resolving { since } => {
                if now.saturating_sub(*since) < patience {
                    Admission::Wait
                } else {
                    Admission::Unreachable
                }
            }
            LinkState::Broken { .. } => Admission::Unreachable,
        }
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Option<&Connection> {
        match &self.state {
            LinkState::Connecting { connection, .. } | LinkState::Ready { connection, .. } => {
                Some(connection)
            }
            LinkState::Broken { .. } | LinkState::Resolving { .. } => None,
        }
    }

    /// The connection, if there is one.
    pub(super) fn connection_mut(&mut self) -> Option<&mut Connection> {
        match &mut self.state {
            LinkState::Connecting { connection, .. } | LinkState::Ready { connection, .. } => {
                Some(connection)
            }
            LinkState::Broken { .. } | LinkState::Resolving { .. } => None,
        }
    }

    /// Notes that the handshake is over.
    pub(super) fn make_ready(&mut self, now: Duration) {
        let state = std::mem::replace(&mut self.state, LinkState::Broken { retry_at: now });
        self.state = match state {
            LinkState::Connecting { connection, .. } => LinkState::Ready { since: now, connection },
            other @ (LinkState::Broken { .. }
            | LinkState::Resolving { .. }
            | LinkState::Ready { .. }) => other,
        };
        self.is_silent = false;
        self.ping_at = now;
    }

    /// Gives the connection up; returns it, so that its counts can be read, and whether it was ready.
    ///
    /// The next attempt comes after 10 ms, and after twice as long each time that it fails, up to 500 ms.
    pub(super) fn break_off(&mut self, now: Duration) -> (Option<Connection>, bool) {
        let retry_at = now + self.backoff;
        let state = std::mem::replace(&mut self.state, LinkState::Broken { retry_at });
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        self.is_silent = false;
        match state {
            LinkState::Ready { since, connection } => {
                // A pod that hangs up again at once is not asked a hundred times a second.
                if now.saturating_sub(since) >= STEADY_AFTER {
                    self.backoff = BACKOFF_MIN;
                    self.state = LinkState::Broken { retry_at: now + BACKOFF_MIN };
                }
                (Some(connection), true)
            }
            LinkState::Connecting { connection, .. } => (Some(connection), false),
            LinkState::Broken { .. } | LinkState::Resolving { .. } => (None, false),
        }
    }

    /// Whether nothing is left to do for a pod that left the view.
    pub(super) fn is_finished(&self) -> bool {
        !self.is_wanted
            && self.in_flight == 0
            && self.connection().is_none_or(|connection| connection.outbox.waiting() == 0)
    }
}

const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A connection that stood this long was a good one.
const STEADY_AFTER: Duration = Duration::from_secs(1);
/// A pod that has so much to read gets no more requests until it has read some; they go to the
/// key's next preference. A few clients at their own bound are not enough to reach this one.
const LINK_WAITING_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link::new(PodId::new("pod-a").ok(), "tcp://127.0.0.1:1".to_owned())
    }

    #[test]
    fn attempts_to_connect_become_rarer_up_to_a_bound() {
        let mut link = link();
        let mut waits = Vec::new();
        for _ in 0..8 {
            link.state = LinkState::Resolving { since: Duration::ZERO };
            link.break_off(Duration::ZERO);
            let LinkState::Broken { retry_at } = link.state else { panic!("{:?}", link.state) };
            waits.push(retry_at.as_millis());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 500, 500]);
    }

    #[test]
    fn a_link_that_was_superseded_is_finished_when_it_has_nothing_in_flight() {
        let mut link = link();
        link.index = Some(PodIndex::new(3));
        link.in_flight = 1;
        let next = link.supersede();
        assert_eq!((link.index, next.index), (None, Some(PodIndex::new(3))));
        assert_eq!((&next.pod, &next.address), (&link.pod, &link.address));
        assert!(next.is_wanted && !next.is_superseded && !link.is_wanted && link.is_superseded);
        assert!(!link.is_finished(), "an answer may yet come");
        link.in_flight = 0;
        assert!(link.is_finished());
    }

    #[test]
    fn a_request_waits_for_a_connection_only_as_long_as_that_may_take() {
        let mut link = link();
        let patience = Duration::from_millis(150);
        assert_eq!(link.admission(Duration::ZERO, patience), Admission::Unreachable);
        link.state = LinkState::Resolving { since: Duration::from_secs(1) };
        assert_eq!(link.admission(Duration::from_millis(1_149), patience), Admission::Wait);
        assert_eq!(link.admission(Duration::from_millis(1_150), patience), Admission::Unreachable);
    }
}
