//! The same work on every run, for counting instructions: `tools/instructions.py` runs it.
//!
//! `counted lookup` asks for a million owners at 16 pods, `counted build` builds the table of 128
//! pods once, `counted follow` follows one pod that joins them, and `counted setup` does only what
//! comes before the lookups.
#![allow(clippy::print_stdout, reason = "this program's work is to print")]

use std::error::Error;
use std::hint::black_box;

use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, View};

const LOOKUPS: u64 = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let result = match wanted.as_str() {
        "setup" => u64::from(Ring::build(view(16)?)?.owner_of_key(b"one").get()),
        "lookup" => lookups(&Ring::build(view(16)?)?),
        "build" => Ring::build(view(128)?)?.owners().len() as u64,
        "follow" => {
            let ring = Ring::build(view(128)?)?;
            ring.follow(view(129)?)?.owners().len() as u64
        }
        other => {
            return Err(
                format!("what to count: setup, lookup, build or follow, not {other:?}").into()
            );
        }
    };
    println!("{result}");
    Ok(())
}

fn view(pods: u32) -> Result<View, Box<dyn Error>> {
    let pods = (0..pods)
        .map(|number| PodId::new(&format!("pod-{number:04}")).map(Pod::new))
        .collect::<Result<_, _>>()?;
    Ok(View::new(Epoch::new(1), Parameters::default(), pods)?)
}

/// Owners of a million keys of 16 bytes.
fn lookups(ring: &Ring) -> u64 {
    let mut key = *b"orders/_--------";
    (0..LOOKUPS)
        .map(|number| {
            key[8..].copy_from_slice(&number.to_le_bytes());
            u64::from(ring.owner_of_key(black_box(&key)).get())
        })
        .sum()
}
