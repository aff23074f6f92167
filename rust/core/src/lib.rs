//! The vocabulary and the ring of hashroute: keys, slots, pods, views, the assignment of slots to
//! pods, preference lists and plans.
//!
//! Nothing here reads a clock, a socket, a file or a random number, and no floating point decides
//! anything: the same view gives the same table everywhere. `docs/assignment.md` specifies it.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod advice;
mod assignment;
mod capacity;
mod contender;
mod duel;
mod error;
mod follow;
mod hash;
mod heirs;
mod held;
mod id;
mod logarithm;
mod plan;
mod plan_search;
mod pod;
mod preference;
mod ranking;
mod ring;
mod view;
mod view_json;
mod visitors;
mod weight;

pub use advice::Advice;
pub use error::{PlanError, ViewError};
pub use hash::hash_key;
pub use id::{Epoch, PodId, PodIndex, Slot};
pub use plan::{Move, Plan, PlanOptions, Step};
pub use pod::{Addresses, Pod, PodState};
pub use preference::Preference;
pub use ring::Ring;
pub use view::{Parameters, View};
pub use weight::Weight;
