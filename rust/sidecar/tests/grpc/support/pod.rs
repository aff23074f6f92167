//! A pod: an HTTP/2 server that does with each request what the test says.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::rc::Rc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_local};

/// A pod of a test.
pub(crate) struct Pod {
    pub(crate) address: String,
    state: Rc<State>,
    accepting: AbortHandle,
}

struct State {
    behaviour: Box<dyn Fn(Call)>,
    /// Heads of the requests received, health checks left out.
    heads: RefCell<Vec<Request<()>>>,
    connections: RefCell<Vec<AbortHandle>>,
    goodbye: watch::Sender<Goodbye>,
    streams_max: Cell<u32>,
    window: Cell<u32>,
    is_serving: Cell<bool>,
}

#[derive(Clone, Copy, PartialEq)]
enum Goodbye {
    Stay,
    /// GOAWAY; streams that are open finish.
    Graceful,
}

/// One request at a pod.
pub(crate) struct Call {
    pub(crate) head: Request<()>,
    pub(crate) body: RecvStream,
    pub(crate) respond: SendResponse<Bytes>,
}

impl Pod {
    /// Starts a pod that treats each request as `behaviour` says.
    pub(crate) async fn start<F>(behaviour: impl Fn(Call) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self::start_at("127.0.0.1:0", behaviour).await
    }

    /// The same at a given address, for a pod that comes back.
    pub(crate) async fn start_at<F>(address: &str, behaviour: impl Fn(Call) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let state = Rc::new(State {
            behaviour: Box::new(move |call| {
                spawn_local(behaviour(call));
            }),
            heads: RefCell::default(),
            connections: RefCell::default(),
            goodbye: watch::Sender::new(Goodbye::Stay),
            streams_max: Cell::new(1000),
            window: Cell::new(65_535),
            is_serving: Cell::new(true),
        });
        let accepting = spawn_local(accept(listener, Rc::clone(&state))).abort_handle();
        Self { address, state, accepting }
    }

    /// Starts a pod that sends each body back and ends with status 0.
    pub(crate) async fn echo() -> Self {
        Self::start(Call::echo).await
    }

    /// Starts a pod whose guard refuses one request after the other in these words, and then takes
    /// them and sends their bodies back.
    pub(crate) async fn refusing(words: &[&'static str]) -> Self {
        let left = Rc::new(RefCell::new(VecDeque::from(words.to_vec())));
        Self::start(move |call: Call| {
            let word = left.borrow_mut().pop_front();
            async move {
                match word {
                    Some(word) => call.refuse_write(word, None),
                    None => call.echo().await,
                }
            }
        })
        .await
    }

    /// Starts a pod like [`Pod::echo`] at a Unix socket.
    pub(crate) async fn echo_at_path(path: &std::path::Path) -> Self {
        let pod = Self::echo().await;
        let listener = UnixListener::bind(path).expect("a free path");
        let state = Rc::clone(&pod.state);
        let accepting = spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                spawn_local(serve(stream, Rc::clone(&state)));
            }
        });
        pod.accepting.abort();
        Self {
            address: format!("unix:{}", path.display()),
            state: Rc::clone(&pod.state),
            accepting: accepting.abort_handle(),
        }
    }

    /// How many requests were received, health checks left out.
    pub(crate) fn received(&self) -> usize {
        self.state.heads.borrow().len()
    }

    /// The heads of the requests received.
    pub(crate) fn heads(&self) -> std::cell::Ref<'_, Vec<Request<()>>> {
        self.state.heads.borrow()
    }

    /// Ends at once, as `kill -9` would: no more connections, and those that are open are cut.
    pub(crate) fn kill(&self) {
        self.accepting.abort();
        for connection in self.state.connections.borrow_mut().drain(..) {
            connection.abort();
        }
    }

    /// Cuts the open connections; new ones are taken.
    pub(crate) fn cut(&self) {
        for connection in self.state.connections.borrow_mut().drain(..) {
            connection.abort();
        }
    }

    /// Says GOAWAY on every connection that is open, and takes new ones.
    pub(crate) fn go_away(&self) {
        self.state.goodbye.send_replace(Goodbye::Graceful);
        self.state.goodbye.send_replace(Goodbye::Stay);
    }

    /// Answers health checks with SERVING or NOT_SERVING from now on.
    pub(crate) fn set_serving(&self, is_serving: bool) {
        self.state.is_serving.set(is_serving);
    }

    /// Allows this many streams on a connection made from now on.
    pub(crate) fn set_streams_max(&self, streams: u32) {
        self.state.streams_max.set(streams);
    }

    /// How many connections were ever made, those of probes included.
    pub(crate) fn connections_made(&self) -> usize {
        self.state.connections.borrow().len()
    }

    /// How many connections are open, those of probes included.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.borrow().iter().filter(|one| !one.is_finished()).count()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Call {
    /// Sends the body back and ends with status 0.
    pub(crate) async fn echo(mut self) {
        let Ok(mut answer) = self.respond.send_response(grpc_head(), false) else { return };
        while let Some(Ok(chunk)) = self.body.data().await {
            let _gone = self.body.flow_control().release_capacity(chunk.len());
            if !send_all(&mut answer, chunk).await {
                return;
            }
        }
        let _gone = answer.send_trailers(status_trailers("0"));
    }

    /// Begins an answer.
    pub(crate) fn begin(&mut self) -> SendStream<Bytes> {
        self.respond.send_response(grpc_head(), false).expect("a stream that is open")
    }

    /// Reads the body to its end; `None` if it was broken off.
    pub(crate) async fn read(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.body.data().await {
            let chunk = chunk.ok()?;
            let _gone = self.body.flow_control().release_capacity(chunk.len());
            bytes.extend_from_slice(&chunk);
        }
        Some(bytes)
    }

    /// Refuses as a guard does, before it has read any of the body.
    pub(crate) fn refuse_write(mut self, word: &'static str, epoch: Option<u64>) {
        let mut head = grpc_head();
        head.headers_mut().extend(status_trailers("14"));
        head.headers_mut().insert("x-hashroute-refusal", HeaderValue::from_static(word));
        head.headers_mut().insert("x-hashroute-outcome", HeaderValue::from_static("not-applied"));
        if let Some(epoch) = epoch {
            head.headers_mut().insert("x-hashroute-epoch", HeaderValue::from(epoch));
        }
        let _gone = self.respond.send_response(head, true);
    }

    /// Reads the body and answers with trailers alone.
    pub(crate) async fn refuse(mut self, status: &'static str) {
        self.read().await;
        let mut head = grpc_head();
        head.headers_mut().extend(status_trailers(status));
        let _gone = self.respond.send_response(head, true);
    }
}

