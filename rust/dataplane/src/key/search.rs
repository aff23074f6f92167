//! The search for a key through the places that a route names.

use super::{KEY_SOURCES_MAX, Key, KeySource, KeySources, MetadataName, base64};
use crate::protobuf::{FieldLookup, FieldPath, FieldScan};
use core::fmt;

/// What a transport can show of a request before its body.
pub trait RequestHead {
    /// The path: `/package.Service/Method`.
    fn path(&self) -> &[u8];

    /// The first value of the metadata of this name, as it travelled. `name` is in lower case.
    fn metadata(&self, name: &str) -> Option<&[u8]>;

    /// The address of the caller without its port, so that a caller that reconnects is the same.
    fn peer(&self) -> &[u8];
}

/// How much of the first message of a request is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// Nothing yet, or not all of the header of its frame.
    Unread,
    /// Its beginning.
    Message {
        /// The bytes so far, without the header of the frame.
        arrived: &'a [u8],
        /// The length of the whole message.
        message_bytes: usize,
    },
    /// It is compressed, so its fields cannot be read.
    Compressed,
    /// It is not framed as gRPC messages are.
    Unframed,
    /// The request ended without one.
    Absent,
    /// It holds nothing of use within what the transport is willing to hold back.
    TooLong,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyLookup<'a> {
    /// The key.
    Found(Key<'a>),
    /// The answer lies in the body: come back with more of it.
    NeedsBody {
        /// Nothing can be said before the first message has this many bytes. (Zero if not even the
        /// header of its frame is there.)
        message_bytes: usize,
    },
    /// There is none: what comes now is up to the route's `on_missing`.
    Missing(MissingKey),
}

/// Why a source gave no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// The request has no such metadata.
    NotSent,
    /// The value of binary metadata is not base64.
    NotBase64,
    /// The first message does not have the field, or it has its default value.
    NotInMessage,
    /// The field does not begin within [`SCAN_BYTES_MAX`](crate::protobuf::SCAN_BYTES_MAX).
    TooFar,
    /// The first message is not protobuf.
    NotProtobuf,
    /// The first message is compressed.
    Compressed,
    /// The body is not framed as gRPC messages are.
    Unframed,
    /// There is no message.
    NoMessage,
    /// The field is not in as much of the message as is held back.
    TooLong,
}

impl Miss {
    /// The end of the sentence that begins with the source.
    const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "is not sent",
            Self::NotBase64 => "is not base64, as -bin metadata must be",
            Self::NotInMessage => "is not in the first message, or has its default value",
            Self::TooFar => "does not begin within the first MiB of the message",
            Self::NotProtobuf => "cannot be read because the first message is not protobuf",
            Self::Compressed => "cannot be read because the first message is compressed",
            Self::Unframed => "cannot be read because the body is not framed as gRPC messages are",
            Self::NoMessage => "cannot be read because there is no message",
            Self::TooLong => "is not in as much of the message as is buffered (retry.buffer_bytes)",
        }
    }
}

/// A request without a key, and what was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    /// Each source with why it gave nothing, in the order of the search.
    pub misses: Vec<(KeySource, Miss)>,
}

/// Writes the text of the error that a caller sees.
impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request has no routing key: ")?;
        for (position, (source, miss)) in self.misses.iter().enumerate() {
            let comma = if position > 0 { "; " } else { "" };
            write!(f, "{comma}{source} {}", miss.as_str())?;
        }
        f.write_str(". Send it, or set on_missing = \"any\" for this route")
    }
}

/// A search for the key of one request, which goes on as its body arrives.
///
/// Tell it [`Body::Unread`] first; most requests have their key in the head. Allocates only for a
/// key in binary metadata and for the account of a missing one.
#[derive(Debug, Clone)]
pub struct KeySearch<'s> {
    sources: &'s [KeySource],
    /// The source where the search stands.
    place: usize,
    /// The scan of that source, once it has begun.
    scan: Option<FieldScan>,
    /// Why the sources before it gave nothing.
    misses: [Option<Miss>; KEY_SOURCES_MAX],
}

