//! What voters and members say to each other. Every message names its cluster in the envelope
//! that carries it; what follows assumes that it matched.

use std::time::Duration;

use hashroute_core::Epoch;

use crate::record::{Record, Writer};

/// The number of a try to decide an epoch; a higher one takes precedence. Two tries are never
/// equal: the second part is drawn at random by each proposer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Grows with each try.
    pub round: u64,
    /// Tells proposers of the same round apart.
    pub proposer: u64,
}

/// Which renewal: grows with each one that a member sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Why a renewal was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The voter has a newer record; here it is.
    Behind(Record),
    /// The member has a newer record than the voter.
    Ahead,
    /// The record does not name this process as a writer: it has to join.
    NotNamed,
    /// A record was accepted under which the writer loses something; it may be decided already.
    Pending(Record),
    /// Somebody is about to end the lease of this writer.
    Held,
    /// The writer has renounced.
    Renounced,
    /// The voter is not one of the record's voters.
    NotAVoter,
}

/// What a member says to a voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToVoter {
    /// Asks for a lease, or for more of it.
    Renew {
        /// The record under which the writer wants to write.
        epoch: Epoch,
        /// Who asks.
        writer: Writer,
        /// Which of its renewals.
        sequence: Sequence,
    },
    /// Asks whether the voter hears the member, without starting a guard.
    Probe {
        /// The newest record that the member has.
        epoch: Epoch,
        /// Who asks.
        writer: Writer,
        /// Which of its probes.
        sequence: Sequence,
    },
    /// The writer has stopped for good. Only the process itself says so, or who reaped it.
    Renounce {
        /// Who stopped.
        writer: Writer,
    },
    /// Opens a ballot.
    Prepare {
        /// The epoch to be decided.
        epoch: Epoch,
        /// The try.
        ballot: Ballot,
        /// Writers that should get no more renewals for a while, so that their guards run out.
        stop: Vec<Writer>,
    },
    /// Asks for the vote.
    Accept {
        /// The try.
        ballot: Ballot,
        /// What is proposed; its epoch is the one to be decided.
        record: Record,
        /// Who of those that lose something has released it.
        released: Vec<Writer>,
    },
    /// The record was chosen: sent only by who saw a majority accept it, or has it installed.
    Install {
        /// The record.
        record: Record,
    },
}

/// What a voter says to a member.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FromVoter {
    /// Grants it.
    Renewed {
        /// The epoch of the renewal.
        epoch: Epoch,
        /// The process that asked.
        writer: Writer,
        /// Which renewal.
        sequence: Sequence,
        /// Writers whose lease has run out as far as this voter knows.
        lapsed: Vec<Writer>,
        /// Whether the voter has voted for the next record, and not heard what became of it.
        undecided: bool,
    },
    /// Does not grant it.
    Refused {
        /// The process that asked.
        writer: Writer,
        /// Which renewal.
        sequence: Sequence,
        /// Why not.
        refusal: Refusal,
    },
    /// Answers a probe.
    Heard {
        /// The process that asked.
        writer: Writer,
        /// Which probe.
        sequence: Sequence,
        /// The voter's record, if it is newer than the member's.
        newer: Option<Record>,
        /// As in [`FromVoter::Renewed`].
        lapsed: Vec<Writer>,
        /// As in [`FromVoter::Renewed`].
        undecided: bool,
    },
    /// Writers whose leases have run out at this voter.
    Lapsed {
        /// The record under which they wrote.
        epoch: Epoch,
        /// Who they are.
        writers: Vec<Writer>,
    },
    /// Promises to vote in no lower ballot.
    Promised {
        /// The epoch.
        epoch: Epoch,
        /// The try.
        ballot: Ballot,
        /// What this voter accepted before, and in which try.
        accepted: Option<(Ballot, Record)>,
    },
    /// Votes.
    Accepted {
        /// The epoch.
        epoch: Epoch,
        /// The try.
        ballot: Ballot,
    },
    /// Does not vote yet: a writer that loses something may still write.
    Guarded {
        /// The epoch.
        epoch: Epoch,
        /// The try.
        ballot: Ballot,
        /// When it is worth asking again.
        remaining: Duration,
    },
    /// Has promised a higher ballot.
    Outbid {
        /// The epoch.
        epoch: Epoch,
        /// The ballot that stands in the way.
        promised: Ballot,
    },
    /// Has a newer record than the epoch asked about presumes.
    Decided {
        /// The voter's record.
        record: Record,
    },
    /// Lacks the record before the epoch asked about.
    Missing {
        /// The newest epoch that the voter has.
        epoch: Epoch,
    },
}

/// What one member says to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ToPeer {
    /// Asks a writer whether it is there and would release what it loses. It goes on writing. Who
    /// is past that epoch answers with its record; a process that finds no voters asks for that.
    AskReady {
        /// The try.
        ballot: Ballot,
        /// The epoch to be decided.
        epoch: Epoch,
    },
    /// Is there, and goes by the record before that epoch.
    Ready {
        /// The try.
        ballot: Ballot,
        /// The epoch.
        epoch: Epoch,
        /// Who answers.
        writer: Writer,
    },
    /// Asks a writer to release what it loses in this record.
    AskRelease {
        /// The try that will carry the release.
        ballot: Ballot,
        /// The record.
        record: Record,
    },
    /// Has released it.
    Released {
        /// The try.
        ballot: Ballot,
        /// The epoch of the record.
        epoch: Epoch,
        /// Who released.
        writer: Writer,
    },
    /// The record was chosen: sent only by who saw a majority accept it, or has it installed.
    Install {
        /// The record.
        record: Record,
    },
}
