//! What voters and members say to each other, in and out of messages.
use std::time::Duration;

use hashroute_coordination::{
    Ballot, FromVoter, Record, Refusal, Sequence, ToPeer, ToVoter, Writer,
};
use hashroute_core::View;

use super::Codec;
use super::error::WireError;
use super::record::{at_most, epoch_in, missing, nanos, writer_in, writer_out};
use crate::proto;
use crate::proto::attend_request::Message as Request;
use crate::proto::attend_response::Message as Response;
use crate::proto::peer_message::Message as Peer;

#[allow(
    clippy::wrong_self_convention,
    reason = "the names are those of what is read: it comes to or from a voter or peer"
)]
impl Codec {
    /// Writes what a member says to a voter.
    pub(crate) fn to_voter_out(&self, message: &ToVoter) -> Request {
        match message {
            ToVoter::Renew { epoch, writer, sequence } => Request::Renew(proto::Renew {
                epoch: epoch.get(),
                writer: Some(writer_out(writer)),
                sequence: sequence.0,
            }),
            ToVoter::Probe { epoch, writer, sequence } => Request::Probe(proto::Probe {
                epoch: epoch.get(),
                writer: Some(writer_out(writer)),
                sequence: sequence.0,
            }),
            ToVoter::Renounce { writer } => {
                Request::Renounce(proto::Renounce { writer: Some(writer_out(writer)) })
            }
            ToVoter::Prepare { epoch, ballot, stop } => Request::Prepare(proto::Prepare {
                epoch: epoch.get(),
                ballot: Some(ballot_out(*ballot)),
                stop: writers_out(stop),
            }),
            ToVoter::Accept { ballot, record, released } => Request::Accept(proto::Accept {
                ballot: Some(ballot_out(*ballot)),
                record: Some(self.record_out(record)),
                released: writers_out(released),
            }),
            ToVoter::Install { record } => {
                Request::Install(proto::Install { record: Some(self.record_out(record)) })
            }
        }
    }

    /// Reads what a member says to a voter. What is no part of the protocol is refused.
    pub(crate) fn to_voter(&mut self, message: Request) -> Result<ToVoter, WireError> {
        let other = |kind| Err(WireError::OtherKind { kind });
        Ok(match message {
            Request::Renew(it) => ToVoter::Renew {
                epoch: epoch_in("renew.epoch", it.epoch)?,
                writer: writer("renew.writer", it.writer)?,
                sequence: Sequence(it.sequence),
            },
            Request::Probe(it) => ToVoter::Probe {
                epoch: epoch_in("probe.epoch", it.epoch)?,
                writer: writer("probe.writer", it.writer)?,
                sequence: Sequence(it.sequence),
            },
            Request::Renounce(it) => {
                ToVoter::Renounce { writer: writer("renounce.writer", it.writer)? }
            }
            Request::Prepare(it) => ToVoter::Prepare {
                epoch: epoch_in("prepare.epoch", it.epoch)?,
                ballot: ballot("prepare.ballot", it.ballot)?,
                stop: writers("prepare.stop", &it.stop)?,
            },
            Request::Accept(it) => ToVoter::Accept {
                ballot: ballot("accept.ballot", it.ballot)?,
                record: self.needed("accept.record", it.record)?,
                released: writers("accept.released", &it.released)?,
            },
            Request::Install(it) => {
                ToVoter::Install { record: self.needed("install.record", it.record)? }
            }
            Request::Hello(_) => return other("hello"),
            Request::ToPeer(_) => return other("to_peer"),
            Request::ChangeMade(_) => return other("change_made"),
        })
    }

