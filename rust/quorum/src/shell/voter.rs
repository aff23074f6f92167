//! The voter of this process and its disk.
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use hashroute_coordination::{
    FromVoter, Record, Refusal, ToVoter, Voter, VoterAction, VoterId, VoterState,
};
use hashroute_core::PodId;
use tonic::Status;

use crate::answer_counts::AnswerCounts;
use crate::clock;
use crate::disk::Stored;
use crate::disk_thread::DiskThread;
use crate::figures::VoterFigures;
use crate::proto;
use crate::server::{self, check_cluster, check_version, invalid, no_voter};
use crate::window::Window;
use crate::wire;

use super::{Mail, Reply, Shell};

/// A voter, its disk, and what waits for the disk.
#[derive(Debug)]
pub(crate) struct VoterPart {
    pub(crate) id: VoterId,
    place: Place,
    disk: DiskThread,
    /// For each state on its way to the disk, oldest first, what must come after it.
    syncing: VecDeque<Vec<VoterAction>>,
    /// Who waits to hear that the first record is durable.
    founders: Vec<Reply<proto::FoundResponse>>,
    answers: AnswerCounts,
    syncs: u64,
    sync_times: Window,
}

#[derive(Debug)]
enum Place {
    /// It has an id and no record.
    Newcomer,
    /// Its first record is on its way to the disk.
    Adopting(Box<VoterState>),
    Running(Box<Voter>),
    /// Its disk failed: it says nothing any more, for it could not keep its word.
    Halted(String),
}

impl VoterPart {
    pub(crate) fn new(stored: Stored, disk: DiskThread) -> Self {
        let (id, place) = match stored {
            Stored::Newcomer(id) => (id, Place::Newcomer),
            Stored::Known(state) => {
                (state.id, Place::Running(Box::new(Voter::new(*state, clock::now()))))
            }
        };
        Self {
            id,
            place,
            disk,
            syncing: VecDeque::new(),
            founders: Vec::new(),
            answers: AnswerCounts::default(),
            syncs: 0,
            sync_times: Window::default(),
        }
    }

    /// Ends it; when this returns, nobody uses the disk any more.
    pub(super) fn end(self) {
        self.disk.end();
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.place, Place::Running(_))
    }

    /// Whether everything that was said to be kept is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.syncing.is_empty()
    }

    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.place {
            Place::Halted(reason) => Some(reason),
            Place::Newcomer | Place::Adopting(_) | Place::Running(_) => None,
        }
    }

    pub(super) fn record(&self) -> Option<&Record> {
        match &self.place {
            Place::Running(voter) => Some(&voter.state().installed),
            Place::Newcomer | Place::Adopting(_) | Place::Halted(_) => None,
        }
    }

    fn persist(&mut self, state: VoterState, then: Vec<VoterAction>) {
        self.syncing.push_back(then);
        self.disk.save(state);
    }

    /// The first record of a voter that had none.
    fn adopt(&mut self, record: Record) {
        let state = VoterState::first(self.id, record);
        self.place = Place::Adopting(Box::new(state.clone()));
        self.persist(state, Vec::new());
    }
}

impl Shell {
    pub(super) fn voter_record(&self) -> Option<Record> {
        self.voter.as_ref().and_then(VoterPart::record).cloned()
    }

    pub(super) fn voter_deadline(&self) -> Option<Duration> {
        match &self.voter.as_ref()?.place {
            Place::Running(voter) => voter.deadline(),
            Place::Newcomer | Place::Adopting(_) | Place::Halted(_) => None,
        }
    }

    pub(super) fn tick_voter(&mut self, now: Duration) {
        if self.voter_deadline().is_some_and(|deadline| now >= deadline) {
            self.with_voter(Voter::tick);
        }
    }

    /// A member says this to the voter of this process.
    pub(super) fn voter_hears(&mut self, from: PodId, message: ToVoter) {
        let Some(part) = &mut self.voter else { return };
        if part.syncing.len() >= SYNCING_MOST {
            // As if the message had been lost: whoever asked asks again, and the disk is slow.
            return;
        }
        match (&part.place, message) {
            (Place::Running(_), message) => {
                self.with_voter(|voter, now| voter.handle(now, from, message));
            }
            // A new voter learns its first record from the first install that names it.
            (Place::Newcomer, ToVoter::Install { record }) if record.has_voter(part.id) => {
                part.adopt(record);
            }
            (Place::Newcomer | Place::Adopting(_), message) => {
                self.ask_for_record(&from, &message);
            }
            (Place::Halted(_), _) => {}
        }
    }

