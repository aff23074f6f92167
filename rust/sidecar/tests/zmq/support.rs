//! Peers that speak ZMTP with blocking sockets, and a sidecar between them.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hashroute_dataplane::zmtp::{
    Command, Decoder, Handshake, Item, Limits, SocketType, encode_frame, encode_pong, frames,
};
use hashroute_sidecar::{Settings, Sidecar, Snapshot};
use serde_json::{Value, json};

use super::quorum::FakeQuorum;

/// The frames of one message.
pub(crate) type Message = Vec<Vec<u8>>;

/// No test waits longer than this for anything: reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection.
pub(crate) struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    unread: Vec<u8>,
}

impl Peer {
    /// Connects as a client does.
    pub(crate) fn connect(address: &str) -> Self {
        let address = address.strip_prefix("tcp://").expect("a TCP address");
        let stream = TcpStream::connect(address).expect("somebody listens");
        Self::greet(stream, SocketType::Dealer).expect("a handshake")
    }

    fn greet(mut stream: TcpStream, local: SocketType) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&Handshake::greeting())?;
        let (mut handshake, mut buffer) = (Handshake::new(local), [0; 4096]);
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let (mut input, mut output) = (&buffer[..count], Vec::new());
            let peer = handshake.feed(&mut input, &mut output).map_err(std::io::Error::other)?;
            stream.write_all(&output)?;
            if peer.is_some() {
                let limits = Limits {
                    message_bytes_max: 1 << 20,
                    message_frames_max: 64,
                    command_bytes_max: 8192,
                };
                let unread = input.to_vec();
                return Ok(Self { stream, decoder: Decoder::new(limits), unread });
            }
        }
    }

    /// Sends one message.
    pub(crate) fn send(&mut self, message: &[&[u8]]) {
        self.try_send(message).expect("an open connection");
    }

    fn try_send(&mut self, message: &[&[u8]]) -> std::io::Result<()> {
        self.stream.write_all(&encode(message))
    }

    /// Waits for the next message; `None` at the end of the connection.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        loop {
            let mut input = &self.unread[..];
            let item = self.decoder.next(&mut input).expect("ZMTP");
            let mut pong = Vec::new();
            let message = match item {
                Some(Item::Message(raw)) => {
                    Some(frames(&raw).map(|frame| frame.body.to_vec()).collect())
                }
                Some(Item::Command(body)) => {
                    if let Ok(Command::Ping { context, .. }) = Command::parse(&body) {
                        encode_pong(&mut pong, context);
                    }
                    None
                }
                Some(Item::Dropped { .. }) => panic!("a message that is too large"),
                None => {
                    let mut buffer = [0; 4096];
                    match self.stream.read(&mut buffer) {
                        Ok(0) | Err(_) => return None,
                        Ok(count) => self.unread = buffer[..count].to_vec(),
                    }
                    continue;
                }
            };
            self.unread = input.to_vec();
            if !pong.is_empty() {
                self.stream.write_all(&pong).ok()?;
            }
            if message.is_some() {
                return message;
            }
        }
    }

    /// Sends a request as REQ does, and waits for the reply without its envelope.
    pub(crate) fn ask(&mut self, content: &[&[u8]]) -> Message {
        self.send(&[&[&b""[..]], content].concat());
        self.answer()
    }

    /// Waits for a reply; returns it without its envelope.
    pub(crate) fn answer(&mut self) -> Message {
        let reply = self.receive().expect("a reply");
        assert_eq!(reply[0], b"", "the envelope comes back");
        reply[1..].to_vec()
    }
}

/// The bytes of a message.
pub(crate) fn encode(message: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, frame) in message.iter().enumerate() {
        encode_frame(&mut bytes, frame, place + 1 < message.len());
    }
    bytes
}

/// What a pod does with a request: the frames after the envelope in, and out.
type Behaviour = dyn Fn(&[Vec<u8>]) -> Reaction + Send + Sync;

/// What becomes of a request at a pod.
pub(crate) enum Reaction {
    Reply(Message),
    /// Nothing, ever.
    Silence,
    /// The connection ends.
    HangUp,
}

/// A server that treats each request as the test says.
pub(crate) struct Pod {
    pub(crate) address: String,
    state: Arc<PodState>,
}

struct PodState {
    behaviour: Box<Behaviour>,
    /// The requests, whole, in the order in which they came.
    received: Mutex<Vec<Message>>,
    streams: Mutex<Vec<TcpStream>>,
    is_over: AtomicBool,
}

impl Pod {
    pub(crate) fn start(
        behaviour: impl Fn(&[Vec<u8>]) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", behaviour)
    }

