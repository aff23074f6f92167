//! Leases by voters: what members and the voter of this process say, and to whom.
use std::path::Path;
use std::time::Duration;

use hashroute_coordination::{FromVoter, Record, ToVoter, VoterId};
use hashroute_core::{Epoch, PodId};
use tonic::Status;

use super::EtcdShell;
use crate::answer_counts::AnswerCounts;
use crate::attendees::{Host, to_voter};
use crate::clock;
use crate::disk::{Disk, Stored};
use crate::error::StartError;
use crate::link;
use crate::links::Said;
use crate::proto;
use crate::proto::{attend_request, attend_response};
use crate::server::{self, Attending, no_voter};
use crate::wire::cluster_id_out;

/// The voter of this process. Its record and its votes lie in etcd; its disk keeps who it is, and
/// that no other process is the same.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(super) id: VoterId,
    pub(super) answers: AnswerCounts,
    /// Holds the lock on the directory.
    _disk: Disk,
}

/// What the member and the voter of this process say to each other, without a socket.
#[derive(Debug)]
pub(super) enum Mail {
    ToVoter(PodId, ToVoter),
    FromVoter(VoterId, FromVoter),
}

impl Seat {
    /// Takes the directory, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// As [`Disk::open`]; and [`StartError::DiskOfOtherEngine`] if a voter of the embedded engine
    /// keeps its votes there.
    pub(crate) fn open(directory: &Path, cluster: &str) -> Result<Self, StartError> {
        let (disk, stored) = Disk::open(directory, cluster)?;
        match stored {
            Stored::Newcomer(id) => Ok(Self { id, answers: AnswerCounts::default(), _disk: disk }),
            Stored::Known(_) => Err(StartError::DiskOfOtherEngine { path: directory.to_owned() }),
        }
    }
}

impl EtcdShell {
    /// Delivers what the parts of this process said to each other, until nobody says anything
    /// more. That ends: whatever answers an answer waits for a timer, or for somebody else.
    pub(super) fn deliver(&mut self) {
        while let Some(mail) = self.mail.pop_front() {
            match mail {
                Mail::ToVoter(from, message) => self.voter_hears(from, message),
                Mail::FromVoter(by, message) => {
                    self.with_member(|member, now| member.hear_voter(now, by, message));
                }
            }
        }
    }

    /// A member says this to the voter of this process.
    fn voter_hears(&mut self, from: PodId, message: ToVoter) {
        // Nothing of it concerns the writes of this process.
        for action in self.member.asked(clock::now(), from, message) {
            self.carry_out(action);
        }
    }

    /// The member of this process says this to a voter.
    pub(super) fn member_says(&mut self, to: VoterId, message: ToVoter) {
        self.calls.note(&message, clock::now());
        if self.seat.as_ref().is_some_and(|seat| seat.id == to) {
            self.mail.push_back(Mail::ToVoter(self.member.writer().pod.clone(), message));
        } else {
            self.links.say(to, self.codec.to_voter_out(&message));
        }
    }

    /// The voter of this process says this to the member of the pod.
    pub(super) fn voter_says(&mut self, to: &PodId, message: FromVoter) {
        let is_own = self.own_pod() == Some(to);
        let Some(seat) = &mut self.seat else { return };
        seat.answers.count(&message);
        if is_own {
            self.mail.push_back(Mail::FromVoter(seat.id, message));
        } else {
            self.attendees.say(to, self.codec.from_voter_out(&message));
        }
    }

    /// The pod of this process, as long as it takes part or may yet.
    fn own_pod(&self) -> Option<&PodId> {
        let is_member = self.is_member && !self.member.has_ended();
        is_member.then(|| &self.member.writer().pod)
    }

    /// What is done ten times a second: those who listen hear that the voter is there, and this
    /// process sees to it that there is a way to every voter of the record.
    pub(super) fn beat(&mut self, now: Duration) {
        self.attendees.beat(now);
        self.tell_followers(now);
        self.links_follow_record(now);
        self.count_heard(now);
    }

    /// As long as no majority of the record's voters is heard, the addresses of the settings are
    /// tried, too. Where etcd grants the leases, there is no voter.
    pub(super) fn links_follow_record(&mut self, now: Duration) {
        if self.member.has_ended() && self.links.follows_as().is_none() {
            if self.stopping.is_some() {
                // A last word may be on its way.
                return;
            }
            // Another process may attend as the same pod, and is to be left alone.
            self.links.end_all();
            self.links.attend_no_more();
        }
        let record = self.shared.record();
        if record.as_ref().is_some_and(|record| !record.has_lease_voters()) {
            return;
        }
        let heard = record.as_ref().and_then(|record| self.majority_heard(record, now));
        let tries_all = heard.is_none_or(|at| now.saturating_sub(at) > self.settings.stale_after);
        self.links.follow(record.as_ref(), tries_all, now);
    }

    fn majority_heard(&self, record: &Record, now: Duration) -> Option<Duration> {
        self.links.majority_heard(record, self.member.voter().is_some(), now)
    }

    /// The record is fresh as long as etcd answers, or a majority of its voters is heard: they grant
    /// nothing by an older one than theirs.
    fn count_heard(&self, now: Duration) {
        let record = self.shared.record().filter(Record::has_lease_voters);
        if let Some(at) = record.and_then(|record| self.majority_heard(&record, now)) {
            self.shared.heard(at);
        }
    }

    /// A router wants to follow the record, or hear that this voter is there.
    pub(super) fn follow(
        &mut self,
        request: proto::FollowRequest,
    ) -> Result<server::Answers<proto::FollowResponse>, Status> {
        self.seat.as_ref().ok_or_else(no_voter)?;
        let answers = self.followers.begin(request, self.codec.cluster())?;
        self.tell_followers(clock::now());
        Ok(answers)
    }

