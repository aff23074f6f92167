//! Members that converse with the voter of this process.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{Record, ToVoter, VoterId, Writer};
use hashroute_core::PodId;
use tokio::sync::oneshot;
use tonic::Status;

use crate::clock;
use crate::link::WAITING_MOST;
use crate::outbox::{Outbox, outbox};
use crate::proto;
use crate::proto::{attend_request, attend_response};
use crate::server::{Attending, check_cluster, check_version, invalid};
use crate::wire::{Codec, cluster_id_out, voter_id_out, writer_in};

/// The voter that is attended.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    pub(crate) voter: VoterId,
    /// Its record, if it has one.
    pub(crate) record: Option<&'a Record>,
    /// The pod of this very process, as long as that takes part.
    pub(crate) pod: Option<&'a PodId>,
}

/// All conversations, one a pod.
#[derive(Debug, Default)]
pub(crate) struct Attendees {
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
    /// Decides whether a member may converse, and begins. A later conversation of the same pod
    /// takes the place of the one before, whose number is returned then.
    pub(crate) fn hello(
        &mut self,
        hello: proto::Hello,
        host: &Host<'_>,
        codec: &Codec,
    ) -> Result<(Attending, Option<u64>), Status> {
        check_version(hello.version)?;
        check_cluster(codec.cluster(), &hello.cluster)?;
        let id = host.voter;
        if !hello.voter_id.is_empty() && hello.voter_id != voter_id_out(id) {
            return Err(Status::failed_precondition(format!(
                "the voter here is {:032x}, and another one is meant: if its disk was lost, let this \
                 one take its place with `hashroute quorum replace-voter`",
                id.0
            )));
        }
        if let Some(record) = host.record
            && !hello.cluster_id.is_empty()
            && hello.cluster_id != cluster_id_out(record.cluster())
        {
            return Err(Status::failed_precondition(format!(
                "this voter belongs to the founding {:032x} of cluster {:?}, and the member to another \
                 one: one of them has an old address or an old data directory",
                record.cluster().0,
                codec.cluster()
            )));
        }
        let writer = hello.writer.ok_or_else(|| Status::invalid_argument("no writer in Hello"))?;
        let writer = writer_in(&writer).map_err(|error| invalid(&error))?;
        let pod = &writer.pod;
        if host.pod == Some(pod) {
            self.contested.insert(pod.clone(), clock::now());
            return Err(Status::failed_precondition(format!(
                "this very process is the member of pod {pod}: give the other one another quorum.pod"
            )));
        }
        let (attending, before) = self.begin(writer)?;
        let record = host.record.map(|record| codec.record_out(record));
        let welcome = proto::Welcome { voter_id: voter_id_out(id), record };
        self.say_in(attending.number, attend_response::Message::Welcome(welcome));
        Ok((attending, before))
    }

    fn begin(&mut self, writer: Writer) -> Result<(Attending, Option<u64>), Status> {
        let before = self.numbers.get(&writer.pod).copied();
        if self.by_number.len() >= ATTENDEES_MOST && before.is_none() {
            return Err(Status::resource_exhausted(format!(
                "{ATTENDEES_MOST} members attend this voter, which is the most"
            )));
        }
        if let Some(attendee) = before.and_then(|number| self.remove(number)) {
            let (now, goes_on) = (clock::now(), !attendee.outbox.is_abandoned());
            let is_alive = goes_on && now.saturating_sub(attendee.heard) < ALIVE_FOR;
            if attendee.writer != writer && is_alive {
                self.contested.insert(writer.pod.clone(), now);
            }
            let reason = "another process attends as this pod: if both are alive, stop one of them";
            attendee.outbox.end_with(Err(Status::aborted(reason)));
        }
        self.last_number += 1;
        let number = self.last_number;
        let (outbox, answers) = outbox(WAITING_MOST);
        let (end, ended) = oneshot::channel();
        self.numbers.insert(writer.pod.clone(), number);
        let attendee = Attendee { writer, heard: clock::now(), outbox, _ended: end };
        self.by_number.insert(number, attendee);
        Ok((Attending { number, answers, ended }, before))
    }

    /// Somebody says something in this conversation: the process, if it goes on.
    pub(crate) fn heard(&mut self, number: u64) -> Option<Writer> {
        let attendee = self.by_number.get_mut(&number)?;
        attendee.heard = clock::now();
        Some(attendee.writer.clone())
    }

