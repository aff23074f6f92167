//! The way to one pod: its connections, kept up as long as the pod is in the view.
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use hashroute_core::PodId;
use hashroute_dataplane::health::Event;
use http::Request;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::connection::{STREAMS_MAX, connection_window, send_buffer};
use super::socket::BatchedSocket;
use crate::address::connect;
use crate::settings::LimitSettings;
use crate::shared::Shared;

/// The connections to one pod.
#[derive(Debug)]
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    /// Whose health is judged by what these connections meet; nobody's for the service behind a
    /// guard.
    id: Option<PodId>,
    address: String,
    links: RefCell<Vec<Link>>,
    link_ids: Cell<u64>,
    /// Whether the last attempt to connect failed.
    is_failing: Cell<bool>,
    /// How many attempts to connect have failed.
    failures: Cell<u64>,
    is_retired: Cell<bool>,
    /// Wakes the keeper: a connection is missing.
    wanted: Notify,
    /// Wakes the keeper from its pause after a failure.
    urged: Notify,
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
    /// False once it was seen that it has ended.
    takes_requests: bool,
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
    pub(crate) counted: StreamCount,
}

/// What a request does at a pod to which the last attempt to connect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It goes elsewhere.
    None,
    /// It waits for the next attempt, whenever that is due.
    ForNext,
    /// The pod has since been seen alive: it has an attempt made now, and waits for that.
    ForOneNow,
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
        // There is room for one request that waits for it.
        self.changed.notify_one();
    }
}

impl Upstream {
    /// Starts to keep a connection to the pod.
    pub(crate) fn start(shared: Arc<Shared>, id: Option<PodId>, address: String) -> Rc<Self> {
        let upstream = Rc::new(Self {
            shared,
            id,
            address,
            links: RefCell::default(),
            link_ids: Cell::default(),
            is_failing: Cell::default(),
            failures: Cell::default(),
            is_retired: Cell::default(),
            wanted: Notify::new(),
            urged: Notify::new(),
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
        self.urged.notify_one();
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

    /// Opens a stream for the request that `head` makes, as soon as there is a connection with room
    /// for it. If the last attempt to connect failed, `patience` says what then.
    pub(crate) async fn open(
        &self,
        head: impl Fn() -> Request<()>,
        is_end: bool,
        patience: Patience,
    ) -> Result<Opened, NotOpened> {
        let failures = self.failures.get();
        loop {
            if let Some(opened) = self.try_open(&head, is_end)? {
                return Ok(opened);
            }
            let has_waited = self.failures.get() != failures;
            let has_patience = !has_waited && patience != Patience::None;
            if self.is_retired.get() || (self.is_failing.get() && !has_patience) {
                return Err(NotOpened::Unreachable);
            }
            if patience == Patience::ForOneNow {
                self.urged.notify_one();
            }
            self.wanted.notify_one();
            self.changed.notified().await;
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
        }
        Ok(None)
    }

    /// Whether the keeper is to connect: there is no connection, or all are full and another is
    /// allowed.
    fn wants_link(&self) -> bool {
        let mut links = self.links.borrow_mut();
        let mut open = 0;
        for link in links.iter_mut().filter_map(|link| (!link.has_ended()).then_some(&*link)) {
            if link.has_room() {
                return false;
            }
            open += 1;
        }
        open < LINKS_MAX
    }

    /// Forgets a connection that ended. Returns whether the pod had said so before.
    fn remove_link(&self, id: u64) -> bool {
        let mut links = self.links.borrow_mut();
        let Some(index) = links.iter().position(|link| link.id == id) else { return false };
        links.swap_remove(index).said_goodbye()
    }

    fn report(&self, event: Event) {
        let Some(id) = &self.id else { return };
        let routing = self.shared.routing.load();
        if let Some(pod) = routing.ring.view().index_of(id.as_str()) {
            let fleet = &routing.grpc_side.fleet;
            self.shared.note(fleet.observe(pod, self.shared.clock.now(), event));
        }
    }
}

impl Link {
    fn has_room(&self) -> bool {
        let limit = self.sender.current_max_send_streams().min(STREAMS_MAX_USIZE);
        self.takes_requests && self.streams.get() < limit
    }

    /// Whether it takes no request any more: broken, said goodbye, or out of stream numbers.
    fn has_ended(&mut self) -> bool {
        self.takes_requests &= !matches!(self.poll_ready(), Poll::Ready(Err(_)));
        !self.takes_requests
    }

    fn said_goodbye(&mut self) -> bool {
        let ready = self.poll_ready();
        matches!(ready, Poll::Ready(Err(error)) if error.is_go_away() && error.is_remote())
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
                upstream.failures.set(upstream.failures.get() + 1);
                upstream.report(Event::ConnectionRefused);
                upstream.changed.notify_waiters();
                let _woken = timeout(backoff, upstream.urged.notified()).await;
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Connects, and waits for the pod's settings: a process that stands still gets its connections
/// from the kernel, but not its settings from them.
async fn establish(upstream: &Rc<Upstream>) -> Result<(), Box<dyn std::error::Error>> {
    let limits = upstream.shared.limits;
    let socket = connect(&upstream.address, limits.keepalive).await?;
    let socket = BatchedSocket::new(socket, Bytes::new());
    let (sender, connection) = client_builder(&limits).handshake(socket.clone()).await?;
    let mut driver = Driver { connection, socket };
    poll_fn(|cx| driver.poll_settled(cx)).await?;
    let id = upstream.link_ids.get();
    upstream.link_ids.set(id + 1);
    let link = Link { id, sender, streams: Rc::default(), takes_requests: true };
    upstream.links.borrow_mut().push(link);
    spawn_local(drive(Rc::clone(upstream), id, driver));
    Ok(())
}

/// Moves the bytes of one connection until it ends.
async fn drive(upstream: Rc<Upstream>, id: u64, mut driver: Driver) {
    let ended = poll_fn(|cx| driver.poll(cx)).await;
    let is_announced = upstream.remove_link(id);
    if (ended.is_err() || !is_announced) && !upstream.is_retired.get() {
        upstream.report(Event::ConnectionLost);
    }
    upstream.wanted.notify_one();
}

/// What moves the bytes of one connection.
struct Driver {
    connection: Connection<BatchedSocket, Bytes>,
    socket: BatchedSocket,
}

impl Driver {
    /// Ready when the connection ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            let ended = Pin::new(&mut self.connection).poll(cx);
            match self.socket.poll_send(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false) | Err(_)) | Poll::Pending => return ended,
            }
        }
    }

    /// Ready when the pod's settings have come, or never will.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        match self.poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(Reason::NO_ERROR.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if self.connection.max_concurrent_send_streams() > 0 => {
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

fn client_builder(limits: &LimitSettings) -> Builder {
    let window = connection_window(limits.stream_window_bytes, STREAMS_MAX);
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // None before the pod has said how many.
        .initial_max_send_streams(0)
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
