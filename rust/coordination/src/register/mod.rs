//! A member whose record lies in a register that others keep: a linearizable store with
//! transactions and a watch, such as etcd.
//!
//! The lease is ours, not the store's. A member renews by a transaction that touches its *beat*,
//! and may write for a window after it *sent* the last one that was committed. Whoever wants to
//! end that waits until it has *seen* no new beat for longer, and commits the next record only on
//! the condition that the beat is still the one it saw. So neither the store's leases nor its
//! clocks, nor how fresh its watch is, can make two writers: a beat that was not seen fails the
//! condition. A renewal is committed only while the record is the one that its sender goes by, so
//! nobody renews what it has lost.
//!
//! A change that takes something from a live writer is first written down as the *intent*. The
//! writer stops, and says so in the store on the condition that the intent is still there. The
//! intent becomes the record if everybody has said so; withdrawn, it can never become one.
//!
//! Source of the idea: leases counted from the sender's clock, Gray and Cheriton, "Leases" (1989);
//! fencing by the revision of a key, as in Burrows, "The Chubby lock service" (2006).
//!
//! Where the record names voters of our own, leases are theirs to grant instead: see `leases` for
//! the member and `seat` for the voter.
mod following;
mod leases;
mod member;
mod proposals;
mod seat;
mod seen;

use std::time::Duration;

use hashroute_core::{Epoch, PodId};

use crate::change::Change;
use crate::error::ChangeError;
use crate::message::{FromVoter, ToVoter};
use crate::record::{Record, VoterId, Writer};

pub use member::RegisterMember;

/// The number of a commit of the store; a key's is that of the commit that last changed it. 0: the
/// key was never there, or is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// What the store holds for a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The record.
    Record,
    /// A record that is to follow it, while somebody who would lose something may still write.
    Intent,
    /// A process's sign of life.
    Beat(Writer),
    /// A process's word that it has stopped for the intent.
    Released(Writer),
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Under [`Key::Record`].
    Record(Record),
    /// Under [`Key::Intent`]: the record, and who wrote it.
    Intent(Record, Writer),
    /// Under [`Key::Beat`]: of a process that lives.
    Alive,
    /// Under [`Key::Beat`]: of one that has stopped for good.
    Renounced,
    /// Under [`Key::Released`]: the revision of the intent that it is for.
    Released(Revision),
}

/// A key as it was at some revision of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The commit that last changed it; of one that is not there, the commit at which that was so.
    pub revision: Revision,
    /// What stands there, if anything does.
    pub value: Option<Value>,
}

/// Tells the transactions of one member apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request(pub u64);

/// Writes all of `then` if every key of `when` was last changed by that commit (0: is not there);
/// if not, reads `otherwise`. Nothing in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// The conditions.
    pub when: Vec<(Key, Revision)>,
    /// What is written; `None` removes the key.
    pub then: Vec<(Key, Option<Value>)>,
    /// What is read if a condition does not hold.
    pub otherwise: Vec<Key>,
}

impl Transaction {
    /// Whether a second copy, carried out whenever it may be, has no effect that the first had not.
    /// So it is if a condition names the very commit that the first one replaces, which no later one
    /// can be again (the next record, the withdrawal of an intent); or if it says again what is so
    /// for good (that this process has stopped, for one intent or at all).
    ///
    /// A renewal is none: the next one is sent soon enough, and a copy that is carried out much later
    /// would be a sign of life of a process that has given none. An intent is none: a copy could
    /// write it down again after it was withdrawn.
    #[must_use]
    pub fn is_repeatable(&self) -> bool {
        self.then.iter().any(|(key, value)| match (key, value) {
            (Key::Record | Key::Released(_), _)
            | (Key::Intent, None)
            | (Key::Beat(_), Some(Value::Renounced)) => true,
            (Key::Intent | Key::Beat(_), _) => false,
        })
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegisterEvent {
    /// All that the store holds, as of this revision: the first thing that a member is told, and
    /// again whenever its watch was lost.
    Read {
        /// The revision of the store.
        revision: Revision,
        /// Every key that is there.
        entries: Vec<Entry>,
    },
    /// The keys that one commit changed, in the order of commits.
    Changed {
        /// What changed.
        entries: Vec<Entry>,
    },
    /// A transaction was committed.
    Committed {
        /// Which.
        request: Request,
        /// The commit.
        revision: Revision,
    },
    /// The conditions of a transaction did not hold.
    Conflicted {
        /// Which.
        request: Request,
        /// Each of the keys asked for.
        entries: Vec<Entry>,
    },
    /// The store does not answer to a transaction: whether it was committed is not known.
    Unanswered {
        /// Which.
        request: Request,
    },
}

/// What a member asks its shell to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum RegisterAction {
    /// Put a transaction to the store.
    Transact(Request, Transaction),
    /// Send a message to a voter, that of this process among them.
    ToVoter(VoterId, ToVoter),
    /// Send what the voter of this process says to the member of this pod, the own one among them.
    FromVoter(PodId, FromVoter),
    /// This record counts from now on: tell the pod, routers that follow, and the operator.
    Installed(Record),
    /// Wait until every write admitted so far of what the member loses in this record has ended,
    /// then call [`RegisterMember::quiesced`] with it.
    Quiesce(Record),
    /// A change that was asked for is made.
    Made {
        /// The change.
        change: Change,
        /// The epoch of the record with it.
        epoch: Epoch,
    },
    /// A change that was asked for cannot be made.
    Dropped {
        /// The change.
        change: Change,
        /// Why.
        reason: ChangeError,
    },
}

/// How long an intent stands before others may withdraw it, in leases; and at least, for it takes
/// four transactions and reads one after the other, however short the lease is.
const INTENT_LEASES: u32 = 3;
const INTENT_LEAST: Duration = Duration::from_millis(900);
/// How long a transaction is waited for before it counts as unanswered, in leases.
const ANSWER_LEASES: u32 = 2;
/// An intent that is not answered within such a part of a lease is put to the store once more: should
/// both arrive, the second finds the first there.
const INTENT_PARTS: u32 = 2;
const INTENT_ANSWER_LEAST: Duration = Duration::from_millis(150);
/// Who leases by voters judges nobody by the store's silence: it proposes something unless that has
/// lasted for so long.
const SILENCE_MOST: Duration = Duration::from_secs(1);
/// Between the first tries of two members that see the same failure.
const STAGGER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