    /// The conversation ended by itself, or is ended for this reason.
    pub(crate) fn left(&mut self, number: u64, reason: Option<Status>) {
        let attendee = self.remove(number);
        if let Some((attendee, status)) = attendee.zip(reason) {
            attendee.outbox.end_with(Err(status));
        }
    }

    pub(crate) fn pods(&self) -> Vec<String> {
        self.numbers.keys().map(ToString::to_string).collect()
    }

    /// The pods that attend, each with its conversation.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&PodId, u64)> {
        self.numbers.iter().map(|(pod, number)| (pod, *number))
    }

    /// Which pods two processes attended as within the last minute, each as a sentence.
    pub(crate) fn troubles(&self, now: Duration) -> impl Iterator<Item = String> {
        let lately = move |seen: Duration| now.saturating_sub(seen) < CONTESTED_FOR;
        let contested = self.contested.iter().filter(move |(_, seen)| lately(**seen));
        contested.map(|(pod, _)| {
            format!(
                "two processes attend as pod {pod}: stop one of them, or give it another quorum.pod"
            )
        })
    }

    /// Says it to the member of the pod, if that attends.
    pub(crate) fn say(&mut self, pod: &PodId, message: attend_response::Message) {
        if let Some(number) = self.numbers.get(pod).copied() {
            self.say_in(number, message);
        }
    }

    /// Passes on what the member of one pod says to that of another.
    pub(crate) fn say_from_peer(&mut self, from: &PodId, to: &PodId, content: proto::PeerMessage) {
        let message = proto::FromPeer { pod: from.to_string(), message: Some(content) };
        self.say(to, attend_response::Message::FromPeer(message));
    }

    /// Says it in this conversation; returns whether that goes on.
    pub(crate) fn say_in(&mut self, number: u64, message: attend_response::Message) -> bool {
        let goes_on = self.by_number.get(&number).is_some_and(|it| it.say(Some(message)));
        if !goes_on {
            self.remove(number);
        }
        goes_on
    }

    /// Everybody hears that the voter is there.
    pub(crate) fn beat(&mut self, now: Duration) {
        let silent = self.by_number.iter().filter(|(_, attendee)| !attendee.say(None));
        let silent: Vec<u64> = silent.map(|(number, _)| *number).collect();
        silent.into_iter().for_each(|number| drop(self.remove(number)));
        self.contested.retain(|_, seen| now.saturating_sub(*seen) < CONTESTED_FOR);
    }

    /// The voter has its first record.
    pub(crate) fn welcome(&mut self, id: VoterId, record: &proto::Record) {
        let welcome = proto::Welcome { voter_id: voter_id_out(id), record: Some(record.clone()) };
        self.say_to_all(&attend_response::Message::Welcome(welcome));
    }

    /// Everybody hears what may come.
    pub(crate) fn foretell(&mut self, record: &proto::Record) {
        self.say_to_all(&attend_response::Message::Coming(record.clone()));
    }

    fn say_to_all(&mut self, message: &attend_response::Message) {
        let numbers: Vec<u64> = self.by_number.keys().copied().collect();
        for number in numbers {
            self.say_in(number, message.clone());
        }
    }

    pub(crate) fn end_all(&mut self, status: &Status) {
        self.numbers.clear();
        for attendee in std::mem::take(&mut self.by_number).into_values() {
            attendee.outbox.end_with(Err(status.clone()));
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

/// What a member says to the voter, read; it speaks for itself alone.
pub(crate) fn to_voter(
    codec: &mut Codec,
    me: &Writer,
    message: attend_request::Message,
) -> Result<ToVoter, Status> {
    let message = codec.to_voter(message).map_err(|error| invalid(&error))?;
    let speaks_for = match &message {
        ToVoter::Renew { writer, .. } | ToVoter::Probe { writer, .. } => writer == me,
        // Whoever reaped a process may say so for it.
        ToVoter::Renounce { writer } => writer.pod == me.pod,
        ToVoter::Prepare { .. } | ToVoter::Accept { .. } | ToVoter::Install { .. } => true,
    };
    if !speaks_for {
        let reason = "a member speaks for itself alone: the writer is another than in its Hello";
        return Err(Status::invalid_argument(reason));
    }
    Ok(message)
}

/// Conversations with members at one time.
const ATTENDEES_MOST: usize = 1_024;

/// A process that said something within this is taken to be alive: members renew more often.
const ALIVE_FOR: Duration = Duration::from_secs(1);

/// For so long it is said that two processes attend as one pod.
const CONTESTED_FOR: Duration = Duration::from_secs(60);
