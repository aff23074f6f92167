//! The single writer: what the voters agree on, who holds a lease, and what a pod may accept.
//!
//! Everything here is a state machine that is told the time and what happened, and answers with
//! actions in the order in which they must be carried out: what must be durable comes before what
//! may be sent. `docs/single-writer.md` says why the parts together keep the promise.
#![forbid(unsafe_code)]

mod change;
mod error;
mod guard;
mod holder;
mod lease;
mod member;
mod message;
mod planted;
mod proposer;
mod record;
mod register;
mod reports;
#[cfg(test)]
mod testing;
mod voter;

pub use change::Change;
pub use error::ChangeError;
pub use guard::{Guard, Release, WriteRefusal, WriteTag};
pub use holder::{Call, LeaseHolder};
pub use lease::{LeaseError, LeaseParameters};
pub use member::{Member, MemberAction};
pub use message::{Ballot, FromVoter, Refusal, Sequence, ToPeer, ToVoter};
pub use planted::{Bug, Planted};
pub use proposer::{Proposer, ProposerAction, Wish};
pub use record::{
    ClusterId, Group, Incarnation, Record, RecordFields, Resource, VoterEntry, VoterId, Writer,
};
pub use register::{
    Entry, Key, RegisterAction, RegisterEvent, RegisterMember, Request, Revision, Transaction,
    Value,
};
pub use voter::{Voter, VoterAction, VoterState};
