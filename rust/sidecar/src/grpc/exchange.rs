//! One attempt at one pod: a request on its way there and the answer on its way back.
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use hashroute_core::Epoch;
use hashroute_dataplane::grpc::{HEADER_EPOCH, HEADER_POD, HEADER_REFUSAL, HEADER_STALE, Status};
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::retry::Failure;
use hashroute_dataplane::write::parse_number;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Response};

use super::body::{Broken, RequestBody, poll_send_chunk};
use super::reply::{Reply, status_of};
use super::upstream::{Opened, StreamCount};

/// A stream to a pod, while its answer is not complete.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Until all of the request was sent, or the pod wants no more of it.
    to_pod: Option<SendStream<Bytes>>,
    answer: Answer,
    /// What was received of the answer and not passed on yet.
    unsent: Bytes,
    /// Whether a refusal of the pod's guard is kept from the caller.
    takes_refusals: bool,
    _counted: StreamCount,
}

#[derive(Debug)]
enum Answer {
    Awaited(ResponseFuture),
    Begun(RecvStream),
}

/// What is added to the answer for the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerNote<'a> {
    /// The pod that answered.
    pub(super) pod: Option<&'a HeaderValue>,
    /// Whether it was routed by what may be old.
    pub(super) is_stale: bool,
}

/// How an exchange ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The answer was passed on whole; it says this.
    Answered(Status),
    /// The pod's guard refused it; nothing was passed on.
    Refused(Refused),
    /// The caller is gone.
    CallerGone,
    /// The pod, or the way to it, failed.
    Failed(PodFailure),
}

/// What the end of a stream or connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PodFailure {
    pub(super) failure: Failure,
    /// The code with which the pod broke the stream off.
    pub(super) reset: Option<Reason>,
}

impl Exchange {
    pub(super) fn new(opened: Opened, is_sent: bool) -> Self {
        Self {
            to_pod: (!is_sent).then_some(opened.body),
            answer: Answer::Awaited(opened.response),
            unsent: Bytes::new(),
            takes_refusals: false,
            _counted: opened.counted,
        }
    }

    /// The same, but a refusal of the pod's guard ends it and is not passed on.
    pub(super) fn taking_refusals(opened: Opened, is_sent: bool) -> Self {
        Self { takes_refusals: true, ..Self::new(opened, is_sent) }
    }

    /// Whether all of the request was sent.
    pub(super) fn is_sent(&self) -> bool {
        self.to_pod.is_none()
    }

