//! The socket that gRPC clients connect to.
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::StartError;

/// A socket that listens, not yet tied to an event loop.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: StdListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens at `host:port`, the value of the setting `key`. Port 0 lets the system choose.
    pub(crate) fn bind(key: &'static str, address: &str) -> Result<Self, StartError> {
        listen(address).map_err(|source| StartError::listen(key, address, source))
    }

    /// The address really listened on.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ties the socket to the event loop of this thread.
    pub(crate) fn into_async(self) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.socket)
    }
}

fn listen(address: &str) -> io::Result<Listener> {
    let wanted = address.to_socket_addrs()?.next().ok_or_else(|| {
        io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of that name")
    })?;
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted sidecar must not wait for the connections of its predecessor to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&wanted.into())?;
    socket.listen(BACKLOG)?;
    let socket = StdListener::from(socket);
    let address = socket.local_addr()?;
    Ok(Listener { socket, address })
}

const BACKLOG: i32 = 1024;