impl<'s> KeySearch<'s> {
    /// A search that has not begun.
    #[must_use]
    pub const fn new(sources: &'s KeySources) -> Self {
        Self { sources: &sources.0, place: 0, scan: None, misses: [None; KEY_SOURCES_MAX] }
    }

    /// A search in a request that came through a router, whose caller's address is not to be seen:
    /// it ends where it would ask for the peer.
    #[must_use]
    pub fn behind_router(sources: &'s KeySources) -> Self {
        let end = sources.0.iter().position(|source| *source == KeySource::Peer);
        let seen = end.and_then(|end| sources.0.get(..end)).unwrap_or(&sources.0);
        Self { sources: seen, ..Self::new(sources) }
    }

    /// Goes on with the search; `body` shows at least as much as in the call before.
    pub fn advance<'a>(&mut self, head: &'a impl RequestHead, body: Body<'a>) -> KeyLookup<'a> {
        while let Some(source) = self.sources.get(self.place) {
            let step = match source {
                KeySource::Path => Step::Found(Key::from(head.path())),
                KeySource::Peer => Step::Found(Key::from(head.peer())),
                KeySource::Metadata(name) => from_metadata(head, name),
                KeySource::Field(path) => self.look_in_body(path, body),
            };
            match step {
                Step::Found(key) => return KeyLookup::Found(key),
                Step::NeedMore { message_bytes } => return KeyLookup::NeedsBody { message_bytes },
                Step::Miss(miss) => self.pass(miss),
            }
        }
        KeyLookup::Missing(self.missing())
    }

    fn look_in_body<'a>(&mut self, path: &FieldPath, body: Body<'a>) -> Step<'a> {
        match body {
            Body::Unread => Step::NeedMore { message_bytes: 0 },
            Body::Message { arrived, message_bytes } => {
                let scan = self.scan.get_or_insert_with(|| FieldScan::new(path));
                match scan.advance(arrived, message_bytes) {
                    FieldLookup::Found(key) => Step::Found(key),
                    FieldLookup::NeedMore { message_bytes } => Step::NeedMore { message_bytes },
                    FieldLookup::Missing => Step::Miss(Miss::NotInMessage),
                    FieldLookup::TooFar => Step::Miss(Miss::TooFar),
                    FieldLookup::Malformed => Step::Miss(Miss::NotProtobuf),
                }
            }
            Body::Compressed => Step::Miss(Miss::Compressed),
            Body::Unframed => Step::Miss(Miss::Unframed),
            Body::Absent => Step::Miss(Miss::NoMessage),
            Body::TooLong => Step::Miss(Miss::TooLong),
        }
    }

    fn pass(&mut self, miss: Miss) {
        if let Some(place) = self.misses.get_mut(self.place) {
            *place = Some(miss);
        }
        self.place = self.place.saturating_add(1);
        self.scan = None;
    }

    fn missing(&self) -> MissingKey {
        let sources = self.sources.iter().cloned();
        let misses = sources.zip(self.misses).filter_map(|(source, miss)| Some((source, miss?)));
        MissingKey { misses: misses.collect() }
    }
}

enum Step<'a> {
    Found(Key<'a>),
    NeedMore { message_bytes: usize },
    Miss(Miss),
}

fn from_metadata<'a>(head: &'a impl RequestHead, name: &MetadataName) -> Step<'a> {
    let Some(value) = head.metadata(name.as_str()) else { return Step::Miss(Miss::NotSent) };
    if !name.is_binary() {
        return Step::Found(Key::from(value));
    }
    // Several binary values may have been joined by commas on the way.
    let first = value.split(|byte| *byte == b',').next().unwrap_or_default();
    match base64::decode(first.trim_ascii()) {
        Some(bytes) => Step::Found(Key::from_decoded(bytes)),
        None => Step::Miss(Miss::NotBase64),
    }
}
