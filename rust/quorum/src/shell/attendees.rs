//! Members that converse with the voter of this process.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{ToVoter, VoterId, Writer};
use hashroute_core::PodId;
use tokio::sync::oneshot;
use tonic::Status;

use crate::clock;
use crate::link::WAITING_MOST;
use crate::outbox::{Outbox, outbox};
use crate::proto;
use crate::proto::{attend_request, attend_response};
use crate::server::Attending;
use crate::wire::{cluster_id_out, voter_id_out, writer_in};

use super::voter::{invalid, no_voter};
use super::{Mail, Shell};

/// All conversations, one a pod.
#[derive(Debug, Default)]
pub(super) struct Attendees {
    by_number: BTreeMap<u64, Attendee>,
    numbers: BTreeMap<PodId, u64>,
    last_number: u64,
    /// Pods that two processes attend as, and when that was seen last.
    contested: BTreeMap<PodId, Duration>,
}

#[derive(Debug)]
struct Attendee {
    writer: Writer,
    /// When it said something last.
    heard: Duration,
    outbox: Outbox<Result<proto::AttendResponse, Status>>,
    /// Tells whoever reads what the member says that it is over.
    _ended: oneshot::Sender<()>,
}

impl Attendees {
    pub(super) fn pods(&self) -> Vec<String> {
        self.numbers.keys().map(ToString::to_string).collect()
    }

    /// The pods that attend, each with its conversation.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&PodId, u64)> {
        self.numbers.iter().map(|(pod, number)| (pod, *number))
    }

    /// Pods that two processes attended as within the last minute.
    pub(super) fn contested(&self, now: Duration) -> impl Iterator<Item = &PodId> {
        let lately = move |seen: Duration| now.saturating_sub(seen) < CONTESTED_FOR;
        self.contested.iter().filter(move |(_, seen)| lately(**seen)).map(|(pod, _)| pod)
    }

    /// Says it to the member of the pod, if that attends.
    pub(super) fn say(&mut self, pod: &PodId, message: attend_response::Message) {
        if let Some(number) = self.numbers.get(pod).copied() {
            self.say_in(number, message);
        }
    }

    /// Says it in this conversation; returns whether that goes on.
    pub(super) fn say_in(&mut self, number: u64, message: attend_response::Message) -> bool {
        let goes_on = self.by_number.get(&number).is_some_and(|it| it.say(Some(message)));
        if !goes_on {
            self.remove(number);
        }
        goes_on
    }

    /// Everybody hears that the voter is there.
    pub(super) fn beat(&mut self, now: Duration) {
        let silent = self.by_number.iter().filter(|(_, attendee)| !attendee.say(None));
        let silent: Vec<u64> = silent.map(|(number, _)| *number).collect();
        silent.into_iter().for_each(|number| drop(self.remove(number)));
        self.contested.retain(|_, seen| now.saturating_sub(*seen) < CONTESTED_FOR);
    }

    /// The voter has its first record.
    pub(super) fn welcome(&mut self, id: VoterId, record: &proto::Record) {
        let welcome = proto::Welcome { voter_id: voter_id_out(id), record: Some(record.clone()) };
        self.say_to_all(&attend_response::Message::Welcome(welcome));
    }

    /// Everybody hears what may come.
    pub(super) fn foretell(&mut self, record: &proto::Record) {
        self.say_to_all(&attend_response::Message::Coming(record.clone()));
    }

    fn say_to_all(&mut self, message: &attend_response::Message) {
        let numbers: Vec<u64> = self.by_number.keys().copied().collect();
        for number in numbers {
            self.say_in(number, message.clone());
        }
    }

    pub(super) fn end_all(&mut self, status: &Status) {
        self.numbers.clear();
        for attendee in std::mem::take(&mut self.by_number).into_values() {
            attendee.outbox.end_with(Err(status.clone()));
        }
    }

    fn end(&mut self, number: u64, status: Status) {
        if let Some(attendee) = self.remove(number) {
            attendee.outbox.end_with(Err(status));
        }
    }

    fn remove(&mut self, number: u64) -> Option<Attendee> {
        let attendee = self.by_number.remove(&number)?;
        if self.numbers.get(&attendee.writer.pod) == Some(&number) {
            self.numbers.remove(&attendee.writer.pod);
        }
        Some(attendee)
    }
}

