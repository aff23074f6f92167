//! The way to one pod: its connections, kept up as long as the pod is in the view.
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use hashroute_core::PodId;
use hashroute_dataplane::health::Event;
use http::Request;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use super::connection::{STREAMS_MAX, connection_window, send_buffer};
use super::socket::BatchedSocket;
use crate::address::connect;
use crate::settings::LimitSettings;
use crate::shared::Shared;

/// The connections to one pod.
#[derive(Debug)]
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    id: PodId,
    address: String,
    links: RefCell<Vec<Link>>,
    link_ids: Cell<u64>,
    /// Whether the last attempt to connect failed and none has succeeded since.
    is_failing: Cell<bool>,
    is_retired: Cell<bool>,
    /// Wakes the keeper: a connection is missing.
    wanted: Notify,
    /// Wakes requests that wait for a connection or for room on one.
    changed: Rc<Notify>,
    /// Wakes requests when the pod was found down.
    down: Notify,
}

/// One connection that takes requests.
#[derive(Debug)]
struct Link {
    id: u64,
    sender: SendRequest<Bytes>,
    streams: Rc<Cell<usize>>,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
    pub(crate) counted: StreamCount,
}

/// Why no stream was opened. Nothing of the request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// There is no connection to the pod.
    Unreachable,
    /// The request cannot be written as HTTP/2.
    Unsendable,
}

/// Counts a stream of a connection until dropped.
#[derive(Debug)]
pub(crate) struct StreamCount {
    streams: Rc<Cell<usize>>,
    changed: Rc<Notify>,
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.streams.set(self.streams.get() - 1);
        // Costs a load unless a request waits for the room.
        self.changed.notify_waiters();
    }
}

impl Upstream {
    /// Starts to keep a connection to the pod.
    pub(crate) fn start(shared: Arc<Shared>, id: PodId, address: String) -> Rc<Self> {
        let upstream = Rc::new(Self {
            shared,
            id,
            address,
            links: RefCell::default(),
            link_ids: Cell::default(),
            is_failing: Cell::default(),
            is_retired: Cell::default(),
            wanted: Notify::new(),
            changed: Rc::default(),
            down: Notify::new(),
        });
        spawn_local(keep(Rc::clone(&upstream)));
        upstream
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Makes no new connection any more; streams that are open go on to their end.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
        self.links.borrow_mut().clear();
        self.wanted.notify_one();
        self.changed.notify_waiters();
    }

    /// Tells the requests that wait for this pod that it was found down.
    pub(crate) fn announce_down(&self) {
        self.down.notify_waiters();
        self.changed.notify_waiters();
    }

    /// Returns once the pod was found down.
    pub(crate) async fn found_down(&self) {
        self.down.notified().await;
    }

    /// Opens a stream for the request that `head` makes, as soon as there is a connection with room for it.
    ///
    /// An `is_patient` request also waits for the next attempt to connect if the last one failed; others give up
    /// at once.
    pub(crate) async fn open(
        &self,
        head: impl Fn() -> Request<()>,
        is_end: bool,
        is_patient: bool,
    ) -> Result<Opened, NotOpened> {
        let mut patience = is_patient;
        loop {
            if let Some(opened) = self.try_open(&head, is_end)? {
                return Ok(opened);
            }
            if self.is_retired.get() || (self.is_failing.get() && !patience) {
                return Err(NotOpened::Unreachable);
            }
            self.wanted.notify_one();
            self.changed.notified().await;
            patience = false;
        }
    }

    /// Opens a stream if there is a connection with room for it.
    pub(super) fn try_open(
        &self,
        head: impl Fn() -> Request<()>,
        is_end: bool,
    ) -> Result<Option<Opened>, NotOpened> {
        let mut links = self.links.borrow_mut();
        while let Some(index) = links.iter().position(Link::has_room) {
            let link = &mut links[index];
            if let Ok((response, body)) = link.sender.send_request(head(), is_end) {
                link.streams.set(link.streams.get() + 1);
                let streams = Rc::clone(&link.streams);
                let counted = StreamCount { streams, changed: Rc::clone(&self.changed) };
                return Ok(Some(Opened { response, body, counted }));
            }
            if !link.has_ended() {
                return Err(NotOpened::Unsendable);
            }
            links.remove(index);
        }
        Ok(None)
    }

    /// Whether the keeper is to connect: there is no connection, or all are full and another is allowed.
    fn wants_link(&self) -> bool {
        let mut links = self.links.borrow_mut();
        links.retain_mut(|link| !link.has_ended());
        links.len() < LINKS_MAX && !links.iter().any(Link::has_room)
    }

