//! One call to one process, and what can come of it.
use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::Description;
use crate::error::StartError;
use crate::proto;
use crate::proto::quorum_client::QuorumClient;
use crate::settings::TlsSettings;
use crate::transport::{endpoint, explained};
use crate::wire::{Codec, MESSAGE_BYTES_MAX, voter_id_in};

/// One process, and how it is called.
#[derive(Debug)]
pub(super) struct Caller {
    address: String,
    endpoint: Endpoint,
    timeout: Duration,
    has_tls: bool,
}

pub(super) type Called<T> = Result<T, CallFailed>;

/// What came of a call instead of an answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum CallFailed {
    /// It certainly had no effect: nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// The process answered that it does not do it.
    #[error("{message}")]
    Told {
        /// Why, as gRPC classifies it.
        code: Code,
        /// Why.
        message: String,
    },
    /// It was sent, and no answer came: it may have had its effect.
    #[error("{0}")]
    Unknown(String),
}

impl Caller {
    pub(super) fn new(
        address: &str,
        tls: Option<&TlsSettings>,
        timeout: Duration,
    ) -> Result<Self, StartError> {
        let (endpoint, has_tls) = (endpoint(address, tls)?, tls.is_some());
        Ok(Self { address: address.to_owned(), endpoint, timeout, has_tls })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) async fn describe(&self) -> Called<proto::DescribeResponse> {
        let call = async |mut client: QuorumClient<Channel>| {
            client.describe(proto::DescribeRequest {}).await
        };
        self.call(call).await
    }

    pub(super) async fn found(&self, record: proto::Record) -> Called<proto::FoundResponse> {
        let (version, record) = (proto::Version::Version1.into(), Some(record));
        let request = proto::FoundRequest { version, record };
        self.call(async |mut client: QuorumClient<Channel>| client.found(request).await).await
    }

    pub(super) async fn make_change(
        &self,
        request: proto::MakeChangeRequest,
    ) -> Called<proto::MakeChangeResponse> {
        self.call(async |mut client: QuorumClient<Channel>| client.make_change(request).await).await
    }

    async fn call<T, F>(&self, call: impl FnOnce(QuorumClient<Channel>) -> F) -> Called<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let (deadline, late) = (tokio::time::Instant::now() + self.timeout, self.late());
        let connected = tokio::time::timeout_at(deadline, self.endpoint.connect()).await;
        let channel = match connected {
            Err(_) => return Err(CallFailed::NotSent(late)),
            Ok(Err(error)) => return Err(CallFailed::NotSent(self.explain(&error))),
            Ok(Ok(channel)) => channel,
        };
        let client = QuorumClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        match tokio::time::timeout_at(deadline, call(client)).await {
            Err(_) => Err(CallFailed::Unknown(late)),
            Ok(Err(status)) => Err(self.classify(&status)),
            Ok(Ok(response)) => Ok(response.into_inner()),
        }
    }

    /// An error with a source was made here, out of what became of the connection.
    fn classify(&self, status: &Status) -> CallFailed {
        if status.source().is_some() {
            return CallFailed::Unknown(self.explain(status));
        }
        let (code, message) = (status.code(), status.message().to_owned());
        match code {
            Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::Unavailable
            | Code::Unimplemented => CallFailed::Told { code, message },
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => CallFailed::Unknown(format!("{code:?}: {message}")),
        }
    }

    fn late(&self) -> String {
        format!("no answer within {} ms", self.timeout.as_millis())
    }

    fn explain(&self, error: &(dyn Error + 'static)) -> String {
        let cause = error.downcast_ref::<Status>().and_then(Error::source).unwrap_or(error);
        explained(cause, self.has_tls)
    }
}

impl Description {
    /// Reads an answer. The record of another cluster is read all the same.
    pub(super) fn read(
        address: &str,
        answer: proto::DescribeResponse,
        codec: &mut Codec,
    ) -> Result<Self, String> {
        if answer.version != i32::from(proto::Version::Version1) {
            let reason = format!("it speaks version {} of the contract, and we 1", answer.version);
            return Err(reason);
        }
        let mut other = Codec::new(answer.cluster.clone());
        let codec = if answer.cluster == codec.cluster() { codec } else { &mut other };
        let record = answer.record.as_ref().map(|record| codec.record(record)).transpose();
        let record = record.map_err(|error| format!("its record: {error}"))?;
        let voter_id = match answer.voter_id.as_slice() {
            [] => String::new(),
            bytes => {
                let id = voter_id_in(bytes).map_err(|error| error.to_string())?;
                format!("{:032x}", id.0)
            }
        };
        let (address, cluster, snapshot) = (address.to_owned(), answer.cluster, answer.snapshot);
        Ok(Self { address, cluster, voter_id, record, snapshot })
    }
}

/// Waits for all calls at the same time; the answers are in the order of the calls.
pub(super) async fn all<T, F: Future<Output = Called<T>>>(
    calls: impl Iterator<Item = F>,
) -> Vec<Called<T>> {
    let mut calls: Vec<_> = calls.map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|context| {
        for (call, answer) in calls.iter_mut().filter(|(_, answer)| answer.is_none()) {
            if let std::task::Poll::Ready(ready) = call.as_mut().poll(context) {
                *answer = Some(ready);
            }
        }
        if calls.iter().any(|(_, answer)| answer.is_none()) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
    calls.into_iter().filter_map(|(_, answer)| answer).collect()
}
