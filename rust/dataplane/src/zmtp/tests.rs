//! The codec against a stream cut anywhere, a slow twin, and noise.

use core::time::Duration;
use std::borrow::Cow;
use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::error::{ErrorCode, Outcome};
use crate::refusal::{Refusal, Refused};

const LIMITS: Limits =
    Limits { message_bytes_max: 4096, message_frames_max: 16, command_bytes_max: 512 };

/// What a stream means, with nothing borrowed.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    Message(Vec<u8>),
    Command(Vec<u8>),
    Dropped(Vec<u8>, Oversize),
    Violation(Violation),
}

fn decode(pieces: &[&[u8]], limits: Limits) -> Vec<Told> {
    let mut decoder = Decoder::new(limits);
    let mut told = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match decoder.next(&mut input) {
                Ok(Some(Item::Message(raw))) => told.push(Told::Message(raw.into_owned())),
                Ok(Some(Item::Command(body))) => told.push(Told::Command(body.into_owned())),
                Ok(Some(Item::Dropped { head, reason })) => told.push(Told::Dropped(head, reason)),
                Ok(None) => break,
                Err(violation) => {
                    told.push(Told::Violation(violation));
                    return told;
                }
            }
        }
        assert!(input.is_empty(), "the decoder left {} bytes", input.len());
        assert!(decoder.held_bytes() <= limits.message_bytes_max + limits.command_bytes_max + 18);
    }
    told
}

fn cut(stream: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|at| at % (stream.len() + 1)).collect();
    cuts.sort_unstable();
    let mut from = 0;
    let mut pieces = Vec::new();
    for at in cuts.into_iter().chain([stream.len()]) {
        pieces.push(stream[from..at].to_vec());
        from = at;
    }
    pieces
}

fn message(bodies: &[&[u8]]) -> Vec<u8> {
    let mut raw = Vec::new();
    for (index, body) in bodies.iter().enumerate() {
        encode_frame(&mut raw, body, index + 1 < bodies.len());
    }
    raw
}

fn ping() -> Vec<u8> {
    let mut raw = Vec::new();
    encode_ping(&mut raw, Duration::from_secs(3));
    raw
}

/// A peer's side of the handshake.
fn opening(socket_type: &[u8], identity: &[u8]) -> Vec<u8> {
    let mut body = b"\x05READY".to_vec();
    for (name, value) in [(&b"socket-type"[..], socket_type), (b"Identity", identity)] {
        body.push(name.len().try_into().unwrap());
        body.extend_from_slice(name);
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value);
    }
    let mut bytes = Handshake::greeting().to_vec();
    bytes.push(0x06);
    bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn shake(local: SocketType, bytes: &[u8]) -> (Result<Option<Peer>, Violation>, Vec<u8>) {
    let mut output = Vec::new();
    (Handshake::new(local).feed(&mut &*bytes, &mut output), output)
}

