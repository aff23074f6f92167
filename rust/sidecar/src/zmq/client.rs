//! One client connection.
use std::time::Duration;

use super::connection::Connection;
use crate::metrics::GaugeGuard;

/// Names a client for as long as its requests may come back. Slots of the table are used again, serials are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientId {
    pub(super) key: usize,
    pub(super) serial: u64,
}

/// A client, and what it has to answer for.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: ClientId,
    pub(super) connection: Connection,
    /// Requests that wait for their answer.
    pub(super) in_flight: usize,
    /// The bytes of these requests.
    pub(super) in_flight_bytes: usize,
    /// Whether it is in the list of clients that are not read.
    pub(super) is_paused: bool,
    /// Until when the handshake must be over.
    pub(super) handshake_deadline: Duration,
    /// Counts the connection while it is open.
    pub(super) _open: GaugeGuard,
}

impl Client {
    /// Whether its next requests may be read.
    ///
    /// A client that does not take its replies, or that asks for more than its pods keep up with,
    /// waits in its own socket, as it would before a pod. Each bound may be passed by what one
    /// read brings, and what waits for a client by the replies to what it has in flight.
    pub(super) fn may_ask(&self) -> bool {
        self.in_flight < CLIENT_IN_FLIGHT_MAX
            && self.in_flight_bytes < CLIENT_IN_FLIGHT_BYTES_MAX
            && self.connection.outbox.waiting() < CLIENT_WAITING_BYTES_MAX
    }
}

/// Requests in flight beyond which no more are read from one client.
const CLIENT_IN_FLIGHT_MAX: usize = 4096;
/// Bytes of requests in flight beyond which no more are read from one client.
const CLIENT_IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// Replies that a client has not taken beyond which no more requests are read from it.
const CLIENT_WAITING_BYTES_MAX: usize = 1 << 20;
