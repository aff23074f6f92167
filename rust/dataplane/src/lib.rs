//! What the data planes of hashroute decide, without input or output.
//!
//! Nothing here reads a clock, a socket, a file, the environment or a random number: time is a
//! [`Duration`](core::time::Duration) since a start of the caller's choice, bytes are slices, and
//! `clippy.toml` beside this crate forbids the rest. So every decision can be replayed.
//!
//! The life of a request, in the order in which the modules meet it:
//!
//! 1. [`route`] finds the rule of its path; [`key`] takes the routing key from its metadata, its
//!    first message ([`protobuf`] inside a frame of [`grpc`]), its path or its caller's address;
//! 2. [`fleet`] chooses a pod for the key's slot, by the health that [`health`] keeps and the load
//!    that the pods carry, and counts the request in flight;
//! 3. [`retry`] says what a failure means: another pod, patience, or an [`error`] whose
//!    [`Outcome`](error::Outcome) tells the caller whether the request may have been applied.
//!
//! What has one writer at a time takes another way: [`mod@write`] sends it to the owner by the
//! newest record and to nobody else, and knows what each [`refusal`] of a pod's guard asks for.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub mod error;
pub mod fleet;
pub mod grpc;
pub mod health;
pub mod key;
pub mod protobuf;
pub mod refusal;
pub mod retry;
pub mod route;
pub mod write;
pub mod zmtp;
