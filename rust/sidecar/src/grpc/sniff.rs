//! What a new connection speaks, seen from its first bytes.
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What the first bytes of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/2 with prior knowledge, as gRPC without TLS does.
    Http2,
    /// HTTP/1, which gets an answer in kind.
    Http1,
    /// TLS, which could read no answer of ours.
    Tls,
    /// Nothing that is known.
    Unknown,
}

/// Reads until it is clear what the peer speaks. Returns that and what was read; nothing if the
/// peer left first.
pub(crate) async fn sniff(stream: &mut TcpStream) -> Option<(Speaks, Bytes)> {
    let mut first = BytesMut::with_capacity(READ_BYTES);
    loop {
        let read = stream.read_buf(&mut first).await.ok()?;
        if read == 0 {
            return None;
        }
        if let Some(speaks) = classify(&first) {
            return Some((speaks, first.freeze()));
        }
    }
}

/// Judges the first bytes of a connection; nothing if more are needed.
fn classify(first: &[u8]) -> Option<Speaks> {
    let compared = first.len().min(PREFACE.len());
    if first[..compared] == PREFACE[..compared] {
        return (compared == PREFACE.len()).then_some(Speaks::Http2);
    }
    match first {
        [TLS_HANDSHAKE, ..] => Some(Speaks::Tls),
        [letter, ..] if letter.is_ascii_uppercase() => Some(Speaks::Http1),
        [] => None,
        [..] => Some(Speaks::Unknown),
    }
}

/// Tells an HTTP/1 client what this port speaks, and waits a moment for it to close first: closing
/// with unread bytes would reset the connection and could take the answer with it.
pub(crate) async fn refuse_http1(mut stream: TcpStream, patience: Duration) {
    let answer = async {
        stream.write_all(HTTP1_ANSWER.as_bytes()).await?;
        stream.shutdown().await?;
        let mut rest = [0; READ_BYTES];
        for _ in 0..READS_MAX {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // Whatever becomes of the answer, the connection ends here.
    let _done = timeout(patience, answer).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const TLS_HANDSHAKE: u8 = 0x16;
const READ_BYTES: usize = 1024;
const READS_MAX: usize = 64;

const HTTP1_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 135\r\n\
    connection: close\r\n\
    \r\n\
    This port speaks gRPC over HTTP/2 without TLS. \
    Use a gRPC client (or HTTP/2 with prior knowledge); it does not answer HTTP/1 requests.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_http2_only_when_complete() {
        for length in 0..PREFACE.len() {
            assert_eq!(classify(&PREFACE[..length]), None);
        }
        assert_eq!(classify(PREFACE), Some(Speaks::Http2));
        assert_eq!(classify(&[PREFACE, b"\0\0\0\x04"].concat()), Some(Speaks::Http2));
    }

    #[test]
    fn other_protocols_are_told_apart_by_their_first_bytes() {
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), Some(Speaks::Http1));
        assert_eq!(classify(b"PRO"), Some(Speaks::Http1));
        assert_eq!(classify(b"\x16\x03\x01"), Some(Speaks::Tls));
        assert_eq!(classify(b"\xff\0\0\0\0\0\0\0\x01\x7f"), Some(Speaks::Unknown));
    }

    #[test]
    fn the_http1_answer_says_how_long_it_is() {
        let (head, body) = HTTP1_ANSWER.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
