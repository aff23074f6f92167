//! The voter's disk: what a voter must not forget, whatever becomes of the process, the power or
//! one of its files.
//!
//! # Why there are four copies
//!
//! A voter that forgets a promise or a vote breaks the one-writer promise, so an older state must
//! never be taken for the newest one. With two copies that take turns, it could be: if the newer
//! one does not match its checksum, either its writing was cut short, and nobody was told of it,
//! or it was whole, a vote was said to others, and it went bad later. The file looks the same in
//! both cases, and the older copy is whole. Refusing to start in doubt would make every loss of
//! power at the wrong moment a lost voter; taking the older copy would lose votes. (Alagappan et
//! al., "Protocol-Aware Recovery for Consensus-Based Storage", 2018, on the last entry of a log.)
//!
//! So there are two pairs of files, and what is written is written to both files of a pair. A save
//! writes the pair that does not hold the newest state, syncs both files at the same time, and only
//! then returns: it takes as long as one sync. When no save has come for a while, [`Disk::settle`]
//! writes the newest state to the other pair too. From this follows:
//!
//! - A write that is cut short, in whatever way, costs nothing: the other pair is whole, and holds
//!   what was saved last.
//! - **One file may go bad or missing, in any way and at any time, also while a write is cut
//!   short, and nothing that was saved is lost:** its twin holds the same.
//! - Once settled, no older state is left: whatever goes bad then, the newest state is found, or
//!   none. Before that, both files that were just written would have to go bad to bring back
//!   the state before.
//! - If no copy is whole, or copies contradict each other, the state is damaged, and the process
//!   does not start. Nothing is ever reset.
//!
//! What remains is a disk that loses what it confirmed, and a directory put back from a backup: no
//! file can tell of that. A voter whose disk may have gone back in time must be replaced.
//!
//! Two pairs written one after the other before a save returns would leave nothing to settle, and
//! take two syncs: 8 ms instead of 4 where it was measured, twice in each new writer's way. An
//! append-only log syncs once too, has the same question at its last entry, and must be cut.
//!
//! After a write or sync has failed, what is on the disk is not known, and a sync that succeeds
//! later proves nothing (the system may have dropped what it could not write). So the first error
//! is final: every later save fails too. Opening saves what it has read once more, for the same
//! reason: what was read may have come from memory.
use std::io;
use std::path::{Path, PathBuf};

use hashroute_coordination::{VoterId, VoterState};

use crate::error::StartError;
use crate::wire::Codec;

mod copy;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

use copy::{Body, Copy, Unusable};
use files::{Files, Medium};

/// What the disk held.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stored {
    /// A voter that belongs to no cluster yet. Its id is durable.
    Newcomer(VoterId),
    /// A voter with its record and its votes.
    Known(Box<VoterState>),
}

/// The durable state of one voter. Holds an exclusive lock on its directory.
#[derive(Debug)]
pub(crate) struct Disk {
    copies: Copies<Files>,
    codec: Codec,
    id: VoterId,
}

impl Disk {
    /// Takes the directory, which is made if it is not there, and reads the state. If there is
    /// none at all, it becomes that of a new voter with an id drawn at random. What is returned is
    /// durable and settled.
    ///
    /// # Errors
    ///
    /// [`StartError::Disk`], [`StartError::DiskInUse`], [`StartError::DiskDamaged`],
    /// [`StartError::DiskOtherRelease`], [`StartError::OtherCluster`]. No state was changed.
    pub(crate) fn open(directory: &Path, cluster: &str) -> Result<(Self, Stored), StartError> {
        let mut files = Files::open(directory)?;
        let usable = |error| unusable(directory, cluster, error);
        let io = |source| StartError::Disk { path: directory.to_owned(), source };
        let mut codec = Codec::new(cluster.to_owned());
        let found = [0, 1, 2, 3].map(|index| match files.read(index) {
            Ok(bytes) => Copy::parse(bytes),
            Err(error) => Copy::unreadable(&error),
        });
        let (body, index) = match copy::choose(&found).map_err(usable)? {
            Some(newest) => newest,
            None => (Body::newcomer(cluster, draw().map_err(io)?), 3),
        };
        let stored = body.stored(&mut codec).map_err(usable)?;
        let id = match &stored {
            Stored::Newcomer(id) => *id,
            Stored::Known(state) => state.id,
        };
        let mut copies = Copies::new(files, body.sequence, index / 2);
        copies.save(body).and_then(|()| copies.settle()).map_err(io)?;
        Ok((Self { copies, codec, id }, stored))
    }

    /// Makes the state durable: it is when this returns.
    ///
    /// # Errors
    ///
    /// What the operating system said. What the disk holds is then not known: the voter may
    /// answer nobody any more, and every later call fails too.
    pub(crate) fn save(&mut self, state: &VoterState) -> io::Result<()> {
        if state.id != self.id {
            let reason = "the state of another voter than the one of this disk";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.copies.save(Body::known(&self.codec, state))
    }

    /// Leaves no older state on the disk. To be called when no save has come for
    /// [`SETTLE_AFTER`], so that none has to wait for it; does nothing if nothing was saved since.
    ///
    /// # Errors
    ///
    /// As [`Disk::save`].
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.copies.settle()
    }
}

/// Longer than it takes to decide on a record: saves come in groups.
pub(crate) const SETTLE_AFTER: std::time::Duration = std::time::Duration::from_millis(100);

/// The two pairs of copies, wherever they are.
#[derive(Debug)]
struct Copies<M> {
    medium: M,
    sequence: u64,
    /// The pair that holds the newest state.
    newest: usize,
    /// That state, if the other pair does not hold it.
    unsettled: Option<Vec<u8>>,
    is_broken: bool,
}

impl<M: Medium> Copies<M> {
    fn new(medium: M, sequence: u64, newest: usize) -> Self {
        Self { medium, sequence, newest, unsettled: None, is_broken: false }
    }

    fn save(&mut self, body: Body) -> io::Result<()> {
        let exhausted = || io::Error::other("the sequence is at its largest number");
        let sequence = self.sequence.checked_add(1).ok_or_else(exhausted)?;
        let bytes = Body { sequence, ..body }.encode();
        self.write_other(&bytes)?;
        self.sequence = sequence;
        self.newest = 1 - self.newest;
        self.unsettled = Some(bytes);
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let Some(bytes) = self.unsettled.take() else { return Ok(()) };
        self.write_other(&bytes)
    }

    /// Writes the pair that does not hold the newest state.
    fn write_other(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_broken {
            let reason = "an earlier write failed: what the disk holds is not known";
            return Err(io::Error::other(reason));
        }
        let written = self.medium.write_pair(1 - self.newest, bytes);
        self.is_broken = written.is_err();
        written
    }
}

fn draw() -> io::Result<VoterId> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(VoterId(u128::from_be_bytes(bytes)))
}

fn unusable(directory: &Path, cluster: &str, error: Unusable) -> StartError {
    let path = PathBuf::from(directory);
    match error {
        Unusable::Damaged(reason) => StartError::DiskDamaged { path, reason },
        Unusable::OtherRelease(reason) => StartError::DiskOtherRelease { path, reason },
        Unusable::OtherCluster(found) => {
            StartError::OtherCluster { path, found, expected: cluster.to_owned() }
        }
    }
}

#[cfg(test)]
mod tests;
