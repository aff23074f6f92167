//! A pod that answers every gRPC request with its own body: `echo_pod [HOST:PORT]`.
//!
//! Prints the address it listens on. Runs until its standard input ends. The fastest pod that h2
//! can make, so that benchmarks measure what stands before it.
use std::error::Error;
use std::future::poll_fn;
use std::io::Read;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::task::spawn_local;

const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;
const STREAMS_MAX: u32 = 4096;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    std::thread::spawn(|| {
        let _ended = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(async {
        let listener = TcpListener::bind(&address).await?;
        let bound = listener.local_addr()?;
        std::io::Write::write_all(&mut std::io::stdout(), format!("{bound}\n").as_bytes())?;
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(async move {
                // A client that breaks its connection is its own business.
                let _ended = serve(stream).await;
            });
        }
    })
}

async fn serve(stream: TcpStream) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let mut connection = server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .handshake::<_, Bytes>(stream)
        .await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        spawn_local(async move {
            let _ended = echo(request, respond).await;
        });
    }
    Ok(())
}

async fn echo(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    let mut head = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    let mut answer = respond.send_response(head, false)?;
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        send(&mut answer, chunk).await?;
    }
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    answer.send_trailers(trailers)
}

async fn send(answer: &mut SendStream<Bytes>, mut chunk: Bytes) -> Result<(), h2::Error> {
    while !chunk.is_empty() {
        answer.reserve_capacity(chunk.len());
        let mut room = answer.capacity();
        while room == 0 {
            room = match poll_fn(|cx| answer.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Err(h2::Reason::CANCEL.into()),
            };
        }
        answer.send_data(chunk.split_to(room.min(chunk.len())), false)?;
    }
    Ok(())
}
