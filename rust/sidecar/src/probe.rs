//! One question to one pod: do you serve?
use std::io;
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{self, SendRequest};
use hashroute_dataplane::grpc::{
    FrameReader, HEALTH_CHECK_PATH, ServingStatus, Status, health_check_request, serving_status,
};
use hashroute_dataplane::health::{Event, ProbeFailure};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::task::{JoinHandle, spawn_local};

use crate::address::connect;
use crate::settings::{HealthSettings, Probe};

/// Probes one pod, over a connection that no request uses.
#[derive(Debug)]
pub(crate) struct PodProber {
    address: String,
    link: Option<Link>,
    /// Probes in a row that timed out.
    timeouts: u32,
}

#[derive(Debug)]
struct Link {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl PodProber {
    pub(crate) fn new(address: String) -> Self {
        Self { address, link: None, timeouts: 0 }
    }

    /// Asks once. May be dropped at any moment, which is how a timeout ends it.
    pub(crate) async fn probe(&mut self, settings: &HealthSettings) -> Event {
        let answer = match settings.probe {
            Probe::Connect => connect(&self.address, KEEPALIVE).await.map(drop).map_err(refused),
            Probe::Grpc => self.check(&settings.service).await,
        };
        self.timeouts = 0;
        match answer {
            Ok(()) => Event::ProbeSucceeded,
            Err(failure) => {
                self.link = None;
                Event::ProbeFailed(failure)
            }
        }
    }

    /// Notes that a probe had no answer in time. A pod that stands still is asked on the connection
    /// that it has; only after a second's worth of silence the connection itself is doubted.
    pub(crate) fn timed_out(&mut self) {
        self.timeouts += 1;
        if self.timeouts.is_multiple_of(TIMEOUTS_PER_CONNECTION) {
            self.link = None;
        }
    }

    async fn check(&mut self, service: &str) -> Result<(), ProbeFailure> {
        if self.link.is_none() {
            self.link = Some(establish(&self.address).await?);
        }
        let link = self.link.as_mut().ok_or(ProbeFailure::Lost)?;
        let request = request(&self.address).map_err(|_| ProbeFailure::Malformed)?;
        let (response, mut body) =
            link.sender.send_request(request, false).map_err(|_| ProbeFailure::Lost)?;
        body.send_data(health_check_request(service), true).map_err(|_| ProbeFailure::Lost)?;
        let (head, mut body) = response.await.map_err(|_| ProbeFailure::Lost)?.into_parts();
        if let Some(status) = grpc_status(&head.headers) {
            return judge(head.status, status, &[]);
        }
        let message = read_message(&mut body).await?;
        let trailers = body.trailers().await.map_err(|_| ProbeFailure::Lost)?;
        let status = trailers.as_ref().and_then(grpc_status).unwrap_or(Status::Unknown);
        judge(head.status, status, &message)
    }
}

/// What an answer says of the pod. A pod that answers is alive, whatever it thinks of the question;
/// it serves unless it says that it does not.
fn judge(http: StatusCode, status: Status, message: &[u8]) -> Result<(), ProbeFailure> {
    if http == StatusCode::NOT_FOUND {
        return Ok(());
    }
    if http != StatusCode::OK {
        return Err(ProbeFailure::Malformed);
    }
    match status {
        Status::Ok => match serving_status(message) {
            ServingStatus::Serving => Ok(()),
            ServingStatus::NotServing => Err(ProbeFailure::NotServing),
            ServingStatus::Malformed => Err(ProbeFailure::Malformed),
        },
        Status::Unimplemented | Status::Unauthenticated | Status::PermissionDenied => Ok(()),
        Status::Cancelled
        | Status::Unknown
        | Status::InvalidArgument
        | Status::DeadlineExceeded
        | Status::NotFound
        | Status::AlreadyExists
        | Status::ResourceExhausted
        | Status::FailedPrecondition
        | Status::Aborted
        | Status::OutOfRange
        | Status::Internal
        | Status::Unavailable
        | Status::DataLoss => Err(ProbeFailure::NotServing),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<Status> {
    headers.get("grpc-status").map(|value| Status::parse(value.as_bytes()))
}

async fn read_message(body: &mut RecvStream) -> Result<Bytes, ProbeFailure> {
    let mut frames = FrameReader::new(MESSAGE_BYTES_MAX);
    let mut message = None;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|_| ProbeFailure::Lost)?;
        // It fails only for more than was received.
        let _never = body.flow_control().release_capacity(chunk.len());
        frames.push(&chunk);
        if let Some(frame) = frames.next_frame().map_err(|_| ProbeFailure::Malformed)? {
            message = Some(frame.message);
        }
    }
    Ok(message.unwrap_or_default())
}

async fn establish(address: &str) -> Result<Link, ProbeFailure> {
    let socket = connect(address, KEEPALIVE).await.map_err(refused)?;
    let (sender, connection) = client::handshake(socket).await.map_err(|_| ProbeFailure::Lost)?;
    let driver = spawn_local(async move {
        // How it ends shows in the probe that it breaks.
        let _ended = connection.await;
    });
    Ok(Link { sender, driver })
}

fn request(address: &str) -> http::Result<Request<()>> {
    let authority = if address.starts_with("unix:") { "localhost" } else { address };
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(format!("http://{authority}{HEALTH_CHECK_PATH}"))
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .header("user-agent", "hashroute-probe")
        .body(())
}

fn refused(_: io::Error) -> ProbeFailure {
    ProbeFailure::Refused
}

const MESSAGE_BYTES_MAX: usize = 4096;
const TIMEOUTS_PER_CONNECTION: u32 = 8;
const KEEPALIVE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: &[u8] = &[0x08, 1];
    const NOT_SERVING: &[u8] = &[0x08, 2];

    #[test]
    fn a_pod_that_answers_is_up_unless_it_says_that_it_does_not_serve() {
        let ok = StatusCode::OK;
        assert_eq!(judge(ok, Status::Ok, SERVING), Ok(()));
        assert_eq!(judge(ok, Status::Unimplemented, &[]), Ok(()));
        assert_eq!(judge(ok, Status::PermissionDenied, &[]), Ok(()));
        assert_eq!(judge(StatusCode::NOT_FOUND, Status::Unknown, &[]), Ok(()));
        assert_eq!(judge(ok, Status::Ok, NOT_SERVING), Err(ProbeFailure::NotServing));
        assert_eq!(judge(ok, Status::NotFound, &[]), Err(ProbeFailure::NotServing));
        assert_eq!(judge(ok, Status::Ok, &[0xff]), Err(ProbeFailure::Malformed));
        assert_eq!(
            judge(StatusCode::BAD_GATEWAY, Status::Unknown, &[]),
            Err(ProbeFailure::Malformed)
        );
    }
}
