//! The addresses of pods, and how a socket to one is made.
use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use crate::grpc::Socket;

/// Connects to a pod at `host:port` (a name is resolved anew each time) or `unix:/path`.
///
/// A host that vanishes without a word is noticed by the kernel after `keepalive` and as long
/// again, so that no ping of ours has to disturb a server that counts them.
pub(crate) async fn connect(address: &str, keepalive: Duration) -> io::Result<Socket> {
    if let Some(path) = address.strip_prefix(UNIX_PREFIX) {
        return UnixStream::connect(path).await.map(Socket::Unix);
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = keepalive.max(KEEPALIVE_MIN);
    let probes = TcpKeepalive::new()
        .with_time(keepalive)
        .with_interval((keepalive / KEEPALIVE_PROBES).max(KEEPALIVE_MIN))
        .with_retries(KEEPALIVE_PROBES);
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(keepalive * 2))?;
    Ok(Socket::Tcp(stream))
}

const UNIX_PREFIX: &str = "unix:";
const KEEPALIVE_PROBES: u32 = 3;
/// The kernel counts in whole seconds and refuses 0.
const KEEPALIVE_MIN: Duration = Duration::from_secs(1);
