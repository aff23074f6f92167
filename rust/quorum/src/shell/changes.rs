//! Changes of the record that somebody asked for, and waits for.
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::SyncSender;

use hashroute_coordination::{Change, ChangeError, Member, Record};
use hashroute_core::Epoch;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::error::ChangeFailed;
use crate::links::Links;
use crate::proto;
use crate::proto::make_change_response::Result as Made;
use crate::proto::quorum_client::QuorumClient;
use crate::proto::{attend_request, attend_response};
use crate::server::{check_cluster, check_version, invalid};
use crate::wire;

use super::{Reply, Shell};

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// For the own member, in the order in which it was asked.
    wished: VecDeque<(Change, Asker)>,
    /// For the member that attends in this conversation, by the number that it was told.
    asked: BTreeMap<u64, (u64, Asker)>,
    last_number: u64,
}

/// Where the answer goes.
#[derive(Debug)]
enum Asker {
    /// To a thread of this process.
    Thread(SyncSender<Result<Epoch, ChangeFailed>>),
    /// To a caller of MakeChange.
    Caller(Reply<proto::MakeChangeResponse>),
    /// To the voter that passed it on.
    Voter { link: u64, number: u64 },
}

impl Asker {
    fn answer(self, result: Result<Epoch, ChangeFailed>, links: &Links) {
        match self {
            Self::Thread(reply) => {
                let _ = reply.try_send(result);
            }
            Self::Caller(reply) => {
                let _ = reply.send(Ok(response(result)));
            }
            Self::Voter { link, number } => {
                let result = Some(response(result));
                let made = proto::ChangeMade { number, result };
                links.say_in(link, attend_request::Message::ChangeMade(made));
            }
        }
    }

    /// Whether nobody waits any more, as far as can be told.
    fn is_gone(&self) -> bool {
        match self {
            Self::Caller(reply) => reply.is_closed(),
            Self::Thread(_) | Self::Voter { .. } => false,
        }
    }
}

impl Changes {
    pub(super) fn made(&mut self, change: &Change, epoch: Epoch, links: &Links) {
        self.answer_wish(change, Ok(epoch), links);
    }

    pub(super) fn dropped(&mut self, change: &Change, reason: ChangeError, links: &Links) {
        self.answer_wish(change, Err(reason.into()), links);
    }

    /// Equal changes are answered in the order in which they were asked for.
    fn answer_wish(&mut self, change: &Change, result: Result<Epoch, ChangeFailed>, links: &Links) {
        let place = self.wished.iter().position(|(wished, _)| wished == change);
        if let Some((_, asker)) = place.and_then(|place| self.wished.remove(place)) {
            asker.answer(result, links);
        }
    }

    /// The own member makes none any more.
    pub(super) fn end_all(&mut self, reason: &str, links: &Links) {
        for (_, asker) in std::mem::take(&mut self.wished) {
            asker.answer(Err(ChangeFailed::Unreachable { reason: reason.into() }), links);
        }
    }
}

impl Shell {
    /// A thread of this process wants a change: its own member makes it, or a voter sees to it.
    pub(super) fn change(
        &mut self,
        change: Change,
        reply: SyncSender<Result<Epoch, ChangeFailed>>,
    ) {
        let takes_part = self.member.as_ref().is_some_and(|member| !member.has_left);
        if takes_part {
            return self.wish(change, Asker::Thread(reply));
        }
        let Some(message) = wire::change_out(&change) else {
            let reason = "only a member can ask for this change".into();
            return Asker::Thread(reply)
                .answer(Err(ChangeFailed::Unreachable { reason }), &self.links);
        };
        if self.voter.is_some() {
            self.ask_attendee(message, &change, Asker::Thread(reply));
            return;
        }
        let request = proto::MakeChangeRequest {
            version: proto::Version::Version1.into(),
            cluster: self.settings.cluster.clone(),
            change: Some(message),
        };
        tokio::spawn(ask_voters(self.links.channels(), request, reply));
    }

