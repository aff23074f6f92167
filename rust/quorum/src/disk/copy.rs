//! One copy of a voter's state as bytes, and which of the four counts.
//!
//! | bytes | what |
//! |---|---|
//! | 0 to 7 | [`MAGIC`] |
//! | 8 to 11 | the version of the format of the body |
//! | 12 to 19 | the length of the body |
//! | 20 to 35 | XXH3-128 over everything before it and the body |
//! | 36 on | the body: a protobuf message, [`Body`] |
//!
//! Numbers are least significant byte first. What comes after the body is left over from a longer
//! one. The head and the checksum stay as they are in every version: so a copy of a later release
//! is told from a damaged one.
use std::io;

use hashroute_coordination::{VoterId, VoterState};
use prost::Message;
use xxhash_rust::xxh3::Xxh3;

use super::Stored;
use crate::proto;
use crate::wire::{
    Codec, MESSAGE_BYTES_MAX, WireError, ballot_in, ballot_out, voter_id_in, voter_id_out,
};

/// What a copy holds.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Body {
    /// One more with each save.
    #[prost(uint64, tag = "1")]
    pub(super) sequence: u64,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) voter_id: Vec<u8>,
    /// Absent until the voter has its first record.
    #[prost(message, optional, tag = "4")]
    pub(super) installed: Option<proto::Record>,
    #[prost(message, optional, tag = "5")]
    pub(super) promised: Option<proto::Ballot>,
    #[prost(message, optional, tag = "6")]
    pub(super) accepted_in: Option<proto::Ballot>,
    #[prost(message, optional, tag = "7")]
    pub(super) accepted: Option<proto::Record>,
    #[prost(message, optional, tag = "8")]
    pub(super) tentative_in: Option<proto::Ballot>,
    #[prost(message, optional, tag = "9")]
    pub(super) tentative: Option<proto::Record>,
}

/// What is found where a copy should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Copy {
    /// No file.
    Absent,
    /// Cut short or gone bad; why.
    Damaged(String),
    /// Whole, and not what this release writes; why.
    OtherRelease(String),
    Whole(Box<Body>),
}

/// Why a state cannot be used.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unusable {
    /// No copy is whole, or the two contradict each other; why.
    Damaged(String),
    /// Not what this release writes; why.
    OtherRelease(String),
    /// It is of this cluster.
    OtherCluster(String),
}

impl Body {
    pub(super) fn newcomer(cluster: &str, id: VoterId) -> Self {
        Self { cluster: cluster.to_owned(), voter_id: voter_id_out(id), ..Self::default() }
    }

    /// Its sequence is set when it is saved.
    pub(super) fn known(codec: &Codec, state: &VoterState) -> Self {
        Self {
            installed: Some(codec.record_out(&state.installed)),
            promised: state.promised.map(ballot_out),
            accepted_in: state.accepted.as_ref().map(|(ballot, _)| ballot_out(*ballot)),
            accepted: state.accepted.as_ref().map(|(_, record)| codec.record_out(record)),
            tentative_in: state.tentative.as_ref().map(|(ballot, _)| ballot_out(*ballot)),
            tentative: state.tentative.as_ref().map(|(_, record)| codec.record_out(record)),
            ..Self::newcomer(codec.cluster(), state.id)
        }
    }

    /// The bytes of the whole copy.
    pub(super) fn encode(&self) -> Vec<u8> {
        let body = self.encode_to_vec();
        let mut copy = Vec::with_capacity(HEAD_BYTES + body.len());
        copy.extend_from_slice(MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&(body.len() as u64).to_le_bytes());
        let checksum = checksum(&copy, &body);
        copy.extend_from_slice(&checksum);
        copy.extend_from_slice(&body);
        copy
    }

    /// What the copy says, checked as everything that comes from outside is.
    pub(super) fn stored(&self, codec: &mut Codec) -> Result<Stored, Unusable> {
        if self.cluster != codec.cluster() {
            return Err(Unusable::OtherCluster(self.cluster.clone()));
        }
        self.read(codec).map_err(|error| Unusable::OtherRelease(error.to_string()))
    }