impl Attendee {
    /// Returns whether the conversation goes on: one that nobody reads ends.
    fn say(&self, message: Option<attend_response::Message>) -> bool {
        let clock_ns = clock::nanos(clock::now());
        let goes_on = self.outbox.offer(Ok(proto::AttendResponse { clock_ns, message }));
        if !goes_on {
            let reason = "the member does not read what it is told: it has to begin again";
            self.outbox.end_with(Err(Status::resource_exhausted(reason)));
        }
        goes_on
    }
}

impl Shell {
    /// Decides whether a member may converse, and begins.
    pub(super) fn hello(&mut self, hello: proto::Hello) -> Result<Attending, Status> {
        self.check_version(hello.version)?;
        self.check_cluster(&hello.cluster)?;
        let part = self.voter.as_ref().ok_or_else(no_voter)?;
        if let Some(trouble) = part.trouble() {
            let reason = format!("the voter's disk failed ({trouble}): ask another voter");
            return Err(Status::unavailable(reason));
        }
        let id = part.id;
        let record = part.record().cloned();
        if !hello.voter_id.is_empty() && hello.voter_id != voter_id_out(id) {
            return Err(Status::failed_precondition(format!(
                "the voter here is {:032x}, and another one is meant: if its disk was lost, let this \
                 one take its place with `hashroute quorum replace-voter`",
                id.0
            )));
        }
        if let Some(record) = &record
            && !hello.cluster_id.is_empty()
            && hello.cluster_id != cluster_id_out(record.cluster())
        {
            return Err(Status::failed_precondition(format!(
                "this voter belongs to the founding {:032x} of cluster {:?}, and the member to another \
                 one: one of them has an old address or an old data directory",
                record.cluster().0,
                self.settings.cluster
            )));
        }
        let writer = hello.writer.ok_or_else(|| Status::invalid_argument("no writer in Hello"))?;
        let writer = writer_in(&writer).map_err(|error| invalid(&error))?;
        let pod = &writer.pod;
        if self.member.as_ref().is_some_and(|member| member.pod.id == *pod && !member.has_left) {
            self.attendees.contested.insert(pod.clone(), clock::now());
            return Err(Status::failed_precondition(format!(
                "this very process is the member of pod {pod}: give the other one another quorum.pod"
            )));
        }
        let attending = self.attend(writer)?;
        let record = record.map(|record| self.codec.record_out(&record));
        let welcome = proto::Welcome { voter_id: voter_id_out(id), record };
        self.attendees.say_in(attending.number, attend_response::Message::Welcome(welcome));
        Ok(attending)
    }

    /// A later conversation of the same pod takes the place of the one before.
    fn attend(&mut self, writer: Writer) -> Result<Attending, Status> {
        let attendees = &mut self.attendees;
        let before = attendees.numbers.get(&writer.pod).copied();
        if attendees.by_number.len() >= ATTENDEES_MOST && before.is_none() {
            return Err(Status::resource_exhausted(format!(
                "{ATTENDEES_MOST} members attend this voter, which is the most"
            )));
        }
        if let Some((number, attendee)) = before.and_then(|it| Some((it, attendees.remove(it)?))) {
            let (now, goes_on) = (clock::now(), !attendee.outbox.is_abandoned());
            let is_alive = goes_on && now.saturating_sub(attendee.heard) < ALIVE_FOR;
            if attendee.writer != writer && is_alive {
                attendees.contested.insert(writer.pod.clone(), now);
            }
            let reason = "another process attends as this pod: if both are alive, stop one of them";
            attendee.outbox.end_with(Err(Status::aborted(reason)));
            self.changes_lost_with(number);
        }
        let attendees = &mut self.attendees;
        attendees.last_number += 1;
        let number = attendees.last_number;
        let (outbox, answers) = outbox(WAITING_MOST);
        let (end, ended) = oneshot::channel();
        attendees.numbers.insert(writer.pod.clone(), number);
        attendees
            .by_number
            .insert(number, Attendee { writer, heard: clock::now(), outbox, _ended: end });
        Ok(Attending { number, answers, ended })
    }

