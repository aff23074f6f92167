//! What a port has to put up with: other protocols, garbage, silence, excess.
use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{
    Answer, Call, Client, Options, Pod, frame, run, start, status_trailers, until,
};

/// Sends `bytes` on a fresh connection and reads what comes back until it is closed.
async fn exchange(address: &str, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the sidecar listens");
    stream.write_all(bytes).await.expect("a fresh connection");
    let mut answer = Vec::new();
    // A reset ends the answer as well as a close does.
    let _end = stream.read_to_end(&mut answer).await;
    answer
}

#[test]
fn http1_is_told_what_the_port_speaks() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        for request in ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "POST /a.B/C HTTP/1.1\r\n"] {
            let answer = exchange(&setup.address, request.as_bytes()).await;
            let answer = String::from_utf8(answer).expect("text");
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
            assert!(answer.contains("gRPC over HTTP/2"), "{answer}");
        }
        assert_eq!(setup.snapshot().totals.refused, 2);
        client.unary("k", b"m").await.ok();
    });
}

#[test]
fn tls_and_garbage_are_closed_and_counted() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        assert_eq!(exchange(&setup.address, b"\x16\x03\x01\x02\x00\x01\x00").await, b"");
        assert_eq!(exchange(&setup.address, &[0xff; 4096]).await, b"");
        until("both are counted", || setup.snapshot().totals.refused == 2).await;
        // A good preface and then garbage is answered as HTTP/2 asks: settings, then GOAWAY.
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0xaa; 64]);
        let answer = exchange(&setup.address, &bytes).await;
        assert!(answer.windows(4).any(|part| part == [8, 7, 0, 0] || part[1] == 7), "a GOAWAY");
        client.unary("k", b"m").await.ok();
        until("only the good one is left", || setup.snapshot().totals.connections["grpc"] == 1)
            .await;
    });
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    run(async {
        let pod = Pod::echo().await;
        let mut options = Options::default();
        options.limits["handshake_timeout_ms"] = json!(50);
        let setup = start(&[&pod], options);
        for beginning in [&b""[..], b"PRI * HTTP"] {
            assert_eq!(exchange(&setup.address, beginning).await, b"");
        }
        until("both are gone", || setup.snapshot().totals.connections["grpc"] == 0).await;
    });
}

#[test]
fn a_peer_that_stops_answering_pings_is_let_go() {
    run(async {
        let pod = Pod::echo().await;
        let mut options = Options::default();
        options.limits["keepalive_ms"] = json!(30);
        let setup = start(&[&pod], options);
        // It speaks HTTP/2 at first and then neither reads nor writes.
        let mut stream = TcpStream::connect(&setup.address).await.expect("the sidecar listens");
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream.write_all(hello).await.expect("a fresh connection");
        let mut client = setup.client().await;
        until("it is open", || setup.snapshot().totals.connections["grpc"] == 2).await;
        until("it is gone", || setup.snapshot().totals.connections["grpc"] == 1).await;
        client.unary("k", b"a client that answers pings stays").await.ok();
    });
}

#[test]
fn oversized_headers_end_their_request_and_no_other() {
    run(async {
        let pod = Pod::echo().await;
        let mut options = Options::default();
        options.limits["header_list_bytes"] = json!(4096);
        let setup = start(&[&pod], options);
        let mut client = setup.client().await;
        let answer = call_with_header(&mut client, 8000).await.expect("an answer");
        assert!(answer.error("8", "not-applied").contains("limits.header_list_bytes"));
        // Far beyond the limit headers are not even read: HTTP/2 answers, and then it hangs up.
        let answer = call_with_header(&mut client, 20_000).await.expect("an answer");
        assert_eq!(answer.http, 431, "{answer:?}");
        let mut other = setup.client().await;
        assert!(call_with_header(&mut other, 200_000).await.is_err());
        client.unary("k", b"m").await.ok();
        assert_eq!(pod.received(), 1);
    });
}

async fn call_with_header(client: &mut Client, bytes: usize) -> Result<Answer, h2::Error> {
    let long = "x".repeat(bytes);
    let headers = [("x-hashroute-key", "k"), ("x-long", long.as_str())];
    client.call("/test.Service/Method", &headers, &frame(b"m")).await
}