    /// Every router hears that the voter is there, and its record if it has not got it.
    pub(super) fn tell_followers(&mut self, now: Duration) {
        if let Some(seat) = &self.seat {
            self.followers.tell(seat.id, self.member.record(), &self.codec, now);
        }
    }

    /// Decides whether a member may converse with the voter of this process, and begins.
    pub(super) fn hello(&mut self, hello: proto::Hello) -> Result<Attending, Status> {
        let voter = self.seat.as_ref().ok_or_else(no_voter)?.id;
        let pod = self.own_pod().cloned();
        let host = Host { voter, record: self.member.record(), pod: pod.as_ref() };
        self.attendees.hello(hello, &host, &self.codec).map(|(attending, _)| attending)
    }

    pub(super) fn attendee_said(&mut self, number: u64, message: attend_request::Message) {
        let Some(me) = self.attendees.heard(number) else { return };
        let read = match message {
            attend_request::Message::Hello(_) => {
                Err(Status::invalid_argument("a second Hello in one conversation"))
            }
            attend_request::Message::ToPeer(_)
            | attend_request::Message::ChangeMade(_)
            | attend_request::Message::Prepare(_)
            | attend_request::Message::Accept(_) => Err(lies_in_etcd()),
            attend_request::Message::Renew(_)
            | attend_request::Message::Probe(_)
            | attend_request::Message::Renounce(_)
            | attend_request::Message::Install(_) => to_voter(&mut self.codec, &me, message),
        };
        match read {
            Ok(message) => self.voter_hears(me.pod, message),
            Err(status) => self.attendees.left(number, Some(status)),
        }
    }

    pub(super) fn link_news(&mut self, number: u64, news: link::News) {
        let now = clock::now();
        match self.links.hear(number, news, now) {
            None => return,
            Some(Said::ToMember(answer)) => self.voter_said(number, now, *answer),
            Some(Said::ToRouter(answer)) => {
                self.links.is_with(number, &answer.voter_id);
                if let Some(message) = answer.record {
                    self.read_record(number, &message);
                }
            }
        }
        self.count_heard(now);
    }

    /// A voter has this record from etcd. If this process does not hear that, it goes by it as a
    /// router; a member waits for etcd, which tells the commit as well.
    fn read_record(&mut self, number: u64, message: &proto::Record) {
        let known = self.shared.record();
        let epoch = message.view.as_ref().map_or(0, |view| view.epoch);
        self.links.has_record(number, Epoch::new(epoch));
        if known.as_ref().is_some_and(|known| epoch <= known.epoch().get()) {
            return;
        }
        match self.codec.record(message) {
            Ok(record) if known.is_none_or(|known| known.cluster() == record.cluster()) => {
                self.shared.publish(&record);
            }
            Ok(_) => self.links.distrust(number, OTHER_FOUNDING.into()),
            Err(error) => self.links.distrust(number, error.to_string()),
        }
    }

    /// A voter said this to the member of this process.
    fn voter_said(&mut self, number: u64, now: Duration, answer: proto::AttendResponse) {
        let Some(message) = answer.message else { return };
        match message {
            attend_response::Message::Welcome(welcome) => self.welcomed(number, &welcome),
            attend_response::Message::FromPeer(_)
            | attend_response::Message::ChangeWanted(_)
            | attend_response::Message::Coming(_) => {
                let reason = "the voter there runs with the embedded engine: write the same \
                              quorum.engine for every process of the cluster";
                self.links.distrust(number, reason.into());
            }
            message @ (attend_response::Message::Renewed(_)
            | attend_response::Message::Refused(_)
            | attend_response::Message::Heard(_)
            | attend_response::Message::Lapsed(_)
            | attend_response::Message::Promised(_)
            | attend_response::Message::Accepted(_)
            | attend_response::Message::Guarded(_)
            | attend_response::Message::Outbid(_)
            | attend_response::Message::Decided(_)
            | attend_response::Message::Missing(_)) => match self.codec.from_voter(message) {
                Ok(message) => {
                    let sent = self.calls.sent(self.member.writer(), &message);
                    self.links.measure(number, &message, answer.clock_ns, sent, now);
                    if let Some(by) = self.links.voter(number) {
                        self.mail.push_back(Mail::FromVoter(by, message));
                    }
                }
                Err(error) => self.links.distrust(number, error.to_string()),
            },
        }
    }

    /// The record that the voter has is not read: it comes from etcd.
    fn welcomed(&mut self, number: u64, welcome: &proto::Welcome) {
        let known = self.shared.record().map(|record| cluster_id_out(record.cluster()));
        let told = welcome.record.as_ref();
        if told.zip(known).is_some_and(|(told, known)| told.cluster_id != known) {
            return self.links.distrust(number, OTHER_FOUNDING.into());
        }
        self.links.is_with(number, &welcome.voter_id);
        if let Some(view) = told.and_then(|record| record.view.as_ref()) {
            self.links.has_record(number, Epoch::new(view.epoch));
        }
    }
}

const OTHER_FOUNDING: &str = "the voter belongs to another founding of this cluster: its address is \
                              old, or it reaches another etcd";

/// What callers for another engine are told.
pub(super) fn lies_in_etcd() -> Status {
    Status::failed_precondition(
        "with engine = \"etcd\" the record is founded and changed in etcd, and this voter only grants \
         leases: write the same quorum.engine for every process of the cluster",
    )
}
