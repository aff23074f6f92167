//! Clusters of real nodes over loopback: what the shell around the protocol promises. What the
//! protocol promises is checked by the simulator.
mod changes;
mod cuts;
mod failures;
mod guards;
mod paused;
mod refusals;
mod restarts;
mod routers;
mod support;