    /// A voter that knows nothing tells who asks it to send what there is to know.
    fn ask_for_record(&mut self, to: &PodId, message: &ToVoter) {
        if let ToVoter::Renew { writer, sequence, .. } | ToVoter::Probe { writer, sequence, .. } =
            message
        {
            let (writer, sequence, refusal) = (writer.clone(), *sequence, Refusal::Ahead);
            self.voter_says(to, FromVoter::Refused { writer, sequence, refusal });
        }
    }

    fn with_voter(&mut self, act: impl FnOnce(&mut Voter, Duration) -> Vec<VoterAction>) {
        let Some(part) = &mut self.voter else { return };
        let Place::Running(voter) = &mut part.place else { return };
        let before = voter.state().installed.epoch();
        let expected = voter.state().tentative.as_ref().map(|(ballot, _)| *ballot);
        let actions = act(voter, clock::now());
        let state = voter.state();
        let news = (state.installed.epoch() > before).then(|| state.installed.clone());
        let coming = state.tentative.as_ref().filter(|(ballot, _)| Some(*ballot) != expected);
        let coming = coming.map(|(_, record)| self.codec.record_out(record));
        self.carry_out_voter(actions);
        if let Some(message) = coming {
            self.foretell(&message);
        }
        if let Some(record) = news {
            self.learn(&record);
            self.tell_followers(clock::now());
        }
    }