#[test]
fn our_greeting_is_the_one_of_the_specification() {
    let greeting = Handshake::greeting();
    assert_eq!(&greeting[..12], b"\xFF\0\0\0\0\0\0\0\0\x7F\x03\x01");
    assert_eq!(&greeting[12..32], b"NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&greeting[32..], [0; 32]);
}

#[test]
fn a_handshake_ends_in_the_peer_and_leaves_the_messages_behind_it() {
    let mut bytes = opening(b"DEALER", b"me");
    bytes.extend_from_slice(&message(&[b"", b"key"]));
    let mut input = &bytes[..];
    let mut output = Vec::new();
    let peer = Handshake::new(SocketType::Router).feed(&mut input, &mut output).unwrap();
    let expected =
        Peer { socket_type: SocketType::Dealer, identity: b"me".to_vec(), answers_ping: true };
    assert_eq!(peer, Some(expected));
    assert_eq!(input, message(&[b"", b"key"]));
    assert!(output.starts_with(b"\x04"), "READY follows the greeting");
    let ready = Command::parse(&output[2..]).unwrap();
    assert_eq!(ready, Command::Ready { socket_type: b"ROUTER", identity: b"" });
}

#[test]
fn strangers_are_turned_away_with_the_reason() {
    let greeting = Handshake::greeting();
    let revision = |byte| {
        let mut bytes = greeting;
        bytes[10] = byte;
        bytes.to_vec()
    };
    let mut curve = greeting.to_vec();
    curve[12..17].copy_from_slice(b"CURVE");
    for (bytes, code) in [
        (b"GET / HTTP/1.1\r\n".to_vec(), "not_zmtp"),
        (b"\xFFnothing like it".to_vec(), "not_zmtp"),
        (b"\x01\x00".to_vec(), "old_version"),
        (revision(0), "old_version"),
        (revision(1), "old_version"),
        (curve, "mechanism"),
        (opening(b"SUB", b""), "socket_type"),
        (opening(b"REP", b""), "socket_type"),
        (opening(b"", b""), "socket_type"),
        (opening(b"REQ", &[7; 256]), "malformed"),
        ([&greeting[..], b"\x00\x01x"].concat(), "malformed"),
        ([&greeting[..], b"\x04\x09\x05ERROR\x02no"].concat(), "refused"),
        ([&greeting[..], &ping()].concat(), "malformed"),
        ([&greeting[..], b"\x06\0\0\0\0\x7f\0\0\0"].concat(), "malformed"),
    ] {
        let violation = shake(SocketType::Router, &bytes).0.unwrap_err();
        assert_eq!(violation.code(), code, "{violation}");
    }
    let (result, output) = shake(SocketType::Dealer, &opening(b"REQ", b""));
    assert_eq!(
        result.unwrap_err().to_string(),
        "a peer of type REQ cannot talk to a DEALER socket, expected one of REP, DEALER, ROUTER"
    );
    assert!(output.windows(5).any(|word| word == b"ERROR"), "the peer is told why");
}

#[test]
fn a_stranger_is_recognised_by_its_first_two_bytes() {
    assert!(shake(SocketType::Router, b"G").0.is_ok());
    assert!(shake(SocketType::Router, b"GE").0.is_err());
}

#[test]
fn heartbeats_carry_their_ttl_and_context() {
    let raw = ping();
    let told = Command::parse(&raw[2..]).unwrap();
    assert_eq!(told, Command::Ping { ttl: Duration::from_secs(3), context: b"" });
    let mut raw = Vec::new();
    encode_pong(&mut raw, b"ctx");
    assert_eq!(Command::parse(&raw[2..]).unwrap(), Command::Pong { context: b"ctx" });
    assert!(Command::parse(b"\x04PONG12345678901234567").is_err());
    assert!(Command::parse(b"\x04PING\0").is_err());
    assert_eq!(Command::parse(b"\x03NEW").unwrap(), Command::Other { name: b"NEW" });
}

#[test]
fn a_ping_between_the_frames_of_a_message_is_taken_out_of_it() {
    let whole = message(&[b"", b"key", b"body"]);
    let mut stream = whole[..2].to_vec();
    stream.extend_from_slice(&ping());
    stream.extend_from_slice(&whole[2..]);
    let told = decode(&[&stream], LIMITS);
    assert_eq!(told, [Told::Command(ping()[2..].to_vec()), Told::Message(whole)]);
}

#[test]
fn a_message_in_one_piece_is_not_copied() {
    let raw = message(&[b"", b"key"]);
    let mut input = &raw[..];
    let item = Decoder::new(LIMITS).next(&mut input).unwrap();
    assert!(matches!(item, Some(Item::Message(Cow::Borrowed(_)))));
}

#[test]
fn what_is_too_large_is_dropped_as_it_comes_and_its_envelope_kept() {
    let large = vec![b'x'; 10_000];
    let stream = [message(&[b"", b"key", &large, b"tail"]), message(&[b"", b"next"])].concat();
    let told = decode(&[&stream], LIMITS);
    let mut head = Vec::new();
    encode_frame(&mut head, b"", true);
    encode_frame(&mut head, b"key", true);
    assert_eq!(
        told,
        [Told::Dropped(head, Oversize::Bytes), Told::Message(message(&[b"", b"next"]))]
    );
    let many = message(&[&b"a"[..]; 17]);
    assert!(matches!(decode(&[&many], LIMITS)[..], [Told::Dropped(_, Oversize::Frames)]));
}

#[test]
fn a_message_that_is_shed_frees_its_bytes_at_once_and_is_still_reported() {
    let limits = Limits { message_bytes_max: 1 << 20, ..LIMITS };
    let stream = message(&[b"", b"key", &vec![1; 100_000], &vec![2; 100_000]]);
    let mut decoder = Decoder::new(limits);
    assert_eq!(decoder.next(&mut &stream[..150_000]).unwrap(), None);
    assert!(decoder.held_bytes() >= 149_000);
    decoder.shed();
    assert!(decoder.held_bytes() < 16);
    let item = decoder.next(&mut &stream[150_000..]).unwrap();
    let Some(Item::Dropped { head, reason: Oversize::Shed }) = item else { panic!("{item:?}") };
    assert_eq!(nth_frame(&head, 1), Some(&b"key"[..]));
    decoder.shed();
    let next = message(&[b"", b"next"]);
    let told = decoder.next(&mut &next[..]).unwrap();
    assert_eq!(told, Some(Item::Message(Cow::Borrowed(&next[..]))), "only one message is shed");
}

#[test]
fn bad_frames_are_violations() {
    for stream in
        [&b"\x08\x00"[..], b"\x05\x00", b"\x02\x80\0\0\0\0\0\0\0", b"\x06\0\0\0\0\x7f\0\0\0"]
    {
        assert!(
            matches!(decode(&[stream], LIMITS)[..], [Told::Violation(Violation::Malformed { .. })]),
            "{stream:?}"
        );
    }
}

#[test]
fn the_key_is_counted_from_the_delimiter() {
    let raw = message(&[b"client", b"id", b"", b"key", b"body"]);
    let split = split_envelope(&raw).unwrap();
    assert_eq!(split.frames, &raw[..14]);
    assert_eq!(nth_frame(split.content, 0), Some(&b"key"[..]));
    assert_eq!(nth_frame(split.content, 1), Some(&b"body"[..]));
    assert_eq!(nth_frame(split.content, 2), None);
    assert_eq!(split_envelope(&message(&[b"key", b"body"])), None);
    let raw = message(&[b"", b""]);
    let split = split_envelope(&raw).unwrap();
    assert_eq!(nth_frame(split.content, 0), Some(&b""[..]), "an empty key is a key");
}

#[test]
fn a_reply_must_begin_with_the_envelope_and_say_something() {
    let envelope = &message(&[b"id", b"", b"x"])[..6];
    assert!(same_frames(envelope, &message(&[b"id", b"", b"answer"])));
    assert!(!same_frames(envelope, &message(&[b"id", b"other", b"answer"])));
    assert!(!same_frames(envelope, &message(&[b"answer"])));
    assert!(!same_frames(envelope, envelope));
    let long = b"\x03\0\0\0\0\0\0\0\x02id\x01\x00\x00\x01x";
    assert!(same_frames(envelope, long), "a long length means the same");
    assert!(!same_frames(envelope, &long[..13]), "but it says nothing");
    assert!(same_frames(b"", &message(&[b"answer"])));
}

#[test]
fn the_number_is_split_off_only_if_something_follows() {
    assert_eq!(split_first_frame(&message(&[b"one"])), None);
    let raw = message(&[b"one", b"two"]);
    assert_eq!(split_first_frame(&raw), Some((&b"one"[..], &raw[5..])));
}

#[test]
fn an_error_reply_is_the_envelope_and_exactly_one_frame() {
    let error = ErrorReply {
        code: ErrorCode::Unavailable,
        outcome: Outcome::Unknown,
        refused: None,
        text: "the pod was lost".to_owned(),
    };
    // The envelope of a message that ended with its delimiter: no flag says that more follows.
    let reply = error.encode(&message(&[b"id", b""]));
    assert_eq!(
        reply,
        message(&[b"id", b"", b"HASHROUTE-ERROR UNAVAILABLE outcome=unknown the pod was lost"])
    );
    assert_eq!(ErrorReply::parse(nth_frame(&reply, 2).unwrap()), Some(error));
    assert_eq!(ErrorReply::parse(b"HASHROUTE-ERROR TEAPOT outcome=unknown x"), None);
    assert_eq!(ErrorReply::parse(b"HASHROUTE-ERRORUNAVAILABLE outcome=unknown x"), None);
    assert_eq!(ErrorReply::parse(b"a pod's answer"), None);
}

#[test]
fn a_refusal_travels_in_an_error_reply() {
    for (wire, refused) in [
        ("refusal=not-owner epoch=12 it is pod-b's", Some((Refusal::NotOwner, Some(12)))),
        ("refusal=no-lease it is pod-b's", Some((Refusal::NoLease, None))),
        ("it is pod-b's", None),
    ] {
        let refused = refused.map(|(refusal, epoch)| Refused {
            refusal,
            epoch: epoch.map(hashroute_core::Epoch::new),
        });
        let (code, outcome) = (ErrorCode::Refused, Outcome::NotApplied);
        let error = ErrorReply { code, outcome, refused, text: "it is pod-b's".to_owned() };
        assert_eq!(
            error.to_string(),
            format!("HASHROUTE-ERROR REFUSED outcome=not-applied {wire}")
        );
        assert_eq!(ErrorReply::parse(error.to_string().as_bytes()), Some(error));
    }
    // What is not exactly a refusal is text.
    for text in ["refusal=nonsense x", "refusal= x", "epoch=1 x"] {
        let reply = format!("HASHROUTE-ERROR REFUSED outcome=not-applied {text}");
        let read = ErrorReply::parse(reply.as_bytes()).unwrap();
        assert_eq!((read.refused, read.text.as_str()), (None, text));
    }
}

#[test]
fn a_tag_is_the_first_frame_after_the_envelope_and_leaves_a_message_behind() {
    let tag = b"hashroute/1 slot=5 epoch=2 term=1".as_slice();
    let raw = message(&[tag, b"key", b"body"]);
    assert_eq!(split_tag(&raw), (Some(tag), &message(&[b"key", b"body"])[..]));
    assert_eq!(split_tag(&message(&[tag])), (Some(tag), &b""[..]));
    let untagged = message(&[b"key", tag]);
    assert_eq!(split_tag(&untagged), (None, &untagged[..]));
    assert_eq!(split_tag(b""), (None, &b""[..]));
    // An envelope that was a whole message gets a tag behind it, and becomes one again.
    let envelope = message(&[b"id", b""]);
    let mut tagged = Vec::new();
    encode_envelope(&mut tagged, &envelope, true);
    encode_frame(&mut tagged, tag, false);
    assert_eq!(tagged, message(&[b"id", b"", tag]));
    let mut plain = Vec::new();
    encode_envelope(&mut plain, split_envelope(&tagged).unwrap().frames, false);
    assert_eq!(plain, envelope);
}

#[test]
fn a_late_answer_finds_nobody() {
    let mut table = InFlight::default();
    let first = table.insert(Duration::from_secs(1), "a").unwrap();
    let second = table.renew(first).unwrap();
    assert_eq!(table.get(first), None, "the first attempt's answer is late");
    assert_eq!(table.remove(second), Some("a"));
    let reused = table.insert(Duration::from_secs(1), "b").unwrap();
    assert_eq!((table.remove(first), table.remove(second)), (None, None));
    assert_eq!(RequestId::from_bytes(&reused.to_bytes()), Some(reused));
    assert_eq!(RequestId::from_bytes(b"short"), None);
}

#[test]
fn a_request_with_a_shorter_time_to_live_expires_after_the_older_ones_ended() {
    let mut table = InFlight::default();
    let old = table.insert(Duration::from_secs(30), "old").unwrap();
    table.insert(Duration::from_secs(1), "new").unwrap();
    assert_eq!(table.expire(Duration::from_secs(2)), None);
    assert_eq!(table.remove(old), Some("old"));
    assert_eq!(table.expire(Duration::from_secs(2)), Some("new"));
}

fn stream_of_frames() -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), 250..260),
        1 => prop::collection::vec(any::<u8>(), 4000..5000),
    ];
    let part = prop_oneof![
        9 => (body, any::<bool>()).prop_map(|(body, more)| {
            let mut raw = Vec::new();
            encode_frame(&mut raw, &body, more);
            raw
        }),
        1 => Just(ping()),
    ];
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