    fn read(&self, codec: &mut Codec) -> Result<Stored, WireError> {
        let id = voter_id_in(&self.voter_id)?;
        let promised = self.promised.map(ballot_in);
        let (fields, record) = (["accepted_in", "accepted"], self.accepted.as_ref());
        let accepted = codec.vote(fields, self.accepted_in, record)?;
        let (fields, record) = (["tentative_in", "tentative"], self.tentative.as_ref());
        let tentative = codec.vote(fields, self.tentative_in, record)?;
        let Some(installed) = &self.installed else {
            if promised.is_some() || accepted.is_some() || tentative.is_some() {
                return Err(WireError::Missing { field: "installed" });
            }
            return Ok(Stored::Newcomer(id));
        };
        let installed = codec.record(installed)?;
        for (_, record) in accepted.iter().chain(&tentative) {
            record.check_follows(&installed)?;
        }
        let state = VoterState { id, installed, promised, accepted, tentative };
        Ok(Stored::Known(Box::new(state)))
    }
}

impl Copy {
    /// Reads the bytes of a file; none if there is no file.
    pub(super) fn parse(bytes: Option<Vec<u8>>) -> Self {
        let Some(bytes) = bytes else { return Self::Absent };
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Self::Damaged(format!("it has {} bytes, less than its head", bytes.len()));
        };
        if head[..8] != *MAGIC {
            return Self::Damaged("it does not begin as a voter's state does".to_owned());
        }
        let length = u64::from_le_bytes(array(&head[12..20]));
        let body = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let Some(body) = body else {
            let reason = format!("it is cut short: {} bytes of {length}", rest.len());
            return Self::Damaged(reason);
        };
        if checksum(&head[..20], body) != head[20..] {
            return Self::Damaged("its checksum does not match".to_owned());
        }
        let version = u32::from_le_bytes(array(&head[8..12]));
        if version != VERSION {
            let reason = format!("its format is {version}, and this release reads {VERSION}");
            return Self::OtherRelease(reason);
        }
        match Body::decode(body) {
            Ok(body) => Self::Whole(Box::new(body)),
            Err(error) => Self::OtherRelease(error.to_string()),
        }
    }

    /// A file that is there and cannot be read.
    pub(super) fn unreadable(error: &io::Error) -> Self {
        Self::Damaged(format!("it cannot be read: {error}"))
    }

    fn state(&self) -> &str {
        match self {
            Self::Absent => "there is none",
            Self::Damaged(reason) | Self::OtherRelease(reason) => reason,
            Self::Whole(_) => "it is whole",
        }
    }
}

/// The newest copy and its place; none if there is no state at all.
pub(super) fn choose(copies: &[Copy; 4]) -> Result<Option<(Body, usize)>, Unusable> {
    if copies.iter().all(|copy| *copy == Copy::Absent) {
        return Ok(None);
    }
    let states = || -> Vec<String> {
        let state =
            |(index, copy): (usize, &Copy)| format!("voter-state.{index}: {}", copy.state());
        copies.iter().enumerate().map(state).collect()
    };
    if copies.iter().any(|copy| matches!(copy, Copy::OtherRelease(_))) {
        return Err(Unusable::OtherRelease(states().join("; ")));
    }
    let whole = copies.iter().enumerate().filter_map(|(index, copy)| match copy {
        Copy::Whole(body) => Some((&**body, index)),
        Copy::Absent | Copy::Damaged(_) | Copy::OtherRelease(_) => None,
    });
    let Some((newest, index)) = whole.clone().max_by_key(|(body, _)| body.sequence) else {
        return Err(Unusable::Damaged(states().join("; ")));
    };
    for (body, other) in whole {
        contradiction(newest, body).map_or(Ok(()), |what| {
            let reason = format!("voter-state.{index} and voter-state.{other} {what}");
            Err(Unusable::Damaged(reason))
        })?;
    }
    Ok(Some((newest.clone(), index)))
}

/// What is impossible about an older copy, or one that is as old, beside the newest.
fn contradiction(newest: &Body, body: &Body) -> Option<String> {
    if (&newest.voter_id, &newest.cluster) != (&body.voter_id, &body.cluster) {
        return Some("belong to different voters".to_owned());
    }
    let older_by = newest.sequence - body.sequence;
    if older_by == 0 && newest != body {
        return Some("have one number and differ".to_owned());
    }
    // While a pair that is two saves old is written, one of its files may be new already.
    (older_by > 2)
        .then(|| format!("are {older_by} saves apart: the disk lost what it had confirmed"))
}

pub(super) fn checksum(head: &[u8], body: &[u8]) -> [u8; 16] {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(body);
    hash.digest128().to_le_bytes()
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

const MAGIC: &[u8; 8] = b"hrvoter\n";
/// 2 since votes are written down ahead: who read 1 would forget them.
const VERSION: u32 = 2;
const HEAD_BYTES: usize = 36;
/// The longest copy: three records, and little else.
pub(super) const COPY_BYTES_MAX: u64 = 3 * MESSAGE_BYTES_MAX as u64;
