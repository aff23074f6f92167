//! Clusters of real nodes over loopback: what the shell around the protocol promises. What the
//! protocol promises is checked by the simulator.
#![allow(clippy::unwrap_used, reason = "what a helper unwraps is part of its test")]

mod changes;
mod cuts;
mod failures;
mod guards;
mod paused;
mod refusals;
mod restarts;
mod routers;
mod support;