#[derive(Clone, Debug)]
enum Step {
    Insert,
    Renew(usize),
    Remove(usize),
    Expire(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Insert),
        2 => (0..8_usize).prop_map(Step::Renew),
        3 => (0..8_usize).prop_map(Step::Remove),
        1 => (0..6_u64).prop_map(Step::Expire),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn it_does_not_matter_where_the_stream_is_cut(
        stream in stream_of_frames(),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let pieces = cut(&stream, &cuts);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let whole = decode(&[&stream], LIMITS);
        prop_assert_eq!(&whole, &decode(&pieces, LIMITS));
        prop_assert_eq!(&whole, &decode(&bytes, LIMITS));
    }

    #[test]
    fn noise_never_panics_and_never_holds_more_than_the_limits(
        noise in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let pieces = cut(&noise, &cuts);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        for told in decode(&pieces, LIMITS) {
            if let Told::Command(body) = &told {
                let _ = Command::parse(body);
            }
        }
        let _ = (Command::parse(&noise), split_envelope(&noise), split_first_frame(&noise));
        let _ = (ErrorReply::parse(&noise), same_frames(&noise, &noise), frames(&noise).count());
        let _ = shake(SocketType::Router, &noise);
        let greeted = [&Handshake::greeting()[..], &noise].concat();
        let _ = shake(SocketType::Router, &greeted);
    }

