//! What every parser of bytes from outside promises, whatever the bytes.
//!
//! Each function is the body of a fuzz target (`tools/fuzz.sh`, nightly compiler) and of a bounded,
//! seeded test (`rust/dataplane/tests/fuzz.rs`, any compiler). None may panic, loop, or disagree
//! with itself about a stream that was cut elsewhere.

use hashroute_core::View;
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::grpc::{
    Frame, FrameError, FrameReader, Status, format_timeout, parse_timeout, percent_encode_message,
    serving_status,
};
use hashroute_dataplane::key::{Body, KeyLookup, KeySearch, KeySource, KeySources, MetadataName};
use hashroute_dataplane::key::{MissingKey, RequestHead};
use hashroute_dataplane::protobuf::{FieldLookup, FieldPath, FieldScan};
use hashroute_dataplane::route::Pattern;
use hashroute_dataplane::write::{GroupName, Tag, TagParts, parse_number};
use hashroute_dataplane::zmtp::{
    Command, Decoder, ErrorReply, Handshake, Item, Limits, Peer, SocketType, Violation, frames,
    nth_frame, same_frames, split_envelope, split_tag,
};

const PATHS: [&[u32]; 8] =
    [&[1], &[2], &[3, 1], &[5, 2], &[1, 1, 1], &[16], &[1, 2, 3, 4], &[1, 1, 1, 1, 1, 1, 1, 1]];

/// A message that arrives in pieces gives the same field as one that arrives whole.
pub fn field_scan(data: &[u8]) {
    let Some(([choice, step], message)) = data.split_first_chunk::<2>() else { return };
    let path = FieldPath::new(PATHS[usize::from(*choice) % PATHS.len()]).expect("a valid path");
    let whole = FieldScan::new(&path).advance(message, message.len());
    assert!(!matches!(whole, FieldLookup::NeedMore { .. }), "a whole message is all there is");
    let mut scan = FieldScan::new(&path);
    for end in (0..message.len()).step_by(usize::from(*step).max(1)) {
        let early = scan.advance(&message[..end], message.len());
        let FieldLookup::NeedMore { message_bytes } = early else {
            return assert_eq!(early, whole);
        };
        assert!(message_bytes > end);
    }
    assert_eq!(scan.advance(message, message.len()), whole);
    let _ = serving_status(message);
}

/// A stream of gRPC frames means the same however it is cut, and loses no byte.
pub fn grpc_frames(data: &[u8]) {
    let Some(([limit, step], stream)) = data.split_first_chunk::<2>() else { return };
    let message_bytes_max = usize::from(*limit) * 16;
    let whole = read_frames([stream].into_iter(), message_bytes_max);
    assert_eq!(read_frames(stream.chunks(usize::from(*step).max(1)), message_bytes_max), whole);
    let taken: usize = whole.0.iter().map(|frame| 5 + frame.message.len()).sum();
    assert!(taken <= stream.len());
}

fn read_frames<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    message_bytes_max: usize,
) -> (Vec<Frame>, Option<FrameError>) {
    let mut reader = FrameReader::new(message_bytes_max);
    let mut read = Vec::new();
    for piece in pieces {
        reader.push(piece);
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => read.push(frame),
                Ok(None) => break,
                Err(error) => return (read, Some(error)),
            }
        }
    }
    (read, None)
}

/// The texts in gRPC headers: what is read can be written and read again.
pub fn grpc_text(data: &[u8]) {
    if let Ok(timeout) = parse_timeout(data) {
        let again = parse_timeout(format_timeout(timeout).as_bytes());
        assert!(again.expect("what is written can be read") >= timeout);
    }
    let message = String::from_utf8_lossy(data);
    let encoded = percent_encode_message(&message);
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
    assert!(encoded.as_bytes().iter().all(is_plain));
    let special = message.bytes().filter(|byte| !is_plain(byte) || *byte == b'%').count();
    assert_eq!(encoded.matches('%').count(), special);
    assert!(Status::ALL.contains(&Status::parse(data)));
    if let Some(group) = GroupName::decode(data) {
        assert_eq!(group.encoded().as_bytes(), data);
    }
    let parts = TagParts { slot: Some(data), group: None, epoch: Some(data), term: Some(data) };
    let tag = Tag::from_parts(parts).ok().flatten();
    assert_eq!(tag.is_some(), parse_number(data).is_some_and(|number| number <= u32::MAX.into()));
}

struct Head<'a>(&'a [u8]);

impl RequestHead for Head<'_> {
    fn path(&self) -> &[u8] {
        self.0
    }

    fn metadata(&self, _name: &str) -> Option<&[u8]> {
        Some(self.0)
    }

    fn peer(&self) -> &[u8] {
        self.0
    }
}

