//! Runs a sidecar from a settings file until its standard input ends: `sidecar SETTINGS.json`.
//!
//! Prints the addresses it listens on as one line of JSON, and at the end its figures. For
//! benchmarks and experiments; users run `hashroute proxy`.
use std::error::Error;
use std::io::{Read, Write, stdin, stdout};
use std::time::Duration;

use hashroute_sidecar::{Settings, Sidecar};

const GRACE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: sidecar SETTINGS.json")?;
    let sidecar = Sidecar::start(Settings::from_json(&std::fs::read_to_string(path)?)?)?;
    let mut out = stdout();
    writeln!(out, "{}", serde_json::to_string(sidecar.addresses())?)?;
    out.flush()?;
    stdin().read_to_end(&mut Vec::new())?;
    let snapshot = serde_json::to_string_pretty(&sidecar.snapshot())?;
    let is_finished = sidecar.stop(GRACE);
    writeln!(out, "{snapshot}\nfinished: {is_finished}")?;
    Ok(())
}
