//! The routing key of a request: where it comes from, and how it is taken from there.

use core::fmt;

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

impl<'a> Key<'a> {
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
