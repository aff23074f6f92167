//! Writes over the ZeroMQ relay and its guard, between peers on loopback.
#![allow(clippy::expect_used, reason = "what a helper expects is part of its test")]
#![allow(clippy::panic, reason = "what a helper expects is part of its test")]

mod guard;
#[path = "../grpc/support/quorum.rs"]
#[allow(dead_code, reason = "the tests of gRPC need more of it")]
mod quorum;
mod support;
mod writes;
