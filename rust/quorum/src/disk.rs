//! Stand-in until `wire` lands.
use std::io;
use std::path::Path;

use hashroute_coordination::{VoterId, VoterState};

use crate::error::StartError;

pub(crate) enum Stored {
    Newcomer(VoterId),
    Known(Box<VoterState>),
}

#[derive(Debug)]
pub(crate) struct Disk;

impl Disk {
    pub(crate) fn open(_: &Path, _: &str) -> Result<(Self, Stored), StartError> {
        let id = u128::from(getrandom::u64().unwrap_or_default());
        Ok((Self, Stored::Newcomer(VoterId(id))))
    }

    pub(crate) fn save(&mut self, _: &VoterState) -> io::Result<()> {
        Ok(())
    }
}
