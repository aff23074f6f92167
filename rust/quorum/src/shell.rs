//! The loop that keeps the lease: it tells the state machines what happened and what time it is,
//! and carries out what they ask for.

mod changes;
mod member;
mod members;
mod stopping;
mod voter;
mod voters;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hashroute_coordination::{Change, FromVoter, Record, ToPeer, ToVoter, VoterId};
use hashroute_core::{Epoch, PodId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tonic::Status;

use crate::attendees::Attendees;
use crate::clock;
use crate::dice::Dice;
use crate::error::{ChangeFailed, StartError};
use crate::figures::Figures;
use crate::followers::Followers;
use crate::link::News;
use crate::links::{Links, Own};
use crate::proto;
use crate::server::{Answers, Attending};
use crate::settings::NodeSettings;
use crate::shared::Shared;
use crate::stalls::{self, Stalls};
use crate::wire::{Codec, cluster_id_out, voter_id_out};

use changes::Changes;
pub(crate) use changes::{read_response, response};
use member::MemberPart;
use stopping::Stopping;
pub(crate) use voter::VoterPart;

/// What happens to the loop.
#[derive(Debug)]
pub(crate) enum Event {
    /// A member wants to converse with the voter of this process.
    Hello { hello: proto::Hello, reply: Reply<Attending> },
    /// It said something.
    Attendee { number: u64, message: Box<proto::attend_request::Message> },
    /// Its conversation ended: by itself, or because what it said cannot be read.
    AttendeeLeft { number: u64, reason: Option<Status> },
    /// A router wants to follow the record.
    Follow { request: proto::FollowRequest, reply: Reply<Answers<proto::FollowResponse>> },
    /// Somebody asks who this is.
    Describe { reply: Reply<(proto::DescribeResponse, Box<Figures>)> },
    /// An operator founds the cluster.
    Found { request: proto::FoundRequest, reply: Reply<proto::FoundResponse> },
    /// An operator wants a change.
    MakeChange { request: proto::MakeChangeRequest, reply: Reply<proto::MakeChangeResponse> },
    /// Something came of a conversation with a voter.
    Link { number: u64, news: News },
    /// So many states of the voter are durable, or the disk failed.
    Synced { states: usize, result: io::Result<()>, took: Duration },
    /// This process wants a change.
    Change { change: Change, reply: SyncSender<Result<Epoch, ChangeFailed>> },
    /// This process wants its figures.
    Figures { reply: SyncSender<Figures> },
    /// This process ends in good order.
    Stop { grace: Duration, reply: SyncSender<bool> },
}

/// Where the answer to a call goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Status>>;

/// What the parts of this process say to each other, without a socket.
#[derive(Debug)]
enum Mail {
    ToVoter(PodId, ToVoter),
    FromVoter(VoterId, FromVoter),
    ToPeer(PodId, ToPeer),
    Quiesced(Record),
}

/// The loop's state.
pub(crate) struct Shell {
    settings: NodeSettings,
    /// Where others reach this process; empty if it does not vote.
    address: String,
    shared: Arc<Shared>,
    codec: Codec,
    dice: Dice,
    voter: Option<VoterPart>,
    member: Option<MemberPart>,
    links: Links,
    attendees: Attendees,
    followers: Followers,
    changes: Changes,
    stalls: Stalls,
    mail: VecDeque<Mail>,
    beat_at: Duration,
    /// When all conversations begin again, because this process does not take part any more.
    links_again_at: Option<Duration>,
    stopping: Option<Stopping>,
    /// Told when the process takes part, or why it does not.
    ready: Option<SyncSender<Result<(), StartError>>>,
    is_realtime: bool,
    priority_refused: Option<String>,
}

/// What the loop starts with.
pub(crate) struct Start {
    pub(crate) settings: NodeSettings,
    pub(crate) address: String,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) voter: Option<VoterPart>,
    pub(crate) dice: Dice,
    pub(crate) ready: SyncSender<Result<(), StartError>>,
    /// Whether the thread has real-time priority, or why not.
    pub(crate) priority: Result<bool, String>,
}

