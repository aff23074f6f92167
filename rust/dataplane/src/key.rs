//! The routing key of a request: where it comes from, and how it is taken from there.

mod base64;
mod search;

pub use search::{Body, KeyLookup, KeySearch, Miss, MissingKey, RequestHead};

use crate::grpc::HEADER_KEY;
use crate::protobuf::FieldPath;
use core::fmt;
use serde::Deserialize;
use thiserror::Error;

/// The most places in which a route may look for its key.
pub const KEY_SOURCES_MAX: usize = 8;

/// The bytes of a routing key: any bytes, any length, also none.
///
/// Borrowed from the request where the request holds them as they are.
#[derive(Clone)]
pub struct Key<'a>(Repr<'a>);

#[derive(Clone)]
enum Repr<'a> {
    Borrowed(&'a [u8]),
    Integer([u8; 8]),
    Decoded(Vec<u8>),
}

impl Key<'_> {
    /// The key of an integer: its 8 bytes, least significant first, as in Python.
    #[must_use]
    pub const fn from_integer(value: u64) -> Self {
        Self(Repr::Integer(value.to_le_bytes()))
    }

    /// A key that had to be decoded.
    #[must_use]
    pub const fn from_decoded(bytes: Vec<u8>) -> Self {
        Self(Repr::Decoded(bytes))
    }

    /// The bytes that are hashed.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Borrowed(bytes) => bytes,
            Repr::Integer(bytes) => bytes,
            Repr::Decoded(bytes) => bytes,
        }
    }
}

impl<'a> From<&'a [u8]> for Key<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self(Repr::Borrowed(bytes))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key<'_> {}

impl fmt::Debug for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(\"{}\")", self.as_bytes().escape_ascii())
    }
}

/// One place in which a key is looked for.
///
/// In documents: `{"metadata": "x-hashroute-key"}`, `{"field": [5, 2]}`, `"path"`, `"peer"`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The first metadata value of this name; of a name that ends in `-bin`, what it encodes.
    Metadata(MetadataName),
    /// A field of the first message.
    Field(FieldPath),
    /// The path of the request: `/package.Service/Method`.
    Path,
    /// The address of the caller, without its port.
    Peer,
}

/// Writes the source as configurations do: `metadata:x-hashroute-key`, `field:5.2`.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(name) => write!(f, "metadata:{}", name.as_str()),
            Self::Field(path) => write!(f, "field:{path}"),
            Self::Path => f.write_str("path"),
            Self::Peer => f.write_str("peer"),
        }
    }
}

/// The places in which a key is looked for, in this order: 1 to [`KEY_SOURCES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<KeySource>")]
pub struct KeySources(Box<[KeySource]>);

/// A list of key sources that is empty or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a route has 1 to 8 key sources, not {0}: write for example [\"metadata:x-hashroute-key\"]"
)]
pub struct KeySourcesError(usize);

impl KeySources {
    /// Checks and keeps the sources.
    ///
    /// # Errors
    ///
    /// [`KeySourcesError`] if there are none or more than [`KEY_SOURCES_MAX`].
    pub fn new(sources: Vec<KeySource>) -> Result<Self, KeySourcesError> {
        if (1..=KEY_SOURCES_MAX).contains(&sources.len()) {
            Ok(Self(sources.into()))
        } else {
            Err(KeySourcesError(sources.len()))
        }
    }

    /// Whether the caller's address is one of them.
    #[must_use]
    pub fn have_peer(&self) -> bool {
        self.0.contains(&KeySource::Peer)
    }

    /// The sources, in the order in which they are tried.
    #[must_use]
    pub fn as_slice(&self) -> &[KeySource] {
        &self.0
    }
}

impl TryFrom<Vec<KeySource>> for KeySources {
    type Error = KeySourcesError;

    fn try_from(sources: Vec<KeySource>) -> Result<Self, KeySourcesError> {
        Self::new(sources)
    }
}

impl From<KeySource> for KeySources {
    fn from(source: KeySource) -> Self {
        Self([source].into())
    }
}

/// The name of a metadata entry, in lower case as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MetadataName(Box<str>);

/// A name that no metadata entry can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} cannot be a metadata name: write letters, digits, '-', '_' and '.', for example x-hashroute-key"
)]
pub struct MetadataNameError(String);

impl MetadataName {
    /// Checks a name and puts it into lower case; HTTP does not tell the cases apart.
    ///
    /// # Errors
    ///
    /// [`MetadataNameError`] if the name is empty or has anything but ASCII letters, digits, `-`,
    /// `_` and `.`.
    pub fn new(name: &str) -> Result<Self, MetadataNameError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_allowed) {
            return Err(MetadataNameError(name.to_owned()));
        }
        Ok(Self(name.to_ascii_lowercase().into()))
    }

    /// The name under which hashroute's own clients send a key.
    #[must_use]
    pub fn hashroute_key() -> Self {
        Self(HEADER_KEY.into())
    }

    /// The name, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether values of this name travel in base64.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        self.0.ends_with("-bin")
    }
}

impl TryFrom<String> for MetadataName {
    type Error = MetadataNameError;

    fn try_from(name: String) -> Result<Self, MetadataNameError> {
        Self::new(&name)
    }
}

#[cfg(test)]
mod tests;
