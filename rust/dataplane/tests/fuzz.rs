//! The bodies of the fuzz targets, on a bounded number of mutated seeds: the same inputs each time,
//! and with any compiler. `tools/fuzz.sh` searches further.

use bounded::run;

#[path = "../../../fuzz/bounded.rs"]
mod bounded;

#[expect(unreachable_pub, reason = "the fuzz targets reach it")]
#[expect(clippy::expect_used, clippy::panic, reason = "a fuzz body reports by panicking")]
#[path = "../../../fuzz/bodies.rs"]
mod bodies;

macro_rules! seeds {
    ($target:literal: $($name:literal),+) => {
        &[$(&include_bytes!(concat!("../../../fuzz/seeds/", $target, "/", $name))[..]),+]
    };
}

#[test]
fn field_scan() {
    run(bodies::field_scan, seeds!("field_scan": "nested"));
}

#[test]
fn grpc_frames() {
    run(bodies::grpc_frames, seeds!("grpc_frames": "two"));
}

#[test]
fn grpc_text() {
    run(bodies::grpc_text, seeds!("grpc_text": "timeout", "message"));
}

#[test]
fn key_search() {
    run(bodies::key_search, seeds!("key_search": "base64", "field", "pattern"));
}

#[test]
fn view_json() {
    run(bodies::view_json, seeds!("view_json": "view"));
}

#[test]
fn zmtp_handshake() {
    run(bodies::zmtp_handshake, seeds!("zmtp_handshake": "dealer"));
}

#[test]
fn zmtp_decoder() {
    run(bodies::zmtp_decoder, seeds!("zmtp_decoder": "request"));
}
