//! One connection from a client: from its first byte to its last.
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::call;
use super::gateway::Gateway;
use super::keepalive::{Keepalive, Silence};
use super::sniff::{Speaks, refuse_http1, sniff};
use super::socket::{BatchedSocket, Socket};
use crate::metrics::GaugeGuard;
use crate::settings::LimitSettings;
use crate::threads::Drain;

/// Serves one connection until it ends, or until it is drained: then it takes no new request, says
/// so, and ends with its last one.
pub(crate) async fn serve(
    gateway: Rc<Gateway>,
    mut stream: TcpStream,
    peer: Rc<str>,
    mut drain: Drain,
    _counted: GaugeGuard,
) {
    let limits = gateway.shared.limits;
    let refused = &gateway.metrics().refused;
    let first = tokio::select! {
        first = timeout(limits.handshake_timeout, sniff(&mut stream)) => first,
        () = drain.requested() => return,
    };
    let prefix = match first {
        Ok(Some((Speaks::Http2, prefix))) => prefix,
        Ok(Some((Speaks::Http1, _))) => {
            refused.increment();
            return refuse_http1(stream, limits.handshake_timeout).await;
        }
        // A peer that left before it said anything was looking whether the port is open.
        Ok(None) => return,
        Ok(Some((Speaks::Tls | Speaks::Unknown, _))) | Err(_) => return refused.increment(),
    };
    // Without it, small frames would wait for the peer's delayed acknowledgements. It fails only on
    // a dead socket.
    let _dead = stream.set_nodelay(true);
    let socket = BatchedSocket::new(Socket::Tcp(stream), prefix);
    let handshake = server_builder(&limits).handshake::<_, Bytes>(socket.clone());
    let Ok(Ok(mut connection)) = timeout(limits.handshake_timeout, handshake).await else {
        return refused.increment();
    };
    let keepalive = Keepalive::new(limits.keepalive, connection.ping_pong());
    let driver = Driver { gateway, connection, socket, peer, keepalive };
    driver.run(drain).await;
}

/// Moves the bytes of a connection and starts a task for each request.
struct Driver {
    gateway: Rc<Gateway>,
    connection: server::Connection<BatchedSocket, Bytes>,
    socket: BatchedSocket,
    peer: Rc<str>,
    keepalive: Keepalive,
}

/// Why [`Driver::poll`] has nothing left to do.
struct Ended;

impl Driver {
    async fn run(mut self, mut drain: Drain) {
        let drained = tokio::select! {
            Ended = poll_fn(|cx| self.poll(cx)) => false,
            () = drain.requested() => true,
        };
        if drained {
            self.connection.graceful_shutdown();
            let Ended = poll_fn(|cx| self.poll(cx)).await;
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            let accepted = self.connection.poll_accept(cx);
            if let Poll::Ready(Some(Ok((request, respond)))) = accepted {
                spawn_local(call::serve(&self.gateway, &self.peer, request, respond));
                continue;
            }
            match self.socket.poll_send(cx) {
                Poll::Ready(Ok(true)) => continue,
                // An error of the socket shows to its reader as well, which ends the connection in
                // order.
                Poll::Ready(Ok(false) | Err(_)) | Poll::Pending => {}
            }
            if accepted.is_ready() {
                return Poll::Ready(Ended);
            }
            match self.keepalive.poll(cx, || self.socket.bytes_read()) {
                Poll::Ready(Silence::Dead) => return Poll::Ready(Ended),
                Poll::Ready(Silence::Tolerable) => self.socket.trim(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// A stream may hold its window of unread bytes, and the connection those of all its streams: so a
/// stream whose pod reads slowly never takes credit from the others.
fn server_builder(limits: &LimitSettings) -> server::Builder {
    let streams = limits.requests_max.min(STREAMS_MAX);
    let mut builder = server::Builder::new();
    builder
        // Beyond its own limit h2 answers in HTTP's words; up to there the call answers in gRPC's.
        .max_header_list_size(limits.header_list_bytes.saturating_mul(HEADER_LIST_SLACK))
        .max_concurrent_streams(streams)
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(connection_window(limits.stream_window_bytes, streams))
        .max_send_buffer_size(send_buffer(limits))
        .max_concurrent_reset_streams(RESET_STREAMS_MAX);
    builder
}

/// The window of a connection whose every stream may hold `stream_window` bytes.
pub(super) fn connection_window(stream_window: u32, streams: u32) -> u32 {
    stream_window.saturating_mul(streams).clamp(MIN_CONNECTION_WINDOW, MAX_WINDOW)
}

/// How much of one stream h2 may hold for a peer that does not read: as much as the other side may
/// have sent.
pub(super) fn send_buffer(limits: &LimitSettings) -> usize {
    usize::try_from(limits.stream_window_bytes).unwrap_or(usize::MAX)
}

/// The most requests that one client connection may have open; more wait in the client.
pub(super) const STREAMS_MAX: u32 = 1024;
/// Streams that we reset and of which frames may still arrive.
const RESET_STREAMS_MAX: usize = 256;
/// How far above `limits.header_list_bytes` a list of headers may be and still be read, to be
/// refused.
const HEADER_LIST_SLACK: u32 = 4;
/// Every connection begins with this window, by the protocol.
const MIN_CONNECTION_WINDOW: u32 = 65_535;
/// The largest window of the protocol.
const MAX_WINDOW: u32 = (1 << 31) - 1;