#[test]
fn keys_of_any_length_find_a_pod() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let mut options = Options::default();
        options.limits["header_list_bytes"] = json!(4 << 20);
        options.routes[0]["key"] = json!([{"metadata": "x-hashroute-key"}, {"field": [1]}]);
        options.retry["buffer_bytes"] = json!(2 << 20);
        let setup = start(&[&pods[0], &pods[1]], options);
        let mut client = setup.client().await;
        client.unary("", b"m").await.ok();
        let mut message = vec![0x0a, 0x80, 0x80, 0x40];
        message.extend(vec![0xfe; 1 << 20]);
        let call = client.call("/test.Service/Method", &[], &frame(&message)).await;
        assert!(unframed(&call.expect("an answer").ok()) == message);
    });
}

fn unframed(answer: &Answer) -> &[u8] {
    super::support::unframe(&answer.body)
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    run(async {
        let pod = Pod::echo().await;
        let mut options = Options::default();
        options.limits["connections_max"] = json!(2);
        let setup = start(&[&pod], options);
        let mut first = setup.client().await;
        let mut second = setup.client().await;
        first.unary("k", b"m").await.ok();
        second.unary("k", b"m").await.ok();
        // One that is served is answered with settings.
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        assert_eq!(exchange(&setup.address, hello).await, b"");
        assert_eq!(setup.snapshot().totals.refused, 1);
        second.cut();
        until("there is room", || setup.snapshot().totals.connections["grpc"] == 1).await;
        setup.client().await.unary("k", b"m").await.ok();
    });
}

#[test]
fn requests_beyond_the_limit_are_refused_and_the_rest_goes_on() {
    run(async {
        let release = std::rc::Rc::new(tokio::sync::Notify::new());
        let released = std::rc::Rc::clone(&release);
        let pod = Pod::start(move |mut call: Call| {
            let released = std::rc::Rc::clone(&released);
            async move {
                call.read().await;
                released.notified().await;
                let mut answer = call.begin();
                let _gone = answer.send_trailers(status_trailers("0"));
            }
        })
        .await;
        let mut options = Options::default();
        options.limits["requests_max"] = json!(2);
        let setup = start(&[&pod], options);
        let mut clients = [setup.client().await, setup.client().await, setup.client().await];
        let mut held = Vec::new();
        for client in &mut clients[..2] {
            let (response, mut to) =
                client.open("/test.Service/Method", &[("x-hashroute-key", "k")]).await;
            to.send_data(frame(b"m").into(), true).expect("an open stream");
            held.push(response);
        }
        until("two are at the pod", || pod.received() == 2).await;
        let answer = clients[2].unary("k", b"m").await;
        assert!(answer.error("8", "not-applied").contains("limits.requests_max"));
        release.notify_waiters();
        for response in held {
            Answer::read(response).await.expect("an answer").ok();
        }
        release.notify_one();
        clients[2].unary("k", b"m").await.ok();
    });
}

#[test]
fn a_client_that_never_reads_is_bounded_and_disturbs_nobody() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        // This one opens streams with large bodies and never reads from its socket again.
        let stream = TcpStream::connect(&setup.address).await.expect("the sidecar listens");
        let (mut sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let driver = tokio::task::spawn_local(async move {
            let _ended = connection.await;
        });
        let mut held = Vec::new();
        for _ in 0..50 {
            sender = sender.ready().await.expect("an open connection");
            let request = http::Request::post("http://service.test/test.Service/Method")
                .header("x-hashroute-key", "k")
                .body(())
                .expect("a request");
            let (response, mut to) = sender.send_request(request, false).expect("a stream");
            to.send_data(Bytes::from(vec![1; 32 << 10]), false).expect("an open stream");
            held.push((response, to));
        }
        until("its requests arrive", || pod.received() == 50).await;
        driver.abort();
        let mut other = Client::connect(&setup.address).await;
        for _ in 0..100 {
            other.unary("k", &[2; 1000]).await.ok();
        }
    });
}