    pub(super) fn attendee_said(&mut self, number: u64, message: attend_request::Message) {
        let Some(attendee) = self.attendees.by_number.get_mut(&number) else { return };
        attendee.heard = clock::now();
        let me = attendee.writer.clone();
        let refused = match message {
            attend_request::Message::Hello(_) => {
                Err(Status::invalid_argument("a second Hello in one conversation"))
            }
            attend_request::Message::ToPeer(message) => self.pass_on(&me.pod, message),
            attend_request::Message::ChangeMade(made) => {
                self.change_made(number, made);
                Ok(())
            }
            attend_request::Message::Renew(_)
            | attend_request::Message::Probe(_)
            | attend_request::Message::Renounce(_)
            | attend_request::Message::Prepare(_)
            | attend_request::Message::Accept(_)
            | attend_request::Message::Install(_) => self.said_to_voter(&me, message),
        };
        if let Err(status) = refused {
            self.attendees.end(number, status);
            self.changes_lost_with(number);
        }
    }

    fn said_to_voter(
        &mut self,
        me: &Writer,
        message: attend_request::Message,
    ) -> Result<(), Status> {
        let message = self.codec.to_voter(message).map_err(|error| invalid(&error))?;
        let speaks_for = match &message {
            ToVoter::Renew { writer, .. } | ToVoter::Probe { writer, .. } => writer == me,
            // Whoever reaped a process may say so for it.
            ToVoter::Renounce { writer } => writer.pod == me.pod,
            ToVoter::Prepare { .. } | ToVoter::Accept { .. } | ToVoter::Install { .. } => true,
        };
        if !speaks_for {
            let reason =
                "a member speaks for itself alone: the writer is another than in its Hello";
            return Err(Status::invalid_argument(reason));
        }
        self.voter_hears(me.pod.clone(), message);
        Ok(())
    }

    /// What one member says to another goes by every voter that both attend.
    fn pass_on(&mut self, from: &PodId, message: proto::ToPeer) -> Result<(), Status> {
        let to = PodId::new(&message.pod)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let Some(content) = message.message else {
            return Err(Status::invalid_argument("nothing is to be passed on"));
        };
        if self.member.as_ref().is_some_and(|member| member.pod.id == to) {
            let message = self.codec.to_peer(content).map_err(|error| invalid(&error))?;
            self.mail.push_back(Mail::ToPeer(from.clone(), message));
        } else {
            self.say_from_peer(from, &to, content);
        }
        Ok(())
    }

    pub(super) fn say_from_peer(&mut self, from: &PodId, to: &PodId, content: proto::PeerMessage) {
        let message = proto::FromPeer { pod: from.to_string(), message: Some(content) };
        self.attendees.say(to, attend_response::Message::FromPeer(message));
    }

    pub(super) fn attendee_left(&mut self, number: u64, reason: Option<Status>) {
        match reason {
            Some(status) => self.attendees.end(number, status),
            None => drop(self.attendees.remove(number)),
        }
        self.changes_lost_with(number);
    }

    pub(super) fn check_version(&self, version: i32) -> Result<(), Status> {
        if version == i32::from(proto::Version::Version1) {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "this process speaks version 1 of the quorum's contract, and the caller version {version}: \
             run the same release of hashroute on both"
        )))
    }

    pub(super) fn check_cluster(&self, cluster: &str) -> Result<(), Status> {
        if cluster == self.settings.cluster {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "this process belongs to cluster {:?}, and the caller to {cluster:?}: one of them has \
             the wrong address, or quorum.cluster",
            self.settings.cluster
        )))
    }
}

/// Conversations with members at one time.
const ATTENDEES_MOST: usize = 1_024;

/// A process that said something within this is taken to be alive: members renew more often.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// For so long it is said that two processes attend as one pod.
const CONTESTED_FOR: Duration = Duration::from_secs(60);
