//! Makes the Rust of the wire contracts from `proto/`, without a compiler of the system's.
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../../proto/hashroute/v1");
    let contracts = protox::compile(["hashroute/v1/quorum.proto"], ["../../proto"])?;
    tonic_prost_build::configure().compile_fds(contracts)?;
    Ok(())
}
