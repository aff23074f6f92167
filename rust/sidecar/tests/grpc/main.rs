//! The gRPC relay between real HTTP/2 peers on loopback.
#![allow(clippy::expect_used, reason = "what a helper expects is part of its test")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers of a test's own making")]

mod cluster;
mod failures;
mod guard;
mod hostile;
mod keys;
mod lifecycle;
mod passing;
mod reads;
mod support;
mod writes;