    /// An operator asked this voter for a change.
    pub(super) fn make_change(
        &mut self,
        request: &proto::MakeChangeRequest,
        reply: Reply<proto::MakeChangeResponse>,
    ) {
        let read = self.read_change(request);
        let (message, change) = match read {
            Ok(read) => read,
            Err(status) => {
                let _ = reply.send(Err(status));
                return;
            }
        };
        let leaves = |pod: &_| change == Change::Remove(Clone::clone(pod));
        let own = self
            .member
            .as_ref()
            .filter(|part| part.member.as_ref().is_some_and(may_propose) && !leaves(&part.pod.id));
        if own.is_some() {
            self.wish(change, Asker::Caller(reply));
        } else {
            self.ask_attendee(message, &change, Asker::Caller(reply));
        }
    }

    fn read_change(
        &mut self,
        request: &proto::MakeChangeRequest,
    ) -> Result<(proto::RecordChange, Change), Status> {
        check_version(request.version)?;
        check_cluster(self.codec.cluster(), &request.cluster)?;
        let record = self.voter_record().or_else(|| self.shared.record()).ok_or_else(|| {
            Status::failed_precondition(
                "the cluster has no record yet: found it with `hashroute quorum init`",
            )
        })?;
        let Some(message) = request.change.clone() else {
            return Err(Status::invalid_argument("no change is asked for"));
        };
        let change = wire::change(&message, &record).map_err(|error| invalid(&error))?;
        Ok((message, change))
    }

    fn wish(&mut self, change: Change, asker: Asker) {
        let Some(member) = self.member.as_mut().and_then(|part| part.member.as_mut()) else {
            let reason =
                "this process has not joined yet: its stalls are being checked, or no voter \
                          has a record"
                    .into();
            return asker.answer(Err(ChangeFailed::Unreachable { reason }), &self.links);
        };
        match member.wish(change.clone()) {
            Ok(()) => self.changes.wished.push_back((change, asker)),
            Err(error) => asker.answer(Err(error.into()), &self.links),
        }
    }

    /// Asks a member that attends and writes; not the one that the change removes, if there is
    /// another.
    fn ask_attendee(&mut self, message: proto::RecordChange, change: &Change, asker: Asker) {
        self.changes.asked.retain(|_, (_, asker)| !asker.is_gone());
        let record = self.voter_record();
        let writes =
            |pod: &_| record.as_ref().is_some_and(|it: &Record| it.writers().contains_key(pod));
        let writers: Vec<_> = self.attendees.iter().filter(|(pod, _)| writes(pod)).collect();
        let stays = writers.iter().find(|(pod, _)| *change != Change::Remove((*pod).clone()));
        let chosen = stays.or(writers.first()).map(|(_, number)| *number);
        let Some(attendee) = chosen.filter(|_| self.changes.asked.len() < ASKED_MOST) else {
            let reason = "no member that could make the change attends this voter now: ask another \
                          voter, or ask again in a moment";
            return match asker {
                Asker::Caller(reply) => drop(reply.send(Err(Status::unavailable(reason)))),
                asker @ (Asker::Thread(_) | Asker::Voter { .. }) => {
                    let reason = reason.into();
                    asker.answer(Err(ChangeFailed::Unreachable { reason }), &self.links);
                }
            };
        };
        self.changes.last_number += 1;
        let number = self.changes.last_number;
        let wanted = proto::ChangeWanted { number, change: Some(message) };
        self.changes.asked.insert(number, (attendee, asker));
        if !self.attendees.say_in(attendee, attend_response::Message::ChangeWanted(wanted)) {
            self.changes_lost_with(attendee);
        }
    }