    /// Writes what a voter says to a member.
    pub(crate) fn from_voter_out(&self, message: &FromVoter) -> Response {
        match message {
            FromVoter::Renewed { epoch, writer, sequence, lapsed, undecided } => {
                Response::Renewed(proto::Renewed {
                    epoch: epoch.get(),
                    writer: Some(writer_out(writer)),
                    sequence: sequence.0,
                    lapsed: writers_out(lapsed),
                    undecided: *undecided,
                })
            }
            FromVoter::Refused { writer, sequence, refusal } => {
                let (refusal, record) = refusal_out(refusal);
                Response::Refused(proto::Refused {
                    writer: Some(writer_out(writer)),
                    sequence: sequence.0,
                    refusal: refusal.into(),
                    record: record.map(|record| self.record_out(record)),
                })
            }
            FromVoter::Heard { writer, sequence, newer, lapsed, undecided } => {
                Response::Heard(proto::Heard {
                    writer: Some(writer_out(writer)),
                    sequence: sequence.0,
                    newer: newer.as_ref().map(|record| self.record_out(record)),
                    lapsed: writers_out(lapsed),
                    undecided: *undecided,
                })
            }
            FromVoter::Lapsed { epoch, writers } => Response::Lapsed(proto::Lapsed {
                epoch: epoch.get(),
                writers: writers_out(writers),
            }),
            FromVoter::Promised { .. }
            | FromVoter::Accepted { .. }
            | FromVoter::Guarded { .. }
            | FromVoter::Outbid { .. }
            | FromVoter::Decided { .. }
            | FromVoter::Missing { .. } => self.ballot_answer_out(message),
        }
    }

    /// Reads what a voter says to a member. What is no part of the protocol is refused.
    pub(crate) fn from_voter(&mut self, message: Response) -> Result<FromVoter, WireError> {
        let other = |kind| Err(WireError::OtherKind { kind });
        Ok(match message {
            Response::Renewed(it) => FromVoter::Renewed {
                epoch: epoch_in("renewed.epoch", it.epoch)?,
                writer: writer("renewed.writer", it.writer)?,
                sequence: Sequence(it.sequence),
                lapsed: writers("renewed.lapsed", &it.lapsed)?,
                undecided: it.undecided,
            },
            Response::Refused(it) => FromVoter::Refused {
                refusal: self.refusal(it.refusal, it.record)?,
                writer: writer("refused.writer", it.writer)?,
                sequence: Sequence(it.sequence),
            },
            Response::Heard(it) => FromVoter::Heard {
                writer: writer("heard.writer", it.writer)?,
                sequence: Sequence(it.sequence),
                newer: it.newer.map(|record| self.record(&record)).transpose()?,
                lapsed: writers("heard.lapsed", &it.lapsed)?,
                undecided: it.undecided,
            },
            Response::Lapsed(it) => FromVoter::Lapsed {
                epoch: epoch_in("lapsed.epoch", it.epoch)?,
                writers: writers("lapsed.writers", &it.writers)?,
            },
            Response::Promised(_)
            | Response::Accepted(_)
            | Response::Guarded(_)
            | Response::Outbid(_)
            | Response::Decided(_)
            | Response::Missing(_) => self.ballot_answer(message)?,
            Response::Welcome(_) => return other("welcome"),
            Response::FromPeer(_) => return other("from_peer"),
            Response::ChangeWanted(_) => return other("change_wanted"),
            Response::Coming(_) => return other("coming"),
        })
    }

    /// Writes what one member says to another.
    pub(crate) fn to_peer_out(&self, message: &ToPeer) -> proto::PeerMessage {
        let message = match message {
            ToPeer::AskReady { ballot, epoch } => Peer::AskReady(proto::AskReady {
                ballot: Some(ballot_out(*ballot)),
                epoch: epoch.get(),
            }),
            ToPeer::Ready { ballot, epoch, writer } => Peer::Ready(proto::Ready {
                ballot: Some(ballot_out(*ballot)),
                epoch: epoch.get(),
                writer: Some(writer_out(writer)),
            }),
            ToPeer::AskRelease { ballot, record } => Peer::AskRelease(proto::AskRelease {
                ballot: Some(ballot_out(*ballot)),
                record: Some(self.record_out(record)),
            }),
            ToPeer::Released { ballot, epoch, writer } => Peer::Released(proto::Released {
                ballot: Some(ballot_out(*ballot)),
                epoch: epoch.get(),
                writer: Some(writer_out(writer)),
            }),
            ToPeer::Install { record } => {
                Peer::Install(proto::Install { record: Some(self.record_out(record)) })
            }
        };
        proto::PeerMessage { message: Some(message) }
    }