impl Shell {
    /// The loop before it runs. The member joins after the check of the stalls.
    pub(crate) fn new(start: Start) -> Self {
        let Start { settings, address, shared, events, voter, mut dice, ready, priority } = start;
        let now = clock::now();
        let check_ends = now + settings.stall_check;
        let pod = settings.pod.as_deref();
        let pod = pod.and_then(|pod| settings.view.pod(settings.view.index_of(pod)?));
        let member = pod.map(|pod| MemberPart::new(pod.clone(), &mut dice, check_ends));
        let is_realtime = matches!(priority, Ok(true));
        let own = Own {
            voter: voter.as_ref().map(|part| part.id),
            address: address.clone(),
            attends: member.as_ref().map(MemberPart::writer),
        };
        let mut shell = Self {
            codec: Codec::new(settings.cluster.clone()),
            links: Links::new(own, &settings, &shared, events),
            attendees: Attendees::default(),
            followers: Followers::default(),
            changes: Changes::default(),
            stalls: Stalls::new(now),
            mail: VecDeque::new(),
            beat_at: now,
            links_again_at: None,
            stopping: None,
            ready: Some(ready),
            is_realtime,
            priority_refused: priority.err(),
            settings,
            address,
            shared,
            dice,
            voter,
            member,
        };
        if let Some(record) = shell.voter_record() {
            shell.learn(&record);
        }
        if shell.member.is_none() {
            shell.say_ready(Ok(()));
        }
        shell
    }

