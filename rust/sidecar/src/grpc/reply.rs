//! The answer to a caller: the pod's, passed on, or an error of our own.
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use hashroute_core::Epoch;
use hashroute_dataplane::error::Outcome;
use hashroute_dataplane::grpc::{
    HEADER_EPOCH, HEADER_OUTCOME, HEADER_REFUSAL, Status, percent_encode_message,
};
use hashroute_dataplane::refusal::Refusal;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response};

/// One answer, from nothing sent to its end.
#[derive(Debug)]
pub(super) struct Reply {
    respond: SendResponse<Bytes>,
    body: Option<SendStream<Bytes>>,
}

/// The caller is gone: it reset the stream, or its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CallerGone;

/// An error of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ErrorReply {
    pub(super) status: Status,
    pub(super) outcome: Outcome,
    /// Why a guard did not admit it, if that is what happened last.
    pub(super) refusal: Option<Refusal>,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self { respond, body: None }
    }

    /// Whether the caller has seen any of the answer.
    pub(super) fn has_begun(&self) -> bool {
        self.body.is_some()
    }

    /// Sends the head of the pod's answer; with `is_end` that is all of it.
    pub(super) fn begin(&mut self, head: Response<()>, is_end: bool) -> Result<(), CallerGone> {
        let body = self.respond.send_response(head, is_end).map_err(|_| CallerGone)?;
        self.body = Some(body);
        Ok(())
    }

    /// The body of the answer, once it has begun.
    pub(super) fn body(&mut self) -> Result<&mut SendStream<Bytes>, CallerGone> {
        self.body.as_mut().ok_or(CallerGone)
    }

    /// Sends the pod's trailers, or just the end.
    pub(super) fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), CallerGone> {
        let body = self.body()?;
        match trailers {
            Some(trailers) => body.send_trailers(trailers),
            None => body.send_data(Bytes::new(), true),
        }
        .map_err(|_| CallerGone)
    }

    /// Ends the answer with an error: as its only head if nothing was sent, else as its trailers.
    pub(super) fn fail(&mut self, error: &ErrorReply) -> Result<(), CallerGone> {
        self.fail_with(error, HeaderMap::with_capacity(5))
    }

    /// Ends the answer with the refusal of a guard whose record is of `epoch`.
    pub(super) fn refuse(&mut self, error: &ErrorReply, epoch: Epoch) -> Result<(), CallerGone> {
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(EPOCH, HeaderValue::from(epoch.get()));
        self.fail_with(error, headers)
    }

    fn fail_with(&mut self, error: &ErrorReply, mut headers: HeaderMap) -> Result<(), CallerGone> {
        headers.insert(GRPC_STATUS, HeaderValue::from_static(error.status.code_text()));
        let text = percent_encode_message(&error.text);
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert(GRPC_MESSAGE, text);
        }
        headers.insert(OUTCOME, HeaderValue::from_static(error.outcome.as_str()));
        if let Some(refusal) = error.refusal {
            headers.insert(REFUSAL, HeaderValue::from_static(refusal.as_str()));
        }
        if self.has_begun() {
            return self.end(Some(headers));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        self.begin(response, true)
    }

    /// Breaks the answer off as the pod did.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.send_reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Ready when the caller is gone.
    pub(super) fn poll_caller_gone(&mut self, cx: &mut Context<'_>) -> Poll<CallerGone> {
        let reset = match &mut self.body {
            Some(body) => body.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(|_| CallerGone)
    }
}

/// The status that ends an answer, from its trailers or its only head.
pub(super) fn status_of(headers: &HeaderMap) -> Status {
    headers.get(&GRPC_STATUS).map_or(Status::Unknown, |value| Status::parse(value.as_bytes()))
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const EPOCH: HeaderName = HeaderName::from_static(HEADER_EPOCH);
const REFUSAL: HeaderName = HeaderName::from_static(HEADER_REFUSAL);
const OUTCOME: HeaderName = HeaderName::from_static(HEADER_OUTCOME);