    /// Reads what one member says to another.
    pub(crate) fn to_peer(&mut self, message: proto::PeerMessage) -> Result<ToPeer, WireError> {
        Ok(match message.message.ok_or(missing("peer_message"))? {
            Peer::AskReady(it) => ToPeer::AskReady {
                ballot: ballot("ask_ready.ballot", it.ballot)?,
                epoch: epoch_in("ask_ready.epoch", it.epoch)?,
            },
            Peer::Ready(it) => ToPeer::Ready {
                ballot: ballot("ready.ballot", it.ballot)?,
                epoch: epoch_in("ready.epoch", it.epoch)?,
                writer: writer("ready.writer", it.writer)?,
            },
            Peer::AskRelease(it) => ToPeer::AskRelease {
                ballot: ballot("ask_release.ballot", it.ballot)?,
                record: self.needed("ask_release.record", it.record)?,
            },
            Peer::Released(it) => ToPeer::Released {
                ballot: ballot("released.ballot", it.ballot)?,
                epoch: epoch_in("released.epoch", it.epoch)?,
                writer: writer("released.writer", it.writer)?,
            },
            Peer::Install(it) => {
                ToPeer::Install { record: self.needed("install.record", it.record)? }
            }
        })
    }

    /// What a voter answers to a proposer.
    fn ballot_answer_out(&self, message: &FromVoter) -> Response {
        match message {
            FromVoter::Promised { epoch, ballot, accepted } => {
                let (accepted_in, accepted) =
                    accepted.as_ref().map_or((None, None), |(it, record)| {
                        (Some(ballot_out(*it)), Some(self.record_out(record)))
                    });
                let (epoch, ballot) = (epoch.get(), Some(ballot_out(*ballot)));
                Response::Promised(proto::Promised { epoch, ballot, accepted_in, accepted })
            }
            FromVoter::Accepted { epoch, ballot } => Response::Accepted(proto::Accepted {
                epoch: epoch.get(),
                ballot: Some(ballot_out(*ballot)),
            }),
            FromVoter::Guarded { epoch, ballot, remaining } => Response::Guarded(proto::Guarded {
                epoch: epoch.get(),
                ballot: Some(ballot_out(*ballot)),
                remaining_ns: nanos(*remaining),
            }),
            FromVoter::Outbid { epoch, promised } => Response::Outbid(proto::Outbid {
                epoch: epoch.get(),
                promised: Some(ballot_out(*promised)),
            }),
            FromVoter::Decided { record } => {
                Response::Decided(proto::Decided { record: Some(self.record_out(record)) })
            }
            FromVoter::Missing { epoch } => {
                Response::Missing(proto::Missing { epoch: epoch.get() })
            }
            FromVoter::Renewed { .. }
            | FromVoter::Refused { .. }
            | FromVoter::Heard { .. }
            | FromVoter::Lapsed { .. } => self.from_voter_out(message),
        }
    }

    fn ballot_answer(&mut self, message: Response) -> Result<FromVoter, WireError> {
        Ok(match message {
            Response::Promised(it) => FromVoter::Promised {
                epoch: epoch_in("promised.epoch", it.epoch)?,
                ballot: ballot("promised.ballot", it.ballot)?,
                accepted: self.vote(
                    ["accepted_in", "accepted"],
                    it.accepted_in,
                    it.accepted.as_ref(),
                )?,
            },
            Response::Accepted(it) => FromVoter::Accepted {
                epoch: epoch_in("accepted.epoch", it.epoch)?,
                ballot: ballot("accepted.ballot", it.ballot)?,
            },
            Response::Guarded(it) => FromVoter::Guarded {
                epoch: epoch_in("guarded.epoch", it.epoch)?,
                ballot: ballot("guarded.ballot", it.ballot)?,
                remaining: remaining(it.remaining_ns)?,
            },
            Response::Outbid(it) => FromVoter::Outbid {
                epoch: epoch_in("outbid.epoch", it.epoch)?,
                promised: ballot("outbid.promised", it.promised)?,
            },
            Response::Decided(it) => {
                FromVoter::Decided { record: self.needed("decided.record", it.record)? }
            }
            Response::Missing(it) => {
                FromVoter::Missing { epoch: epoch_in("missing.epoch", it.epoch)? }
            }
            Response::Renewed(_)
            | Response::Refused(_)
            | Response::Heard(_)
            | Response::Lapsed(_)
            | Response::Welcome(_)
            | Response::FromPeer(_)
            | Response::ChangeWanted(_)
            | Response::Coming(_) => self.from_voter(message)?,
        })
    }