    /// Takes the rest of the answer and passes it on to nobody. Ready at its end, whatever that is.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.answer {
                Answer::Awaited(response) => match ready!(Pin::new(response).poll(cx)) {
                    Ok(response) => self.answer = Answer::Begun(response.into_body()),
                    Err(_) => return Poll::Ready(()),
                },
                Answer::Begun(from_pod) => match ready!(from_pod.poll_data(cx)) {
                    Some(Ok(chunk)) => {
                        // It fails only for more than was received.
                        let _never = from_pod.flow_control().release_capacity(chunk.len());
                    }
                    Some(Err(_)) => return Poll::Ready(()),
                    None => return from_pod.poll_trailers(cx).map(drop),
                },
            }
        }
    }

    /// Moves what can be moved, in both directions.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut RequestBody,
        reply: &mut Reply,
        note: AnswerNote<'_>,
    ) -> Poll<Ended> {
        if let Some(to_pod) = &mut self.to_pod
            && let Poll::Ready(sent) = request.poll_send(cx, to_pod)
        {
            match sent {
                // A pod that wants no more may still answer what it has.
                Ok(()) | Err(Broken::Sink) => self.to_pod = None,
                Err(Broken::Source) => return Poll::Ready(Ended::CallerGone),
            }
        }
        self.poll_answer(cx, request, reply, note)
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut RequestBody,
        reply: &mut Reply,
        note: AnswerNote<'_>,
    ) -> Poll<Ended> {
        loop {
            let progress = match &mut self.answer {
                Answer::Awaited(response) => match ready!(Pin::new(response).poll(cx)) {
                    Ok(response) => {
                        if self.takes_refusals
                            && let Some(refused) = refused_of(response.headers())
                        {
                            return Poll::Ready(Ended::Refused(refused));
                        }
                        request.commit();
                        self.begin(response, reply, note)
                    }
                    Err(error) => Err(failed(&error)),
                },
                Answer::Begun(_) => ready!(self.poll_body(cx, reply)),
            };
            match progress {
                Ok(None) => {}
                Ok(Some(status)) => return Poll::Ready(Ended::Answered(status)),
                Err(ended) => return Poll::Ready(ended),
            }
        }
    }

    fn begin(
        &mut self,
        response: Response<RecvStream>,
        reply: &mut Reply,
        note: AnswerNote<'_>,
    ) -> Result<Option<Status>, Ended> {
        let (mut head, body) = response.into_parts();
        if let Some(pod) = note.pod {
            head.headers.insert(POD, pod.clone());
        }
        if note.is_stale {
            head.headers.insert(STALE, HeaderValue::from_static(IS_STALE));
        }
        let is_end = body.is_end_stream();
        let status = is_end.then(|| status_of(&head.headers));
        reply.begin(Response::from_parts(head, ()), is_end).map_err(|_| Ended::CallerGone)?;
        self.answer = Answer::Begun(body);
        Ok(status)
    }

    fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        reply: &mut Reply,
    ) -> Poll<Result<Option<Status>, Ended>> {
        let Answer::Begun(from_pod) = &mut self.answer else { return Poll::Ready(Ok(None)) };
        if !self.unsent.is_empty() {
            let body = reply.body().map_err(|_| Ended::CallerGone)?;
            let sent = ready!(poll_send_chunk(cx, &mut self.unsent, false, body));
            let length = sent.map_err(|_| Ended::CallerGone)?;
            // It fails only for more than was received.
            let _never = from_pod.flow_control().release_capacity(length);
            return Poll::Ready(Ok(None));
        }
        match ready!(from_pod.poll_data(cx)) {
            Some(Ok(chunk)) => {
                self.unsent = chunk;
                return Poll::Ready(Ok(None));
            }
            Some(Err(error)) => return Poll::Ready(Err(failed(&error))),
            None => {}
        }
        let trailers = match ready!(from_pod.poll_trailers(cx)) {
            Ok(trailers) => trailers,
            Err(error) => return Poll::Ready(Err(failed(&error))),
        };
        let status = trailers.as_ref().map_or(Status::Unknown, status_of);
        reply.end(trailers).map_err(|_| Ended::CallerGone)?;
        Poll::Ready(Ok(Some(status)))
    }
}

/// Says what an error of a stream to a pod means.
fn failed(error: &h2::Error) -> Ended {
    let reset = error.reason().filter(|_| error.is_reset() && error.is_remote());
    let failure = match reset {
        Some(Reason::REFUSED_STREAM) => Failure::RefusedStream,
        Some(_) => Failure::Reset,
        // h2 gives this error to the streams beyond the last one that the pod named, and to no
        // other.
        None if error.is_go_away() && error.is_remote() => Failure::GoAwayBeyond,
        None => Failure::Lost,
    };
    Ended::Failed(PodFailure { failure, reset })
}

/// The status that the reset of a stream stands for. Source: gRPC over HTTP2, "Errors".
pub(super) fn status_of_reset(reason: Reason) -> Status {
    match reason {
        Reason::REFUSED_STREAM => Status::Unavailable,
        Reason::CANCEL => Status::Cancelled,
        Reason::ENHANCE_YOUR_CALM => Status::ResourceExhausted,
        Reason::INADEQUATE_SECURITY => Status::PermissionDenied,
        _ => Status::Internal,
    }
}

/// The refusal in the first headers of an answer, if it is one.
fn refused_of(headers: &HeaderMap) -> Option<Refused> {
    let refusal = Refusal::parse(headers.get(&REFUSAL)?.as_bytes())?;
    let epoch = headers.get(&EPOCH).and_then(|epoch| parse_number(epoch.as_bytes()));
    Some(Refused { refusal, epoch: epoch.map(Epoch::new) })
}

const EPOCH: HeaderName = HeaderName::from_static(HEADER_EPOCH);
const REFUSAL: HeaderName = HeaderName::from_static(HEADER_REFUSAL);
const STALE: HeaderName = HeaderName::from_static(HEADER_STALE);
/// The value of `x-hashroute-stale`.
pub(super) const IS_STALE: &str = "true";
const POD: HeaderName = HeaderName::from_static(HEADER_POD);