    /// What comes after a state to be made durable waits until it is.
    fn carry_out_voter(&mut self, actions: Vec<VoterAction>) {
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            match action {
                VoterAction::Persist(state) => {
                    let Some(part) = &mut self.voter else { return };
                    part.persist(*state, actions.by_ref().collect());
                }
                VoterAction::AwaitDisk => {
                    let waiting = self.voter.as_mut().and_then(|part| part.syncing.back_mut());
                    if let Some(then) = waiting {
                        then.extend(actions.by_ref());
                    }
                }
                VoterAction::Send { to, message } => self.voter_says(&to, message),
            }
        }
    }

    fn voter_says(&mut self, to: &PodId, message: FromVoter) {
        let is_own = self.own_pod() == Some(to);
        let Some(part) = &mut self.voter else { return };
        part.answers.count(&message);
        if is_own {
            self.mail.push_back(Mail::FromVoter(part.id, message));
        } else {
            let message = self.codec.from_voter_out(&message);
            self.attendees.say(to, message);
        }
    }

    /// The oldest states on their way to the disk are there, or cannot be kept.
    pub(super) fn synced(&mut self, states: usize, result: io::Result<()>, took: Duration) {
        let Some(part) = &mut self.voter else { return };
        if let Err(error) = result {
            part.place = Place::Halted(error.to_string());
            part.syncing.clear();
            let reason = "the voter's disk failed: ask another voter";
            for founder in part.founders.drain(..) {
                let _ = founder.send(Err(Status::unavailable(reason)));
            }
            self.attendees.end_all(&Status::unavailable(reason));
            self.followers.end_all(&Status::unavailable(reason));
            return;
        }
        part.syncs += 1;
        part.sync_times.push(took);
        for _ in 0..states {
            let Some(part) = &mut self.voter else { return };
            let then = part.syncing.pop_front().unwrap_or_default();
            if let Place::Adopting(state) = &part.place {
                let state = (**state).clone();
                let record = state.installed.clone();
                part.place = Place::Running(Box::new(Voter::new(state, clock::now())));
                self.adopted(&record);
            }
            self.carry_out_voter(then);
        }
    }

    /// A router wants to follow the record.
    pub(super) fn follow(
        &mut self,
        request: proto::FollowRequest,
    ) -> Result<server::Answers<proto::FollowResponse>, Status> {
        let part = self.voter.as_ref().ok_or_else(no_voter)?;
        if let Some(trouble) = part.trouble() {
            let reason = format!("the voter's disk failed ({trouble}): ask another voter");
            return Err(Status::unavailable(reason));
        }
        let answers = self.followers.begin(request, self.codec.cluster())?;
        self.tell_followers(clock::now());
        Ok(answers)
    }

    /// Every router hears that the voter is there, and its record if it has not got it.
    pub(super) fn tell_followers(&mut self, now: Duration) {
        if let Some(part) = &self.voter {
            self.followers.tell(part.id, part.record(), &self.codec, now);
        }
    }

    /// Every router and every member hears what the voter will vote for when others have stopped.
    fn foretell(&mut self, message: &proto::Record) {
        let Some(id) = self.voter.as_ref().map(|part| part.id) else { return };
        self.attendees.foretell(message);
        self.followers.foretell(id, message);
    }

    /// The first record is durable: whoever waited for it hears of it.
    fn adopted(&mut self, record: &Record) {
        if let Some(part) = &mut self.voter {
            for founder in part.founders.drain(..) {
                let _ = founder.send(Ok(proto::FoundResponse {}));
            }
            let welcome = self.codec.record_out(record);
            self.attendees.welcome(part.id, &welcome);
        }
        self.learn(record);
        self.tell_followers(clock::now());
    }

    /// An operator says what the first record of the cluster is.
    pub(super) fn found(
        &mut self,
        request: proto::FoundRequest,
        reply: Reply<proto::FoundResponse>,
    ) {
        let record = self.check_founding(request);
        let (part, record) = match (&mut self.voter, record) {
            (Some(part), Ok(record)) => (part, record),
            (None, _) => {
                let _ = reply.send(Err(no_voter()));
                return;
            }
            (_, Err(status)) => {
                let _ = reply.send(Err(status));
                return;
            }
        };
        let known = match &part.place {
            Place::Newcomer => None,
            Place::Adopting(state) => Some(state.installed.cluster()),
            Place::Running(voter) => Some(voter.state().installed.cluster()),
            Place::Halted(reason) => {
                let _ = reply.send(Err(Status::unavailable(reason.clone())));
                return;
            }
        };
        if known.is_some_and(|known| known != record.cluster()) {
            let _ = reply.send(Err(Status::failed_precondition(
                "this voter belongs to another founding already: nothing was changed. If that one was \
                 a mistake, stop all voters, move their data directories away, and found again",
            )));
            return;
        }
        if part.is_running() {
            let _ = reply.send(Ok(proto::FoundResponse {}));
            return;
        }
        part.founders.push(reply);
        if known.is_none() {
            part.adopt(record);
        }
    }

    fn check_founding(&mut self, request: proto::FoundRequest) -> Result<Record, Status> {
        check_version(request.version)?;
        let Some(message) = request.record else {
            return Err(Status::invalid_argument("the founding has no record"));
        };
        check_cluster(self.codec.cluster(), &message.cluster)?;
        let record = self.codec.record(&message).map_err(|error| invalid(&error))?;
        let first = proto::Record { cluster_id: Vec::new(), ..message };
        if wire::cluster_id(&self.settings.cluster, &first) != record.cluster() {
            let reason = "the cluster's id is not that of its first record: it was made by another \
                          version, or changed on the way";
            return Err(Status::invalid_argument(reason));
        }
        let id = self.voter.as_ref().map(|part| part.id).ok_or_else(no_voter)?;
        if !record.has_voter(id) {
            return Err(Status::failed_precondition(format!(
                "the founding does not name this voter, whose id is {:032x}: it was started on an \
                 empty directory since it was asked for its id. Found again",
                id.0
            )));
        }
        Ok(record)
    }

    pub(super) fn voter_figures(&self) -> Option<VoterFigures> {
        let part = self.voter.as_ref()?;
        Some(VoterFigures {
            id: part.id,
            address: self.address.clone(),
            record: part.record().cloned(),
            grants: part.answers.grants,
            refusals: part.answers.refusals.clone(),
            syncs: part.syncs,
            sync_times: part.sync_times.clone(),
            attending: self.attendees.pods(),
            routers: self.followers.epochs(),
            trouble: part.trouble().map(str::to_owned),
        })
    }
}

/// States on their way to the disk. While there are so many, what members say is as good as lost.
const SYNCING_MOST: usize = 128;
