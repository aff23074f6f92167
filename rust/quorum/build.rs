//! Makes the Rust of the wire contracts from `proto/`, without a compiler of the system's.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto/hashroute/v1");
    println!("cargo::rerun-if-changed=proto");
    let ours = ["hashroute/v1/quorum.proto", "hashroute/v1/register.proto"];
    tonic_prost_build::configure().compile_fds(protox::compile(ours, ["../../proto"])?)?;
    // Of etcd we are only ever a client.
    let etcd = protox::compile(["etcd.proto"], ["proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(etcd)?;
    Ok(())
}