    fn add_link(&self, sender: SendRequest<Bytes>) -> u64 {
        let id = self.link_ids.get();
        self.link_ids.set(id + 1);
        self.links.borrow_mut().push(Link { id, sender, streams: Rc::default() });
        id
    }

    /// Forgets a connection that ended. Returns whether it ended without a farewell.
    fn remove_link(&self, id: u64) -> bool {
        let mut links = self.links.borrow_mut();
        let Some(index) = links.iter().position(|link| link.id == id) else { return false };
        let mut link = links.swap_remove(index);
        !link.said_goodbye()
    }

    fn report(&self, event: Event) {
        let routing = self.shared.routing.load();
        if let Some(pod) = routing.ring.view().index_of(self.id.as_str()) {
            let fleet = &routing.grpc_side.fleet;
            self.shared.note(fleet.observe(pod, self.shared.clock.now(), event));
        }
    }
}

impl Link {
    fn has_room(&self) -> bool {
        self.streams.get() < self.sender.current_max_send_streams().min(STREAMS_MAX_USIZE)
    }

    /// Whether it takes no new stream any more: broken, said goodbye, or out of stream numbers.
    fn has_ended(&mut self) -> bool {
        matches!(self.poll_ready(), Poll::Ready(Err(_)))
    }

    fn said_goodbye(&mut self) -> bool {
        matches!(self.poll_ready(), Poll::Ready(Err(error)) if error.is_go_away() && error.is_remote())
    }

    fn poll_ready(&mut self) -> Poll<Result<(), h2::Error>> {
        self.sender.poll_ready(&mut Context::from_waker(Waker::noop()))
    }
}

/// Keeps a connection to the pod until it is retired.
async fn keep(upstream: Rc<Upstream>) {
    let mut backoff = BACKOFF_MIN;
    while !upstream.is_retired.get() {
        if !upstream.wants_link() {
            upstream.wanted.notified().await;
            continue;
        }
        match timeout(CONNECT_TIMEOUT, establish(&upstream)).await {
            Ok(Ok(())) => {
                upstream.is_failing.set(false);
                backoff = BACKOFF_MIN;
                upstream.changed.notify_waiters();
            }
            Ok(Err(_)) | Err(_) => {
                upstream.is_failing.set(true);
                upstream.report(Event::ConnectionRefused);
                upstream.changed.notify_waiters();
                sleep(backoff).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

async fn establish(upstream: &Rc<Upstream>) -> Result<(), Box<dyn std::error::Error>> {
    let limits = upstream.shared.limits;
    let socket = connect(&upstream.address, limits.keepalive).await?;
    let socket = BatchedSocket::new(socket, Bytes::new());
    let (sender, connection) = client_builder(&limits).handshake(socket.clone()).await?;
    let id = upstream.add_link(sender);
    spawn_local(drive(Rc::clone(upstream), id, connection, socket));
    Ok(())
}

/// Moves the bytes of one connection until it ends.
async fn drive(
    upstream: Rc<Upstream>,
    id: u64,
    mut connection: Connection<BatchedSocket, Bytes>,
    socket: BatchedSocket,
) {
    let broken = poll_fn(|cx| poll_drive(&mut connection, &socket, cx)).await;
    let unannounced = upstream.remove_link(id);
    if (broken || unannounced) && !upstream.is_retired.get() {
        upstream.report(Event::ConnectionLost);
    }
    // After the report: a request that is woken by the end of its stream finds the pod judged already.
    drop(connection);
    upstream.wanted.notify_one();
}

/// Ready when the connection ended, with whether that was an error.
fn poll_drive(
    connection: &mut Connection<BatchedSocket, Bytes>,
    socket: &BatchedSocket,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    loop {
        let ended = Pin::new(&mut *connection).poll(cx);
        match socket.poll_send(cx) {
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Ok(false) | Err(_)) | Poll::Pending => {
                return ended.map(|result| result.is_err());
            }
        }
    }
}

fn client_builder(limits: &LimitSettings) -> Builder {
    let window = connection_window(limits.stream_window_bytes, STREAMS_MAX);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(window)
        .max_header_list_size(limits.header_list_bytes)
        .max_send_buffer_size(send_buffer(limits))
        .max_concurrent_reset_streams(RESET_STREAMS_MAX);
    builder
}

/// Connections to one pod, at most: each carries up to what the pod allows, often 100 and more.
const LINKS_MAX: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Streams that were cancelled and of which frames may still arrive.
const RESET_STREAMS_MAX: usize = 1024;
const STREAMS_MAX_USIZE: usize = STREAMS_MAX as usize;
