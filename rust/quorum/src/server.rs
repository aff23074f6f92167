//! The service that a voter offers: it hands every call to the loop that decides.
use std::net::TcpListener;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::error::StartError;
use crate::incoming;
use crate::outbox::OutboxStream;
use crate::proto;
use crate::proto::quorum_server::{Quorum, QuorumServer};
use crate::settings::TlsSettings;
use crate::shell::Event;
use crate::transport;
use crate::wire::{MESSAGE_BYTES_MAX, WireError};

/// What a caller of Attend gets when its Hello was accepted.
#[derive(Debug)]
pub(crate) struct Attending {
    pub(crate) number: u64,
    pub(crate) answers: Answers<proto::AttendResponse>,
    /// Ends when the conversation does.
    pub(crate) ended: oneshot::Receiver<()>,
}

/// What is said on one stream.
pub(crate) type Answers<T> = OutboxStream<Result<T, Status>>;

/// Serves the voter's part on `listener` until the runtime ends.
///
/// # Errors
///
/// [`StartError::Tls`].
pub(crate) fn serve(
    listener: TcpListener,
    address: &str,
    tls: Option<&TlsSettings>,
    events: mpsc::Sender<Event>,
) -> Result<(), StartError> {
    let failed = |source| StartError::Listen { address: address.to_owned(), source };
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(STREAMS_MOST);
    if let Some(tls) = tls {
        let config = transport::server_tls(tls)?;
        server = server.tls_config(config).map_err(|error| StartError::Tls {
            path: tls.certificate.clone(),
            reason: error.to_string(),
        })?;
    }
    let service = QuorumServer::new(Service { events })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    tokio::spawn(server.add_service(service).serve_with_incoming(incoming::accept(listener)));
    Ok(())
}

/// Hands calls to the loop.
struct Service {
    events: mpsc::Sender<Event>,
}

impl Service {
    /// Tells the loop, and waits for its answer.
    async fn ask<T>(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<T, Status>>) -> Event,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

#[tonic::async_trait]
impl Quorum for Service {
    type AttendStream = Answers<proto::AttendResponse>;
    type FollowStream = Answers<proto::FollowResponse>;

    async fn attend(
        &self,
        request: Request<Streaming<proto::AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let mut requests = request.into_inner();
        let first = timeout(HELLO_MOST, requests.message()).await.map_err(|_| {
            Status::deadline_exceeded(format!("no Hello within {} s", HELLO_MOST.as_secs()))
        })??;
        let message = first.and_then(|first| first.message);
        let Some(proto::attend_request::Message::Hello(hello)) = message else {
            let reason = "the first message of a conversation is a Hello: this is another protocol";
            return Err(Status::invalid_argument(reason));
        };
        let Attending { number, answers, ended } =
            self.ask(|reply| Event::Hello { hello, reply }).await?;
        tokio::spawn(listen(number, requests, ended, self.events.clone()));
        Ok(Response::new(answers))
    }

    async fn follow(
        &self,
        request: Request<proto::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Event::Follow { request, reply }).await.map(Response::new)
    }

    async fn describe(
        &self,
        _request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::DescribeResponse>, Status> {
        let (response, figures) = self.ask(|reply| Event::Describe { reply }).await?;
        // On another thread: this one has a lease to keep.
        let snapshot = spawn_blocking(move || serde_json::to_string(&figures.snapshot())).await;
        let snapshot = snapshot.ok().and_then(Result::ok).unwrap_or_default();
        Ok(Response::new(proto::DescribeResponse { snapshot, ..response }))
    }

    async fn found(
        &self,
        request: Request<proto::FoundRequest>,
    ) -> Result<Response<proto::FoundResponse>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Event::Found { request, reply }).await.map(Response::new)
    }

    async fn make_change(
        &self,
        request: Request<proto::MakeChangeRequest>,
    ) -> Result<Response<proto::MakeChangeResponse>, Status> {
        let request = request.into_inner();
        self.ask(|reply| Event::MakeChange { request, reply }).await.map(Response::new)
    }
}

/// Hands what a member says to the loop, one message after the other: whoever says more than the
/// loop can take waits.
async fn listen(
    number: u64,
    mut requests: Streaming<proto::AttendRequest>,
    mut ended: oneshot::Receiver<()>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let said = tokio::select! {
            said = requests.message() => said,
            _ = &mut ended => return,
        };
        let event = match said {
            Ok(Some(proto::AttendRequest { message: Some(message) })) => {
                Event::Attendee { number, message: Box::new(message) }
            }
            // A beat.
            Ok(Some(proto::AttendRequest { message: None })) => continue,
            Ok(None) => Event::AttendeeLeft { number, reason: None },
            Err(status) => Event::AttendeeLeft { number, reason: Some(status) },
        };
        let is_over = matches!(event, Event::AttendeeLeft { .. });
        if events.send(event).await.is_err() || is_over {
            return;
        }
    }
}

/// Whether the caller speaks the contract that this process does.
pub(crate) fn check_version(version: i32) -> Result<(), Status> {
    if version == i32::from(proto::Version::Version1) {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this process speaks version 1 of the quorum's contract, and the caller version {version}: \
         run the same release of hashroute on both"
    )))
}

/// Whether the caller means the cluster of this process, `own`.
pub(crate) fn check_cluster(own: &str, cluster: &str) -> Result<(), Status> {
    if cluster == own {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "this process belongs to cluster {own:?}, and the caller to {cluster:?}: one of them has \
         the wrong address, or quorum.cluster"
    )))
}

/// What no message may hold.
pub(crate) fn invalid(error: &WireError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(crate) fn no_voter() -> Status {
    Status::failed_precondition("this process does not vote: ask one that has quorum.listen")
}

fn ending() -> Status {
    Status::unavailable("this process is ending: ask another voter")
}

/// Within this a caller says who it is.
const HELLO_MOST: Duration = Duration::from_secs(5);

/// A connection that is not answered for two of these is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Calls under way on one connection; a process needs two.
const STREAMS_MOST: u32 = 64;

#[cfg(test)]
mod tests;