    #[test]
    fn a_handshake_may_be_cut_anywhere(
        identity in prop::collection::vec(any::<u8>(), 0..=255),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut handshake = Handshake::new(SocketType::Router);
        let mut told = None;
        for piece in cut(&opening(b"REQ", &identity), &cuts) {
            if !piece.is_empty() {
                prop_assert_eq!(&told, &None, "it ends with the last byte, not before");
                told = handshake.feed(&mut &piece[..], &mut Vec::new()).unwrap();
            }
        }
        prop_assert_eq!(told.map(|peer| peer.identity), Some(identity));
    }

    #[test]
    fn the_table_behaves_like_a_list(steps in steps()) {
        let mut table = InFlight::default();
        let mut twin: VecDeque<(RequestId, Duration, u64)> = VecDeque::new();
        let mut clock = 0;
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Insert => {
                    let deadline = Duration::from_secs(clock + 5);
                    let id = table.insert(deadline, number).unwrap();
                    prop_assert!(twin.iter().all(|(other, ..)| *other != id));
                    twin.push_back((id, deadline, number));
                }
                Step::Renew(at) => if let Some(entry) = twin.get_mut(at) {
                    let renewed = table.renew(entry.0).unwrap();
                    prop_assert_eq!(table.get(entry.0), None);
                    entry.0 = renewed;
                },
                Step::Remove(at) => if let Some((id, _, value)) = twin.remove(at) {
                    prop_assert_eq!(table.remove(id), Some(value));
                    prop_assert_eq!(table.remove(id), None);
                },
                Step::Expire(seconds) => {
                    clock += seconds;
                    let now = Duration::from_secs(clock);
                    while let Some(value) = table.expire(now) {
                        let (_, deadline, expected) = twin.pop_front().unwrap();
                        prop_assert!(deadline <= now);
                        prop_assert_eq!(value, expected);
                    }
                    prop_assert!(twin.front().is_none_or(|(_, deadline, _)| *deadline > now));
                }
            }
            prop_assert_eq!(table.len(), twin.len());
            prop_assert_eq!(table.iter().count(), twin.len());
            for (id, _, value) in &twin {
                prop_assert_eq!(table.get(*id), Some(value));
            }
        }
    }
}
