//! Pods, clients and sidecars for the tests: all in this process, on ports of the system's choice.
mod client;
mod cluster;
mod pod;
mod quorum;
mod setup;

use std::future::Future;
use std::time::Duration;

pub(crate) use client::{Answer, Client, frame, unframe};
pub(crate) use cluster::Cluster;
pub(crate) use pod::{Call, Pod, send_all, status_trailers};
pub(crate) use quorum::{FakeQuorum, id, writer};
pub(crate) use setup::{Options, Setup, pod_json, settings_document, start};

/// No test waits longer than this for anything: reached only when something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a loop of its own, for at most [`PATIENCE`].
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    runtime.expect("a runtime").block_on(async {
        tokio::time::timeout(PATIENCE * 2, test).await.expect("the test ends in time");
    });
}

/// Waits until `holds` does, and says what was waited for if it never does.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !holds() {
            poll_interval().await;
        }
    });
    assert!(waited.await.is_ok(), "never happened: {what}");
}

async fn poll_interval() {
    const POLL_INTERVAL: Duration = Duration::from_millis(2);
    tokio::time::sleep(POLL_INTERVAL).await; // how often a condition is polled
}