    pub(crate) fn start_at(
        address: &str,
        behaviour: impl Fn(&[Vec<u8>]) -> Reaction + Send + Sync + 'static,
    ) -> Self {
        let address = address.trim_start_matches("tcp://");
        let listener = TcpListener::bind(address).expect("a free port");
        let address = format!("tcp://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(PodState {
            behaviour: Box::new(behaviour),
            received: Mutex::default(),
            streams: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { return };
                let copy = stream.try_clone().expect("a second handle");
                accepting.streams.lock().expect("a lock").push(copy);
                let state = Arc::clone(&accepting);
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// One that sends the content of each request back.
    pub(crate) fn echo() -> Self {
        Self::start(|content| Reaction::Reply(content.to_vec()))
    }

    /// One whose guard refuses one request after the other with these, and then answers `done`.
    pub(crate) fn refusing(words: &'static [&'static str]) -> Self {
        let count = Mutex::new(0);
        Self::start(move |_| {
            let mut count = count.lock().expect("a lock");
            let word = words.get(*count);
            *count += 1;
            Reaction::Reply(vec![word.map_or_else(|| b"done".to_vec(), |word| refusal(word))])
        })
    }

    /// The requests so far: all their frames.
    pub(crate) fn received(&self) -> Vec<Message> {
        self.state.received.lock().expect("a lock").clone()
    }

    /// Ends it: no more connections, and those that are open are cut.
    pub(crate) fn kill(&self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _gone = TcpStream::connect(self.address.trim_start_matches("tcp://"));
        self.cut();
    }

    /// Cuts the connections that are open.
    pub(crate) fn cut(&self) {
        for stream in self.state.streams.lock().expect("a lock").drain(..) {
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(stream: TcpStream, state: &PodState) {
    let Ok(mut peer) = Peer::greet(stream, SocketType::Router) else { return };
    while let Some(message) = peer.receive() {
        state.received.lock().expect("a lock").push(message.clone());
        let end = message.iter().position(Vec::is_empty).expect("an envelope") + 1;
        match (state.behaviour)(&message[end..]) {
            Reaction::Reply(content) => {
                let envelope = message[..end].iter();
                let reply: Vec<&[u8]> = envelope.chain(&content).map(Vec::as_slice).collect();
                if peer.try_send(&reply).is_err() {
                    return;
                }
            }
            Reaction::Silence => {}
            Reaction::HangUp => {
                let _gone = peer.stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

/// The reply of a guard that refuses.
pub(crate) fn refusal(word: &str) -> Vec<u8> {
    format!("HASHROUTE-ERROR REFUSED outcome=not-applied refusal={word} epoch=3 it may not")
        .into_bytes()
}

/// A sidecar in a quorum.
pub(crate) struct Setup {
    pub(crate) sidecar: Sidecar,
    pub(crate) address: String,
}

/// Starts a router in this quorum; `change` may change the settings.
pub(crate) fn router(quorum: &Arc<FakeQuorum>, change: impl FnOnce(&mut Value)) -> Setup {
    let setup = start(quorum, |document| {
        document["zmq"]["write"] = json!(true);
        document["listen"]["zmq"] = json!("tcp://127.0.0.1:0");
        change(document);
    });
    let address = setup.addresses().zmq.clone().expect("an address");
    Setup { sidecar: setup, address }
}

/// Starts the guard of a pod in this quorum, in front of a service.
pub(crate) fn guard(
    quorum: &Arc<FakeQuorum>,
    service: &str,
    change: impl FnOnce(&mut Value),
) -> Setup {
    let setup = start(quorum, |document| {
        document["zmq"]["write"] = json!(true);
        document["guard"] = json!({
            "grpc": null, "untagged": "reject",
            "zmq": {"listen": "tcp://127.0.0.1:0", "service": service},
        });
        change(document);
    });
    let address = setup.addresses().guard_zmq.clone().expect("an address");
    Setup { sidecar: setup, address }
}

impl Setup {
    pub(crate) fn client(&self) -> Peer {
        Peer::connect(&self.address)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.sidecar.snapshot()
    }
}

fn start(quorum: &Arc<FakeQuorum>, change: impl FnOnce(&mut Value)) -> Sidecar {
    let mut document = json!({
        "view": {
            "version": 1, "epoch": 1, "slots": 1024, "epsilon": 0.05, "seed": 0,
            "pods": [{
                "id": "pod-0", "weight": 1.0, "zone": null, "state": "active",
                "addresses": {"grpc": null, "zmq": "tcp://127.0.0.1:1"},
            }],
        },
        "listen": {"grpc": null, "zmq": null},
        "routes": [],
        "zmq": {
            "key_frame": 0, "idempotent": false, "envelope": "delimited",
            "request_timeout_ms": 60000, "message_bytes_max": 100_000, "on_missing": "reject",
        },
        "health": {"interval_ms": 50, "timeout_ms": 5000, "probe": "grpc", "service": ""},
        "load": {"c": 1.25, "floor": 16},
        "retry": {
            "attempts_max": 3, "budget_ratio": 0.2, "budget_reserve": 256, "buffer_bytes": 65536,
        },
        "limits": {
            "connections_max": 100, "requests_max": 1000, "header_list_bytes": 65536,
            "handshake_timeout_ms": 10000, "keepalive_ms": 10000, "stream_window_bytes": 65536,
        },
        "writes": {"patience_ms": 60000},
    });
    change(&mut document);
    let settings = Settings::from_json(&document.to_string()).expect("settings");
    Sidecar::start_with(settings, Arc::clone(quorum) as _).expect("a sidecar")
}

/// Waits until `holds` does, and says what was waited for if it never does.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "never happened: {what}");
        thread::yield_now();
    }
}
