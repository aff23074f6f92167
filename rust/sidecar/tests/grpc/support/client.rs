//! A gRPC client as bare as it can be.
use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, spawn_local};

use super::pod::send_all;

/// A connection to a sidecar.
pub(crate) struct Client {
    sender: SendRequest<Bytes>,
    driver: AbortHandle,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: StatusCode,
    pub(crate) head: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// None for an answer that is only a head.
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let mut builder = client::Builder::new();
        // Wide enough that h2 does not take many streams with short last frames for an attack.
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 26);
        Self::with(address, &builder).await
    }

    /// Connects with windows and limits of the test's choice.
    pub(crate) async fn with(address: &str, builder: &client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.expect("the sidecar listens");
        stream.set_nodelay(true).expect("a live socket");
        let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
        let driver = spawn_local(async move {
            let _ended = connection.await;
        });
        Self { sender, driver: driver.abort_handle() }
    }

    /// Cuts the connection.
    pub(crate) fn cut(&self) {
        self.driver.abort();
    }

    /// Returns once the sidecar has closed the connection to new requests.
    pub(crate) async fn closed(&mut self) {
        while std::future::poll_fn(|cx| self.sender.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Opens a stream.
    pub(crate) async fn open(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut sender = self.sender.clone().ready().await.expect("the sidecar takes requests");
        let mut request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("http://service.test{path}"))
            .header("te", "trailers")
            .header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        sender.send_request(request, false).expect("a stream")
    }

    /// Sends a whole request and waits for the whole answer.
    pub(crate) async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, h2::Error> {
        let (response, mut to) = self.open(path, headers).await;
        let body = Bytes::copy_from_slice(body);
        let sending = spawn_local(async move {
            if send_all(&mut to, body).await {
                let _gone = to.send_data(Bytes::new(), true);
            }
            to
        });
        let answer = Answer::read(response).await;
        sending.abort();
        answer
    }

    /// The same with a key and a message in a frame; the answer is that of a pod or an error.
    pub(crate) async fn unary(&mut self, key: &str, message: &[u8]) -> Answer {
        let headers = [("x-hashroute-key", key)];
        self.call("/test.Service/Method", &headers, &frame(message)).await.expect("an answer")
    }
}

impl Answer {
    /// Reads an answer to its end.
    pub(crate) async fn read(response: ResponseFuture) -> Result<Self, h2::Error> {
        let (head, mut body) = response.await?.into_parts();
        let bytes = read_body(&mut body).await?;
        let trailers = body.trailers().await?;
        Ok(Self { http: head.status, head: head.headers, body: bytes, trailers })
    }

    /// The status in the trailers, or in the head of an answer without a body.
    pub(crate) fn status(&self) -> &str {
        self.last("grpc-status").unwrap_or("none")
    }

    /// A value of the trailers, or of the head of an answer without a body.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref().unwrap_or(&self.head).get(name).map(|value| text(value.as_bytes()))
    }

    /// The pod that answered.
    pub(crate) fn pod(&self) -> &str {
        self.head.get("x-hashroute-pod").map_or("", |value| text(value.as_bytes()))
    }

    /// Asserts that it is an answer of a pod with status 0.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status(), "0", "{self:?}");
        self
    }

    /// Asserts that it is an error of the sidecar's with this status and outcome, and nothing else.
    pub(crate) fn error(&self, status: &str, outcome: &str) -> &str {
        assert_eq!(self.status(), status, "{self:?}");
        assert_eq!(self.last("x-hashroute-outcome"), Some(outcome), "{self:?}");
        self.last("grpc-message").unwrap_or("")
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

async fn read_body(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A message in its frame.
pub(crate) fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).expect("a small message").to_be_bytes());
    framed.extend_from_slice(message);
    framed
}

/// The message of the only frame in `bytes`.
pub(crate) fn unframe(bytes: &[u8]) -> &[u8] {
    let (header, message) = bytes.split_at(5);
    assert_eq!(header, &frame(message)[..5]);
    message
}
