//! The gRPC relay between real HTTP/2 peers on loopback.
mod failures;
mod hostile;
mod keys;
mod lifecycle;
mod passing;
mod support;