    /// Runs until the process ends: in good order, or at once when `kill` says so.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut kill: oneshot::Receiver<()>,
    ) {
        let gate = Arc::clone(&self.shared.gate);
        while !self.do_what_is_due() {
            let wait = self.wake_at().saturating_sub(clock::now());
            tokio::select! {
                biased;
                _ = &mut kill => break,
                () = gate.ended.notified() => self.writes_ended(),
                Some(event) = events.recv() => self.handle(event),
                () = sleep(wait) => {}
            }
        }
        // The thread of the disk must not wait for a loop that is over.
        drop(events);
        if let Some(voter) = self.voter.take() {
            voter.end();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Hello { hello, reply } => {
                let answer = self.hello(hello);
                let _ = reply.send(answer);
            }
            Event::Attendee { number, message } => self.attendee_said(number, *message),
            Event::AttendeeLeft { number, reason } => self.attendee_left(number, reason),
            Event::Follow { request, reply } => {
                let answer = self.follow(request);
                let _ = reply.send(answer);
            }
            Event::Describe { reply } => {
                let answer = self.describe();
                let _ = reply.send(Ok(answer));
            }
            Event::Found { request, reply } => self.found(request, reply),
            Event::MakeChange { request, reply } => self.make_change(&request, reply),
            Event::Link { number, news } => self.link_news(number, news),
            Event::Synced { states, result, took } => self.synced(states, result, took),
            Event::Change { change, reply } => self.change(change, reply),
            Event::Figures { reply } => {
                let _ = reply.try_send(self.figures());
            }
            Event::Stop { grace, reply } => self.stop(grace, reply),
        }
        self.deliver();
    }

    /// Delivers what the parts of this process said to each other, until nobody says anything
    /// more. That ends: whatever answers an answer waits for a timer, or for somebody else.
    fn deliver(&mut self) {
        while let Some(mail) = self.mail.pop_front() {
            match mail {
                Mail::ToVoter(from, message) => self.voter_hears(from, message),
                Mail::FromVoter(by, message) => self.member_hears_voter(by, message),
                Mail::ToPeer(from, message) => self.member_hears_peer(&from, message),
                Mail::Quiesced(record) => {
                    self.with_member(|member, now, dice| member.quiesced(now, &record, dice));
                }
            }
        }
    }

    /// Returns whether the loop is over.
    fn do_what_is_due(&mut self) -> bool {
        let now = clock::now();
        self.stalls.tick(now);
        self.tick_member(now);
        self.tick_voter(now);
        if now >= self.beat_at {
            self.beat_at = now + BEAT;
            self.beat(now);
        }
        self.deliver();
        self.check_stalls(now) || self.go_on_stopping(now)
    }

    fn wake_at(&self) -> Duration {
        let deadlines = [
            Some(self.stalls.deadline()),
            Some(self.beat_at),
            self.member_deadline(),
            self.voter_deadline(),
            self.stopping.as_ref().map(Stopping::deadline),
        ];
        deadlines.into_iter().flatten().min().unwrap_or(self.beat_at)
    }

    /// What is done ten times a second: those who listen hear that this process is there.
    fn beat(&mut self, now: Duration) {
        if self.links_again_at.is_some_and(|at| now >= at) {
            self.links_again_at = None;
            self.begin_links_again();
        }
        self.attendees.beat(now);
        self.tell_followers(now);
        self.links_follow_record(now);
        self.count_heard(now);
    }

    /// After the check of the stalls the member may join, unless they are too long for the lease.
    /// Returns whether the process does not start for that.
    fn check_stalls(&mut self, now: Duration) -> bool {
        let Some(member) = self.member.as_mut().filter(|member| !member.may_join) else {
            return false;
        };
        if now < member.check_ends {
            return false;
        }
        let (lease, worst) = (self.settings.lease.into(), self.stalls.worst());
        if !self.settings.force && !stalls::is_long_enough(lease, worst) {
            self.say_ready(Err(StartError::stalls_too_long(lease, worst)));
            return true;
        }
        member.may_join = true;
        self.say_ready(Ok(()));
        if let Some(record) = self.shared.record() {
            self.join(&record);
        }
        self.deliver();
        false
    }

    /// This process has heard of a record that is chosen. Whoever goes by an older one goes by it.
    fn learn(&mut self, record: &Record) {
        if self.member_goes_by(record) {
            return;
        }
        if self.shared.publish(record) {
            self.links_follow_record(clock::now());
        }
        self.join(record);
    }

    /// The figures of this moment, for any thread to make a snapshot of.
    fn figures(&self) -> Figures {
        let (now, record) = (clock::now(), self.shared.record());
        let own = self.voter.as_ref().and_then(VoterPart::record).map(Record::epoch);
        Figures {
            engine: "embedded",
            cluster: self.settings.cluster.clone(),
            installed: ago(self.shared.installed(), now),
            lease: self.settings.lease.into(),
            is_stale: self.shared.is_stale(),
            voters: self.links.figures(record.as_ref(), own, now),
            voter: self.voter_figures(),
            member: self.member_figures(now),
            store_round: Duration::ZERO,
            stalls: self.stalls.figures(),
            is_realtime: self.is_realtime,
            priority_refused: self.priority_refused.clone(),
            troubles: self.troubles(),
            follows_as: self.links.follows_as(),
            record,
        }
    }

    /// Who this process is; whoever asks makes the snapshot of the figures.
    fn describe(&mut self) -> (proto::DescribeResponse, Box<Figures>) {
        let record = self.voter_record().or_else(|| self.shared.record());
        let response = proto::DescribeResponse {
            version: proto::Version::Version1.into(),
            cluster: self.settings.cluster.clone(),
            cluster_id: record.as_ref().map(|it| cluster_id_out(it.cluster())).unwrap_or_default(),
            voter_id: self.voter.as_ref().map(|it| voter_id_out(it.id)).unwrap_or_default(),
            address: self.address.clone(),
            record: record.map(|record| self.codec.record_out(&record)),
            snapshot: String::new(),
        };
        (response, Box::new(self.figures()))
    }

    fn say_ready(&mut self, result: Result<(), StartError>) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.try_send(result);
        }
    }
}

pub(crate) fn ago(moments: Vec<(u64, Duration)>, now: Duration) -> Vec<(u64, Duration)> {
    moments.into_iter().map(|(epoch, at)| (epoch, now.saturating_sub(at))).collect()
}

/// How often a voter tells those who listen that it is there.
const BEAT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