/// Every request has a key, or an account of why not.
pub fn key_search(data: &[u8]) {
    let Some(([choice, ..], data)) = data.split_first_chunk::<1>() else { return };
    let path = FieldPath::new(PATHS[usize::from(*choice) % PATHS.len()]).expect("a valid path");
    let name = MetadataName::new("x-key-bin").expect("a valid name");
    let sources = KeySources::new(vec![KeySource::Metadata(name), KeySource::Field(path)]);
    let sources = sources.expect("two sources");
    let body = Body::Message { arrived: data, message_bytes: data.len() };
    match KeySearch::new(&sources).advance(&Head(data), body) {
        KeyLookup::Found(key) => assert!(key.as_bytes().len() <= data.len().max(8)),
        KeyLookup::NeedsBody { .. } => panic!("a whole message is all there is"),
        KeyLookup::Missing(MissingKey { misses }) => assert_eq!(misses.len(), 2),
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(pattern) = Pattern::new(text)
    {
        assert_eq!(pattern.to_string(), text);
        assert!(pattern.matches(data));
    }
}

/// A view that can be read is written as a document that means the same.
pub fn view_json(data: &[u8]) {
    let Ok(document) = str::from_utf8(data) else { return };
    match View::from_json(document) {
        Ok(view) => {
            let written = view.to_json();
            let again = View::from_json(&written).expect("what is written can be read");
            assert_eq!(again, view);
            assert_eq!(again.to_json(), written);
        }
        Err(error) => assert!(!error.to_string().is_empty() && !error.code().is_empty()),
    }
}

/// A handshake ends the same way however it is cut, and leaves the same bytes behind.
pub fn zmtp_handshake(data: &[u8]) {
    let Some((step, stream)) = data.split_first() else { return };
    let whole = shake([stream].into_iter());
    let pieces = shake(stream.chunks(usize::from(*step).max(1)));
    assert_eq!(pieces, whole);
}

type Shaken = (Option<Result<Peer, &'static str>>, Vec<u8>, usize);

/// How the handshake ended, what it sent, and how many bytes it took.
fn shake<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Shaken {
    let mut handshake = Handshake::new(SocketType::Router);
    let (mut output, mut taken) = (Vec::new(), 0);
    for piece in pieces {
        let mut input = piece;
        let result = handshake.feed(&mut input, &mut output);
        taken += piece.len() - input.len();
        match result {
            Ok(None) => assert!(input.is_empty(), "a handshake takes what it needs"),
            Ok(Some(peer)) => return (Some(Ok(peer)), output, taken),
            // How much was taken of a stream that is refused means nothing, and the text of the
            // refusal may show as much of it as had arrived.
            Err(violation) => return (Some(Err(violation.code())), output, 0),
        }
    }
    (None, output, taken)
}

/// What a decoder told, with nothing borrowed.
#[derive(Debug, PartialEq)]
enum Told {
    Message(Vec<u8>),
    Command(Vec<u8>),
    Dropped(Vec<u8>),
    Violation(Violation),
}

/// A stream of ZMTP frames means the same however it is cut, within the limits.
pub fn zmtp_decoder(data: &[u8]) {
    let Some(([limit, step], stream)) = data.split_first_chunk::<2>() else { return };
    let limits = Limits {
        message_bytes_max: usize::from(*limit) * 8,
        message_frames_max: usize::from(*limit % 16) + 1,
        command_bytes_max: 64,
    };
    let whole = decode([stream].into_iter(), limits);
    assert_eq!(decode(stream.chunks(usize::from(*step).max(1)), limits), whole);
    for told in &whole {
        match told {
            Told::Message(message) => take_apart(message),
            Told::Command(body) => drop(Command::parse(body).map(|command| format!("{command:?}"))),
            Told::Dropped(head) => take_apart(head),
            Told::Violation(violation) => assert!(!violation.to_string().is_empty()),
        }
    }
}

/// What a relay does with a message: finds its envelope, and answers an error into it.
fn take_apart(message: &[u8]) {
    let count = frames(message).count();
    assert!(nth_frame(message, count).is_none());
    let _ = ErrorReply::parse(message);
    let Some(envelope) = split_envelope(message) else { return };
    assert_eq!([envelope.frames, envelope.content].concat(), message);
    let (code, outcome) = (ErrorCode::Unavailable, Outcome::Unknown);
    let error = ErrorReply { code, outcome, refused: None, text: "no pod".to_owned() };
    let reply = error.encode(envelope.frames);
    assert!(same_frames(envelope.frames, &reply));
    let content = frames(&reply).last().map(|frame| frame.body);
    assert_eq!(content.and_then(ErrorReply::parse), Some(error));
    let (tag, rest) = split_tag(envelope.content);
    assert!(envelope.content.ends_with(rest));
    if let Some(Ok(Some(tag))) = tag.map(Tag::from_frame) {
        assert_eq!(Tag::from_frame(tag.to_frame().as_bytes()), Ok(Some(tag)));
    }
}

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>, limits: Limits) -> Vec<Told> {
    let mut decoder = Decoder::new(limits);
    let mut told = Vec::new();
    for piece in pieces {
        let mut input = piece;
        loop {
            told.push(match decoder.next(&mut input) {
                Ok(Some(Item::Message(raw))) => Told::Message(raw.into_owned()),
                Ok(Some(Item::Command(body))) => Told::Command(body.into_owned()),
                Ok(Some(Item::Dropped { head, .. })) => Told::Dropped(head),
                Ok(None) => break,
                Err(violation) => {
                    told.push(Told::Violation(violation));
                    return told;
                }
            });
        }
        assert!(input.is_empty(), "a decoder takes all that it is given");
    }
    told
}
