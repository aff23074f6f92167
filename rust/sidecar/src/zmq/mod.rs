//! The ZeroMQ data plane: request-reply between unmodified libzmq peers, by key.
//!
//! Clients (REQ, DEALER, ROUTER) see a ROUTER, pods (REP, ROUTER, DEALER) see a DEALER. A request travels to its pod as
//! it came, behind one frame with its number; the reply comes back behind the same frame, which is how it finds its
//! client. What the frames mean is `hashroute_dataplane::zmtp`'s business; here are the sockets:
//!
//! - [`event_loop`]: one thread, one turn after the other;
//! - [`clients`] and [`pods`]: connections made, read, watched and lost;
//! - [`relay`]: the life of a request between them;
//! - [`writes`]: what has one writer, on its way to the owner; [`guarded`]: what a guard passes on.
mod client;
mod clients;
mod connection;
mod dispatch;
mod event_loop;
mod guarded;
mod link;
mod outbox;
mod pods;
mod refusal;
mod relay;
mod resolve;
mod writes;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use mio::Token;
use mio::net::TcpListener;

use self::event_loop::EventLoop;
use self::relay::Peer;
use crate::error::StartError;
use crate::quorum::WriteGuard;
use crate::settings::Untagged;
use crate::shared::Shared;
use crate::threads::Drain;

/// A socket that ZeroMQ clients can connect to; they wait until [`serve`] accepts them.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    bound: SocketAddr,
}

impl Listener {
    /// Listens on `tcp://host:port`, the value of the setting `key`. As with libzmq, `*` stands for every address of the machine, or for a free port.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`] if the address has another form or cannot be listened on.
    pub(crate) fn bind(key: &'static str, address: &str) -> Result<Self, StartError> {
        let listen = || {
            let (host, port) = parts(address)?;
            let bound = (host, port).to_socket_addrs()?.next();
            let bound = bound.ok_or_else(|| io::Error::other("the host name has no address"))?;
            let socket = TcpListener::bind(bound)?;
            let bound = socket.local_addr()?;
            Ok(Self { socket, bound })
        };
        listen().map_err(|source| StartError::listen(key, address, source))
    }

    /// The address really listened on.
    pub(crate) fn address(&self) -> String {
        format!("tcp://{}", self.bound)
    }
}

/// What a loop is for.
#[derive(Debug)]
pub(crate) enum Role {
    /// It routes requests to pods.
    Router,
    /// It stands in front of the service of its own pod.
    Guard {
        /// Decides on writes.
        guard: Arc<dyn WriteGuard>,
        /// What a write without a tag gets.
        untagged: Untagged,
        /// The address of the service.
        service: String,
    },
}

/// Serves the clients that connect to `listener` until it is told to drain and has finished.
///
/// Occupies its thread: the loop waits on its own event queue.
pub(crate) async fn serve(listener: Listener, shared: Arc<Shared>, role: Role, drain: Drain) {
    // Without an event queue nothing can be served; the loop's age then tells.
    if let Ok(mut event_loop) = EventLoop::new(listener.socket, shared, role) {
        event_loop.run(&drain);
    }
}

fn parts(address: &str) -> io::Result<(&str, u16)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "expected tcp://host:port");
    let (host, port) = address
        .strip_prefix("tcp://")
        .and_then(|authority| authority.rsplit_once(':'))
        .ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = if port == "*" { 0 } else { port.parse().map_err(|_| wrong())? };
    match host {
        "" => Err(wrong()),
        "*" => Ok(("0.0.0.0", port)),
        host => Ok((host, port)),
    }
}

const LISTENER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

/// The name of a connection in the event queue.
fn token(peer: Peer) -> Token {
    match peer {
        Peer::Client(key) => Token(key << 1),
        Peer::Link(key) => Token(key << 1 | 1),
    }
}

/// The connection with this name.
fn peer(token: Token) -> Peer {
    let key = token.0 >> 1;
    if token.0 & 1 == 0 { Peer::Client(key) } else { Peer::Link(key) }
}
