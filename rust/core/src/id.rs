//! The small names of the ring: slot, pod index, epoch, and the id of a pod.

use alloc::sync::Arc;
use core::fmt;

use crate::error::ViewError;

/// The unit that is placed: a key belongs to one of the M slots of a view, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// Names the slot of this number. A ring takes it modulo its number of slots.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the slot, from 0.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The place of a pod in `View::pods()`, which is sorted by id. It means nothing in another view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodIndex(u16);

impl PodIndex {
    /// Names the pod at this place.
    #[must_use]
    pub const fn new(place: u16) -> Self {
        Self(place)
    }

    /// The place, from 0.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The place as a number to index with.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// The number of a view: each change of a view makes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Names the epoch of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    ///
    /// # Errors
    ///
    /// [`ViewError::EpochExhausted`] after the last number.
    pub fn next(self) -> Result<Self, ViewError> {
        self.0.checked_add(1).map(Self).ok_or(ViewError::EpochExhausted)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// The name of a pod: 1 to 255 bytes of UTF-8. Its hash decides where the pod's slots lie,
/// so a pod that comes back under its old id gets its old slots back.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId(Arc<str>);

impl PodId {
    /// The longest id, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// Checks and keeps an id.
    ///
    /// # Errors
    ///
    /// [`ViewError::BadId`] if it is empty or longer than [`PodId::BYTES_MAX`] bytes.
    pub fn new(id: &str) -> Result<Self, ViewError> {
        if id.is_empty() || id.len() > Self::BYTES_MAX {
            return Err(ViewError::BadId { bytes: id.len() });
        }
        Ok(Self(Arc::from(id)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Debug for PodId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_255_bytes() {
        assert_eq!(PodId::new(""), Err(ViewError::BadId { bytes: 0 }));
        assert_eq!(PodId::new(&"x".repeat(256)), Err(ViewError::BadId { bytes: 256 }));
        assert_eq!(PodId::new(&"x".repeat(255)).unwrap().as_str().len(), 255);
        // The limit counts bytes, not characters.
        assert_eq!(PodId::new(&"é".repeat(128)), Err(ViewError::BadId { bytes: 256 }));
    }

    #[test]
    fn the_last_epoch_has_no_next() {
        assert_eq!(Epoch::new(7).next(), Ok(Epoch::new(8)));
        assert_eq!(Epoch::new(u64::MAX).next(), Err(ViewError::EpochExhausted));
    }
}
