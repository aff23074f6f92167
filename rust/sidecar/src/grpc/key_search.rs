//! The search for a routing key in the body of a request, before the request has a pod.
use std::future::poll_fn;
use std::task::Poll;

use hashroute_core::hash_key;
use hashroute_dataplane::grpc::FrameReader;
use hashroute_dataplane::key::{Body, KeyLookup, KeySearch, MissingKey};

use super::body::RequestBody;
use super::deadline::Deadline;
use super::head::Head;

/// Why a search was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    CallerGone,
    DeadlinePassed,
}

/// Reads the body until `search` has an answer, but no more than `bytes_max` of it. Returns the
/// hash of the key.
pub(super) async fn search_body(
    mut search: KeySearch<'_>,
    head: &Head,
    body: &mut RequestBody,
    deadline: &mut Deadline,
    bytes_max: usize,
) -> Result<Result<u64, MissingKey>, Interrupted> {
    let mut frames = FrameReader::new(usize::MAX);
    let mut bytes = 0;
    let mut message_bytes_wanted = 0;
    loop {
        let chunk = poll_fn(|cx| match deadline.poll_passed(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Interrupted::DeadlinePassed)),
            Poll::Pending => body.poll_read_ahead(cx).map_err(|_| Interrupted::CallerGone),
        })
        .await?;
        let is_end = chunk.is_none();
        if let Some(chunk) = chunk {
            bytes += chunk.len();
            frames.push(&chunk);
        }
        let shown = show(&frames, is_end, bytes >= bytes_max);
        if let Body::Message { arrived, .. } = shown
            && arrived.len() < message_bytes_wanted
        {
            continue;
        }
        match search.advance(head, shown) {
            KeyLookup::Found(key) => return Ok(Ok(hash_key(key.as_bytes()))),
            KeyLookup::Missing(missing) => return Ok(Err(missing)),
            KeyLookup::NeedsBody { message_bytes } => message_bytes_wanted = message_bytes,
        }
    }
}

/// What is known of the first message.
fn show(frames: &FrameReader, is_end: bool, is_full: bool) -> Body<'_> {
    let Ok(frame) = frames.peek() else { return Body::Unframed };
    match frame {
        Some((header, _)) if header.compressed => Body::Compressed,
        Some((header, arrived)) if arrived.len() == header.message_bytes => {
            Body::Message { arrived, message_bytes: header.message_bytes }
        }
        // A message that is cut short by the end of its request is none.
        Some(_) if is_end => Body::Unframed,
        Some(_) if is_full => Body::TooLong,
        Some((header, arrived)) => Body::Message { arrived, message_bytes: header.message_bytes },
        None if is_end && frames.is_empty() => Body::Absent,
        None if is_end => Body::Unframed,
        None => Body::Unread,
    }
}
