//! Load for the gRPC benchmark: unary calls with 1,024 random keys over one HTTP/2 connection.
//!
//! `grpc_load ADDRESS OUTSTANDING SECONDS` keeps OUTSTANDING calls in flight and prints one line of
//! JSON: the calls made and failed, the rate, and the latency that callers saw after a warm-up.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Failure = Box<dyn Error + Send + Sync>;

const KEY_COUNT: usize = 1024;
const MESSAGE_BYTES: usize = 256;
/// The calls of this part of a run warm up both ends; their latency is not reported.
const WARM_UP: f64 = 0.2;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, outstanding, seconds] = arguments.as_slice() else {
        return Err("expected: ADDRESS OUTSTANDING SECONDS".into());
    };
    let (outstanding, seconds): (usize, f64) = (outstanding.parse()?, seconds.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let line =
        runtime.block_on(load(address, outstanding, Duration::try_from_secs_f64(seconds)?))?;
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

async fn load(address: &str, outstanding: usize, length: Duration) -> Result<String, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);

    let start = Instant::now();
    let mut callers = JoinSet::new();
    for number in 0..outstanding {
        let mut caller = Caller::new(address, client.clone(), number)?;
        callers.spawn(async move {
            caller.call_until(start, length).await?;
            Ok::<_, Failure>(caller.tally)
        });
    }
    let mut total = Tally::default();
    while let Some(finished) = callers.join_next().await {
        total.add(finished??);
    }
    total.line(start.elapsed())
}

/// One of the calls in flight: makes the next call when the last one is answered.
struct Caller {
    client: SendRequest<Bytes>,
    uri: String,
    keys: Vec<HeaderValue>,
    next_key: usize,
    message: Bytes,
    tally: Tally,
}

impl Caller {
    fn new(address: &str, client: SendRequest<Bytes>, number: usize) -> Result<Self, Failure> {
        let mut message = vec![0, 0, 0, 0, 0];
        message[1..5].copy_from_slice(&u32::try_from(MESSAGE_BYTES)?.to_be_bytes());
        message.resize(5 + MESSAGE_BYTES, b'x');
        Ok(Self {
            client,
            uri: format!("http://{address}/bench.Echo/Unary"),
            keys: random_keys()?,
            // Callers start apart, so that at no moment all of them ask for the same key.
            next_key: number * 17,
            message: message.into(),
            tally: Tally::default(),
        })
    }

    async fn call_until(&mut self, start: Instant, length: Duration) -> Result<(), Failure> {
        let warm = start + length.mul_f64(WARM_UP);
        let end = start + length;
        let mut sent_at = Instant::now();
        while sent_at < end {
            let answered = self.call().await?;
            let now = Instant::now();
            self.tally.calls += 1;
            self.tally.failed += u64::from(!answered);
            if sent_at >= warm {
                self.tally.latencies.push(now - sent_at);
            }
            sent_at = now;
        }
        Ok(())
    }

    /// Returns whether the call ended in grpc-status 0; an error means that the connection is gone.
    async fn call(&mut self) -> Result<bool, Failure> {
        let key = self.keys[self.next_key % KEY_COUNT].clone();
        self.next_key += 1;
        let request = Request::post(&self.uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-hashroute-key", key)
            .body(())?;
        let mut client = self.client.clone().ready().await?;
        let (response, mut upload) = client.send_request(request, false)?;
        upload.send_data(self.message.clone(), true)?;
        match answer(response).await {
            Ok(is_ok) => Ok(is_ok),
            Err(error) if error.is_reset() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

async fn answer(response: h2::client::ResponseFuture) -> Result<bool, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    while let Some(chunk) = body.data().await {
        let length = chunk?.len();
        body.flow_control().release_capacity(length)?;
    }
    let trailers = body.trailers().await?.unwrap_or(head.headers);
    Ok(trailers.get("grpc-status").is_some_and(|status| status == "0"))
}

#[derive(Default)]
struct Tally {
    calls: u64,
    failed: u64,
    latencies: Vec<Duration>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.latencies.extend(other.latencies);
    }

    fn line(mut self, elapsed: Duration) -> Result<String, Failure> {
        self.latencies.sort_unstable();
        let microseconds = |thousandths: usize| {
            let index = self.latencies.len() * thousandths / 1000;
            let latency = self.latencies.get(index).ok_or("no call after the warm-up")?;
            Ok::<_, Failure>(latency.as_secs_f64() * 1e6)
        };
        let line = serde_json::json!({
            "calls": self.calls,
            "failed": self.failed,
            "elapsed_s": elapsed.as_secs_f64(),
            "p50_us": microseconds(500)?,
            "p99_us": microseconds(990)?,
        });
        Ok(line.to_string())
    }
}

/// Keys of 16 hexadecimal digits, the same in every run.
fn random_keys() -> Result<Vec<HeaderValue>, Failure> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut keys = Vec::with_capacity(KEY_COUNT);
    for _ in 0..KEY_COUNT {
        // Marsaglia's xorshift: any spread-out numbers do, only equal in every run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        keys.push(HeaderValue::from_str(&format!("{state:016x}"))?);
    }
    Ok(keys)
}