/// Sends all of `chunk` as the caller's windows allow; false if it is gone.
pub(crate) async fn send_all(to: &mut SendStream<Bytes>, mut chunk: Bytes) -> bool {
    while !chunk.is_empty() {
        to.reserve_capacity(chunk.len());
        while to.capacity() == 0 {
            match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
        let part = chunk.split_to(to.capacity().min(chunk.len()));
        if to.send_data(part, false).is_err() {
            return false;
        }
    }
    true
}

/// Trailers with a status, and metadata to be recognised by.
pub(crate) fn status_trailers(status: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("x-trailing-bin", HeaderValue::from_static("AAEC"));
    trailers
}

fn grpc_head() -> Response<()> {
    let mut head = Response::new(());
    let headers = head.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.append("x-initial", HeaderValue::from_static("one"));
    headers.append("x-initial", HeaderValue::from_static("two"));
    head
}

async fn accept(listener: TcpListener, state: Rc<State>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let task = spawn_local(serve(stream, Rc::clone(&state)));
        state.connections.borrow_mut().push(task.abort_handle());
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, state: Rc<State>) {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(state.streams_max.get()).initial_window_size(state.window.get());
    builder.initial_connection_window_size(1 << 26);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else { return };
    let mut goodbye = state.goodbye.subscribe();
    let mut is_leaving = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            changed = goodbye.changed(), if !is_leaving => {
                assert!(changed.is_ok());
                is_leaving = true;
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (parts, body) = request.into_parts();
        let head = Request::from_parts(parts, ());
        if head.uri().path().starts_with("/grpc.health.v1.Health/") {
            answer_health(respond, state.is_serving.get());
            continue;
        }
        let mut copy = Request::new(());
        *copy.uri_mut() = head.uri().clone();
        *copy.headers_mut() = head.headers().clone();
        state.heads.borrow_mut().push(copy);
        (state.behaviour)(Call { head, body, respond });
    }
}

fn answer_health(mut respond: SendResponse<Bytes>, is_serving: bool) {
    let status = if is_serving { 1 } else { 2 };
    let Ok(mut answer) = respond.send_response(grpc_head(), false) else { return };
    let _gone = answer.send_data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]), false);
    let _gone = answer.send_trailers(status_trailers("0"));
}