    /// A record, and the ballot of the vote for it: both or neither. The fields are named like this.
    pub(crate) fn vote(
        &mut self,
        [ballot_field, record_field]: [&'static str; 2],
        ballot: Option<proto::Ballot>,
        record: Option<&proto::Record>,
    ) -> Result<Option<(Ballot, Record)>, WireError> {
        match (ballot, record) {
            (None, None) => Ok(None),
            (Some(ballot), Some(record)) => Ok(Some((ballot_in(ballot), self.record(record)?))),
            (None, Some(_)) => Err(missing(ballot_field)),
            (Some(_), None) => Err(missing(record_field)),
        }
    }

    fn refusal(
        &mut self,
        refusal: i32,
        record: Option<proto::Record>,
    ) -> Result<Refusal, WireError> {
        Ok(match proto::Refusal::try_from(refusal) {
            Ok(proto::Refusal::Behind) => Refusal::Behind(self.needed("refused.record", record)?),
            Ok(proto::Refusal::Pending) => Refusal::Pending(self.needed("refused.record", record)?),
            Ok(proto::Refusal::Ahead) => Refusal::Ahead,
            Ok(proto::Refusal::NotNamed) => Refusal::NotNamed,
            Ok(proto::Refusal::Held) => Refusal::Held,
            Ok(proto::Refusal::Renounced) => Refusal::Renounced,
            Ok(proto::Refusal::NotAVoter) => Refusal::NotAVoter,
            Ok(proto::Refusal::Unspecified) | Err(_) => return Err(missing("refused.refusal")),
        })
    }

    fn needed(
        &mut self,
        field: &'static str,
        record: Option<proto::Record>,
    ) -> Result<Record, WireError> {
        self.record(&record.ok_or(missing(field))?)
    }
}

pub(crate) fn ballot_out(ballot: Ballot) -> proto::Ballot {
    proto::Ballot { round: ballot.round, proposer: ballot.proposer }
}

pub(crate) fn ballot_in(message: proto::Ballot) -> Ballot {
    Ballot { round: message.round, proposer: message.proposer }
}

fn refusal_out(refusal: &Refusal) -> (proto::Refusal, Option<&Record>) {
    match refusal {
        Refusal::Behind(record) => (proto::Refusal::Behind, Some(record)),
        Refusal::Pending(record) => (proto::Refusal::Pending, Some(record)),
        Refusal::Ahead => (proto::Refusal::Ahead, None),
        Refusal::NotNamed => (proto::Refusal::NotNamed, None),
        Refusal::Held => (proto::Refusal::Held, None),
        Refusal::Renounced => (proto::Refusal::Renounced, None),
        Refusal::NotAVoter => (proto::Refusal::NotAVoter, None),
    }
}

fn ballot(field: &'static str, message: Option<proto::Ballot>) -> Result<Ballot, WireError> {
    message.map(ballot_in).ok_or(missing(field))
}

fn writer(field: &'static str, message: Option<proto::Writer>) -> Result<Writer, WireError> {
    writer_in(&message.ok_or(missing(field))?)
}

fn writers(field: &'static str, messages: &[proto::Writer]) -> Result<Vec<Writer>, WireError> {
    at_most(field, messages, View::PODS_MAX)?.iter().map(writer_in).collect()
}

fn writers_out(writers: &[Writer]) -> Vec<proto::Writer> {
    writers.iter().map(writer_out).collect()
}

/// No guard and no quiet time is longer: a lease is ten minutes at most.
fn remaining(nanos: u64) -> Result<Duration, WireError> {
    let remaining = Duration::from_nanos(nanos);
    if remaining > REMAINING_MAX {
        let (field, expected) = ("guarded.remaining_ns", "at most 20 minutes");
        return Err(WireError::Number { field, got: nanos, expected });
    }
    Ok(remaining)
}

const REMAINING_MAX: Duration = Duration::from_secs(1_200);
