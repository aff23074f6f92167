//! One request, from its head to the end of its answer.
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use hashroute_core::{Epoch, Slot, hash_key};
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::grpc::Status;
use hashroute_dataplane::key::{Body, KeyLookup, KeySearch, MissingKey, RequestHead};
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
use crate::metrics::GaugeGuard;

/// Takes a request; the future serves it. (What is done before the future begins need not be
/// carried, or copied, into its task.)
pub(super) fn serve(
    gateway: &Rc<Gateway>,
    peer: &Rc<str>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> + 'static {
    let mut call = Call::new(gateway, peer, request, respond);
    async move {
        let ended = call.run().await;
        let status = ended.unwrap_or_else(|failed| failed.tell(&mut call.reply));
        call.count(status);
    }
}

/// Why a request did not end with the answer of a pod.
#[derive(Debug)]
pub(super) enum Failed {
    CallerGone,
    Error(ErrorReply),
    /// A guard, whose record is of this epoch, does not admit the write.
    Refused(ErrorReply, Epoch),
    /// The pod broke its answer off with this code.
    Reset(Reason),
}

impl Failed {
    /// An error before anything was sent to a pod.
    pub(super) fn early(code: ErrorCode, text: String) -> Self {
        Self::error(code, Outcome::NotApplied, text)
    }

    pub(super) fn error(code: ErrorCode, outcome: Outcome, text: String) -> Self {
        Self::Error(ErrorReply { status: code.status(), outcome, refusal: None, text })
    }

    /// Tells the caller; returns the status that it was told.
    fn tell(self, reply: &mut Reply) -> Status {
        match self {
            Self::CallerGone => Status::Cancelled,
            Self::Error(error) => match reply.fail(&error) {
                Ok(()) => error.status,
                Err(CallerGone) => Status::Cancelled,
            },
            Self::Refused(error, epoch) => match reply.refuse(&error, epoch) {
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
pub(super) struct Call {
    pub(super) gateway: Rc<Gateway>,
    pub(super) table: Rc<Table>,
    pub(super) head: Head,
    pub(super) body: RequestBody,
    pub(super) reply: Reply,
    pub(super) deadline: Deadline,
    pub(super) attempts: Attempts,
    started: Duration,
    /// None if there are as many requests in hand as there may be.
    counted: Option<GaugeGuard>,
}

impl Call {
    fn new(
        gateway: &Rc<Gateway>,
        peer: &Rc<str>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let table = gateway.table();
        let limits = &gateway.shared.limits;
        let (parts, body) = request.into_parts();
        Self {
            gateway: Rc::clone(gateway),
            head: Head::new(parts, Rc::clone(peer)),
            body: RequestBody::new(body, table.routing.rules.retry.buffer_bytes),
            reply: Reply::new(respond),
            deadline: Deadline::after(None),
            attempts: Attempts::new(false, 1),
            started: gateway.shared.clock.now(),
            counted: gateway.metrics().requests.enter_below(u64::from(limits.requests_max)),
            table,
        }
    }

    async fn run(&mut self) -> Result<Status, Failed> {
        self.check_limits()?;
        let timeout = self.head.timeout();
        let timeout =
            timeout.map_err(|error| Failed::early(ErrorCode::Malformed, error.to_string()))?;
        self.deadline = Deadline::after(timeout);
        let table = Rc::clone(&self.table);
        let routing = &table.routing;
        let route = routing.rules.routes.find(self.head.path());
        let gateway = Rc::clone(&self.gateway);
        if let Some(door) = &gateway.door {
            // Boxed, like what follows, because it would make room for itself in every request.
            return Box::pin(self.pass_guard(door, route)).await;
        }
        if let (Some(writes), Some(_)) = (&route.writes, &self.gateway.shared.quorum) {
            return Box::pin(self.write(route, writes)).await;
        }
        let slot = self.find_slot(route).await?;
        self.head.note(RouteNote { slot, term: routing.term(slot), epoch: &table.epoch });
        if self.gateway.shared.quorum.is_some() {
            self.note_read();
        }
        self.attempts = Attempts::new(route.idempotent, routing.rules.retry.attempts_max);
        routing.grpc_side.budget.deposit();
        self.try_pods(slot).await
    }

    /// Marks a read that is routed by what may be old.
    fn note_read(&mut self) {
        let shared = &self.gateway.shared;
        let is_stale = shared.is_stale();
        if is_stale {
            shared.metrics.writes.stale.increment();
        }
        self.head.note_read(is_stale);
    }

    fn check_limits(&self) -> Result<(), Failed> {
        let limits = &self.gateway.shared.limits;
        if self.counted.is_none() {
            self.gateway.metrics().refused.increment();
            let limit = limits.requests_max;
            let text = format!("the sidecar has limits.requests_max = {limit} requests in hand");
            return Err(Failed::early(ErrorCode::ResourceExhausted, text));
        }
        let (bytes, limit) = (self.head.header_list_bytes(), limits.header_list_bytes);
        if bytes > limit as usize {
            let text =
                format!("the metadata has {bytes} bytes, limits.header_list_bytes is {limit}");
            return Err(Failed::early(ErrorCode::ResourceExhausted, text));
        }
        Ok(())
    }

    /// Counts a request that ended.
    fn count(&self, status: Status) {
        let metrics = self.gateway.metrics();
        metrics.statuses[usize::from(status.code())].increment();
        let elapsed = self.gateway.shared.clock.now().saturating_sub(self.started);
        metrics.latency.record(elapsed);
    }

    /// Finds the slot of the request's key, or one for a request without a key.
    async fn find_slot(&mut self, route: &Route) -> Result<Slot, Failed> {
        let table = Rc::clone(&self.table);
        let found = self.find_hash(KeySearch::new(&route.sources)).await?;
        match (found, route.on_missing) {
            (Ok(hash), _) => Ok(table.routing.ring.slot_of_hash(hash)),
            (Err(_), OnMissing::Any) => Ok(table.routing.grpc_side.fleet.any_slot()),
            (Err(missing), OnMissing::Reject) => Err(missing.into()),
        }
    }

    /// Finds the hash of the request's key.
    pub(super) async fn find_hash(
        &mut self,
        mut search: KeySearch<'_>,
    ) -> Result<Result<u64, MissingKey>, Failed> {
        match search.advance(&self.head, Body::Unread) {
            KeyLookup::Found(key) => Ok(Ok(hash_key(key.as_bytes()))),
            KeyLookup::Missing(missing) => Ok(Err(missing)),
            KeyLookup::NeedsBody { .. } => {
                let bytes_max = search_bytes_max(&self.gateway, &self.table);
                let (head, body, deadline) = (&self.head, &mut self.body, &mut self.deadline);
                // Boxed because it is rare and would make room for itself in every request.
                Ok(Box::pin(search_body(search, head, body, deadline, bytes_max)).await?)
            }
        }
    }
}

impl From<MissingKey> for Failed {
    fn from(missing: MissingKey) -> Self {
        Self::early(ErrorCode::MissingKey, missing.to_string())
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

impl Drop for Call {
    /// A panic ends its request alone, as the runtime contains it; the count makes the defect
    /// visible.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.gateway.metrics().panics.increment();
        }
    }
}

/// How far a body is searched for a key: as far as it may be held back anyway.
fn search_bytes_max(gateway: &Gateway, table: &Table) -> usize {
    table.routing.rules.retry.buffer_bytes.max(gateway.shared.limits.stream_window_bytes as usize)
}
