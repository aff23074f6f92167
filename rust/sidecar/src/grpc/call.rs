//! One request, from its head to the end of its answer.
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use hashroute_core::Slot;
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::grpc::Status;
use hashroute_dataplane::key::{Body, KeyLookup, KeySearch, RequestHead};
use hashroute_dataplane::retry::Attempts;
use hashroute_dataplane::route::{OnMissing, Route};
use http::Request;

use super::body::RequestBody;
use super::deadline::Deadline;
use super::exchange::status_of_reset;
use super::gateway::{Gateway, Table};
use super::head::{Head, RouteNote};
use super::key_search::{Interrupted, search_body};
use super::reply::{CallerGone, ErrorReply, Reply};
use crate::metrics::Counter;

/// Serves one request.
pub(super) async fn run(
    gateway: Rc<Gateway>,
    peer: Rc<str>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let clock = gateway.shared.clock;
    let metrics = &gateway.shared.metrics.grpc;
    let _panics = PanicCount(&metrics.panics);
    let started = clock.now();
    let mut reply = Reply::new(respond);
    let limit = u64::from(gateway.shared.limits.requests_max);
    let ended = if let Some(_counted) = metrics.requests.enter_below(limit) {
        Call::new(&gateway, peer, request, &mut reply).run().await
    } else {
        metrics.refused.increment();
        let text = format!("the sidecar has limits.requests_max = {limit} requests in hand");
        Err(Failed::early(ErrorCode::ResourceExhausted, text))
    };
    let status = ended.unwrap_or_else(|failed| failed.tell(&mut reply));
    metrics.statuses[usize::from(status.code())].increment();
    metrics.latency.record(clock.now().saturating_sub(started));
}

/// Why a request did not end with the answer of a pod.
#[derive(Debug)]
pub(super) enum Failed {
    CallerGone,
    Error(ErrorReply),
    /// The pod broke its answer off with this code.
    Reset(Reason),
}

impl Failed {
    /// An error before anything was sent to a pod.
    fn early(code: ErrorCode, text: String) -> Self {
        Self::error(code, Outcome::NotApplied, text)
    }

    pub(super) fn error(code: ErrorCode, outcome: Outcome, text: String) -> Self {
        Self::Error(ErrorReply { status: code.status(), outcome, text })
    }

    /// Tells the caller; returns the status that it was told.
    fn tell(self, reply: &mut Reply) -> Status {
        match self {
            Self::CallerGone => Status::Cancelled,
            Self::Error(error) => match reply.fail(&error) {
                Ok(()) => error.status,
                Err(CallerGone) => Status::Cancelled,
            },
            Self::Reset(reason) => {
                reply.reset(reason);
                status_of_reset(reason)
            }
        }
    }
}

/// A request on its way.
pub(super) struct Call<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) table: Rc<Table>,
    pub(super) head: Head,
    pub(super) body: RequestBody,
    pub(super) reply: &'a mut Reply,
    pub(super) deadline: Deadline,
    pub(super) attempts: Attempts,
}

impl<'a> Call<'a> {
    fn new(
        gateway: &'a Gateway,
        peer: Rc<str>,
        request: Request<RecvStream>,
        reply: &'a mut Reply,
    ) -> Self {
        let table = gateway.table();
        let (parts, body) = request.into_parts();
        Self {
            gateway,
            head: Head::new(parts, peer),
            body: RequestBody::new(body, table.routing.retry.buffer_bytes),
            reply,
            deadline: Deadline::after(None),
            attempts: Attempts::new(false, 1),
            table,
        }
    }

    async fn run(mut self) -> Result<Status, Failed> {
        let table = Rc::clone(&self.table);
        let routing = &table.routing;
        let (bytes, limit) =
            (self.head.header_list_bytes(), self.gateway.shared.limits.header_list_bytes);
        if bytes > limit as usize {
            let text =
                format!("the metadata has {bytes} bytes, limits.header_list_bytes is {limit}");
            return Err(Failed::early(ErrorCode::ResourceExhausted, text));
        }
        let timeout = self.head.timeout();
        let timeout =
            timeout.map_err(|error| Failed::early(ErrorCode::Malformed, error.to_string()))?;
        self.deadline = Deadline::after(timeout);
        let route = routing.routes.find(self.head.path());
        let slot = self.find_slot(route).await?;
        self.head.note(RouteNote { slot, term: routing.term(slot), epoch: &table.epoch });
        self.attempts = Attempts::new(route.idempotent, routing.retry.attempts_max);
        routing.grpc_side.budget.deposit();
        self.try_pods(slot).await
    }

    /// Finds the slot of the request's key, or one for a request without a key.
    async fn find_slot(&mut self, route: &Route) -> Result<Slot, Failed> {
        let table = Rc::clone(&self.table);
        let ring = &table.routing.ring;
        let mut search = KeySearch::new(&route.sources);
        let found = match search.advance(&self.head, Body::Unread) {
            KeyLookup::Found(key) => Ok(ring.slot(key.as_bytes())),
            KeyLookup::Missing(missing) => Err(missing),
            KeyLookup::NeedsBody { .. } => {
                let bytes_max = search_bytes_max(self.gateway, &table);
                let (head, body, deadline) = (&self.head, &mut self.body, &mut self.deadline);
                search_body(search, head, body, deadline, ring, bytes_max).await?
            }
        };
        match (found, route.on_missing) {
            (Ok(slot), _) => Ok(slot),
            (Err(_), OnMissing::Any) => Ok(table.routing.grpc_side.fleet.any_slot()),
            (Err(missing), OnMissing::Reject) => {
                Err(Failed::early(ErrorCode::MissingKey, missing.to_string()))
            }
        }
    }
}

impl From<Interrupted> for Failed {
    fn from(interrupted: Interrupted) -> Self {
        match interrupted {
            Interrupted::CallerGone => Self::CallerGone,
            Interrupted::DeadlinePassed => {
                let text = "the deadline passed while the request's key was looked for".to_owned();
                Self::early(ErrorCode::DeadlineExceeded, text)
            }
        }
    }
}

/// Counts a panic that unwinds past it. The runtime contains the panic; the count makes the defect
/// visible.
struct PanicCount<'a>(&'a Counter);

impl Drop for PanicCount<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.increment();
        }
    }
}

/// How far a body is searched for a key: as far as it may be held back anyway.
fn search_bytes_max(gateway: &Gateway, table: &Table) -> usize {
    table.routing.retry.buffer_bytes.max(gateway.shared.limits.stream_window_bytes as usize)
}