    /// A voter passes on a change that an operator asked it for.
    pub(super) fn change_wanted(&mut self, link: u64, wanted: proto::ChangeWanted) {
        let asker = Asker::Voter { link, number: wanted.number };
        let record = self.shared.record();
        let read = wanted.change.zip(record).map(|(change, record)| wire::change(&change, &record));
        match read {
            Some(Ok(change)) => self.wish(change, asker),
            Some(Err(error)) => {
                let (code, message) = ("change_malformed".into(), error.to_string());
                asker.answer(Err(ChangeFailed::Told { code, message }), &self.links);
            }
            None => {
                let reason = "the member has no record yet, or was asked for nothing".into();
                asker.answer(Err(ChangeFailed::Unreachable { reason }), &self.links);
            }
        }
    }

    /// The member that was asked for a change says what came of it.
    pub(super) fn change_made(&mut self, attendee: u64, made: proto::ChangeMade) {
        let asked = self.changes.asked.get(&made.number).map(|(asked, _)| *asked);
        if asked != Some(attendee) {
            return;
        }
        if let Some((_, asker)) = self.changes.asked.remove(&made.number) {
            let result = read_response(made.result.unwrap_or_default());
            asker.answer(result, &self.links);
        }
    }

    /// The conversation is over: what was asked in it is made, or not, and nobody says which.
    pub(super) fn changes_lost_with(&mut self, attendee: u64) {
        let lost: Vec<_> =
            self.changes.asked.extract_if(.., |_, (asked, _)| *asked == attendee).collect();
        for (_, (_, asker)) in lost {
            asker.answer(Err(unknown("the member that was asked is gone")), &self.links);
        }
    }
}

/// Whether a member can get a change made now: a majority of voters hears it, and it writes.
fn may_propose(member: &Member) -> bool {
    member.lease().heard_since().is_some() && member.record().names(member.writer())
}

/// Asks one voter after the other, until one does not say that it cannot.
async fn ask_voters(
    voters: Vec<(String, Channel)>,
    request: proto::MakeChangeRequest,
    reply: SyncSender<Result<Epoch, ChangeFailed>>,
) {
    let mut reason = String::from("no voter can be reached");
    for (address, channel) in voters {
        let result = QuorumClient::new(channel).make_change(request.clone()).await;
        let status = match result {
            Ok(response) => {
                let _ = reply.try_send(read_response(response.into_inner()));
                return;
            }
            Err(status) => status,
        };
        let is_answer = std::error::Error::source(&status).is_none();
        let means_no = matches!(status.code(), Code::Unavailable | Code::FailedPrecondition);
        if is_answer && status.code() == Code::InvalidArgument {
            let (code, message) = ("change_malformed".into(), status.message().into());
            let _ = reply.try_send(Err(ChangeFailed::Told { code, message }));
            return;
        }
        if !is_answer || !means_no {
            let _ = reply.try_send(Err(unknown(status.message())));
            return;
        }
        reason = format!("{address}: {}", status.message());
    }
    let _ = reply.try_send(Err(ChangeFailed::Unreachable { reason }));
}

/// The situation in which nobody knows whether the change is made.
fn unknown(why: &str) -> ChangeFailed {
    let message = format!("{why}: whether the change is made is not known yet");
    ChangeFailed::Told { code: "change_unknown".into(), message }
}

pub(crate) fn response(result: Result<Epoch, ChangeFailed>) -> proto::MakeChangeResponse {
    let result = Some(match result {
        Ok(epoch) => Made::Epoch(epoch.get()),
        Err(failed) => {
            let (code, message) = (failed.code().to_owned(), failed.to_string());
            Made::Refused(proto::ChangeRefused { code, message })
        }
    });
    proto::MakeChangeResponse { result }
}

pub(crate) fn read_response(response: proto::MakeChangeResponse) -> Result<Epoch, ChangeFailed> {
    match response.result {
        Some(Made::Epoch(epoch)) => Ok(Epoch::new(epoch)),
        Some(Made::Refused(proto::ChangeRefused { code, message })) => {
            Err(ChangeFailed::Told { code, message })
        }
        None => Err(unknown("the answer says nothing")),
    }
}

/// Changes that members were asked for and have not answered.
const ASKED_MOST: usize = 64;
