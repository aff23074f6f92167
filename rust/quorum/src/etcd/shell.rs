//! The loop of a process whose cluster's record lies in etcd.
mod figures;
mod voters;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hashroute_coordination::{Change, Incarnation, RegisterAction, RegisterMember};
use hashroute_core::Epoch;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;
use tonic::transport::Endpoint;

use super::client::{Client, News, Patience};
use super::keys::Keys;
use crate::attendees::Attendees;
use crate::calls::Calls;
use crate::clock;
use crate::dice::Dice;
use crate::error::{ChangeFailed, StartError};
use crate::followers::Followers;
use crate::links::{Links, Own};
use crate::proto;
use crate::settings::NodeSettings;
use crate::shared::Shared;
use crate::shell::{Event, response};
use crate::stalls::{self, Stalls};
use crate::window::Window;
use crate::wire;
use crate::wire::Codec;

use voters::Mail;
pub(crate) use voters::Seat;
use voters::lies_in_etcd;

/// What the loop starts with.
pub(crate) struct EtcdStart {
    pub(crate) settings: NodeSettings,
    pub(crate) endpoints: Vec<(String, Endpoint)>,
    pub(crate) prefix: String,
    /// Where others reach this process; empty if it does not vote.
    pub(crate) address: String,
    pub(crate) seat: Option<Seat>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) dice: Dice,
    /// Told when the process takes part, or why it does not.
    pub(crate) ready: SyncSender<Result<(), StartError>>,
    /// Whether the thread has real-time priority, or why not.
    pub(crate) priority: Result<bool, String>,
}

/// The loop's state. A router has a member that never begins: it follows the record, and does
/// nothing else.
pub(crate) struct EtcdShell {
    settings: NodeSettings,
    shared: Arc<Shared>,
    client: Rc<Client>,
    member: RegisterMember,
    /// Whether this process is a pod's.
    is_member: bool,
    /// Where others reach this process; empty if it does not vote.
    address: String,
    seat: Option<Seat>,
    codec: Codec,
    links: Links,
    attendees: Attendees,
    followers: Followers,
    mail: VecDeque<Mail>,
    beat_at: Duration,
    /// When the check of the stalls ends; none when it is over.
    check_ends: Option<Duration>,
    ready: Option<SyncSender<Result<(), StartError>>>,
    stalls: Stalls,
    waiting: VecDeque<(Change, Asker)>,
    stopping: Option<Stopping>,
    round_trips: Window,
    calls: Calls,
    renewals: Window,
    margins: Window,
    lease_since: Option<Duration>,
    elections: u64,
    trouble: Option<String>,
    is_realtime: bool,
    priority_refused: Option<String>,
}

/// Who waits for a change.
enum Asker {
    /// A thread of this process.
    Thread(SyncSender<Result<Epoch, ChangeFailed>>),
    /// The operator who wrote it down under this key.
    Operator(Vec<u8>),
}

struct Stopping {
    until: Duration,
    has_renounced: bool,
    reply: SyncSender<bool>,
}

impl EtcdShell {
    /// Runs until the process ends: in good order, or at once when `kill` says so.
    pub(crate) async fn run(
        start: EtcdStart,
        events: mpsc::Receiver<Event>,
        kill: oneshot::Receiver<()>,
    ) {
        LocalSet::new()
            .run_until(async {
                let (news, told) = mpsc::channel(NEWS_MOST);
                let mut shell = Self::new(start, news);
                spawn_local(Rc::clone(&shell.client).follow());
                shell.serve(events, told, kill).await;
            })
            .await;
    }

    fn new(start: EtcdStart, news: mpsc::Sender<News>) -> Self {
        let EtcdStart {
            settings,
            endpoints,
            prefix,
            address,
            seat,
            shared,
            events,
            mut dice,
            ready,
            priority,
        } = start;
        let now = clock::now();
        let keys = Keys::new(&prefix, &settings.cluster);
        let lease = Duration::from_micros(settings.lease.ttl_us);
        let (late, most) = (lease / LATE_PARTS, lease.max(PATIENCE_LEAST));
        let patience = Patience { late, most };
        let client = Rc::new(Client::new(endpoints, keys, patience, news));
        let pod = settings.pod.as_deref();
        let pod = pod.and_then(|pod| settings.view.pod(settings.view.index_of(pod)?)).cloned();
        let is_member = pod.is_some();
        // The name of a process without a pod is never said to anybody.
        let pod = pod.unwrap_or_else(|| settings.view.pods()[0].clone());
        let mut member = RegisterMember::following(pod, Incarnation(dice.word()), now);
        let voter = seat.as_ref().map(|seat| seat.id);
        if let Some(id) = voter {
            member = member.voting(id);
        }
        let attends = is_member.then(|| member.writer().clone());
        let own = Own { voter, address: address.clone(), attends };
        let mut shell = Self {
            member,
            is_member,
            address,
            seat,
            codec: Codec::new(settings.cluster.clone()),
            links: Links::new(own, &settings, &shared, events),
            attendees: Attendees::default(),
            followers: Followers::default(),
            mail: VecDeque::new(),
            beat_at: now,
            check_ends: is_member.then_some(now + settings.stall_check),
            ready: Some(ready),
            stalls: Stalls::new(now),
            waiting: VecDeque::new(),
            stopping: None,
            round_trips: Window::default(),
            calls: Calls::default(),
            renewals: Window::default(),
            margins: Window::default(),
            lease_since: None,
            elections: 0,
            trouble: None,
            is_realtime: matches!(priority, Ok(true)),
            priority_refused: priority.err(),
            settings,
            shared,
            client,
        };
        if !is_member {
            shell.say_ready(Ok(()));
        }
        shell
    }

    async fn serve(
        &mut self,
        mut events: mpsc::Receiver<Event>,
        mut news: mpsc::Receiver<News>,
        mut kill: oneshot::Receiver<()>,
    ) {
        let gate = Arc::clone(&self.shared.gate);
        while !self.do_what_is_due() {
            let wait = self.wake_at().saturating_sub(clock::now());
            tokio::select! {
                biased;
                _ = &mut kill => return,
                () = gate.ended.notified() => self.writes_ended(),
                Some(news) = news.recv() => self.hear(news),
                Some(event) = events.recv() => self.handle(event),
                () = sleep(wait) => {}
            }
        }
    }

    fn wake_at(&self) -> Duration {
        let check_ends = self.check_ends.unwrap_or(Duration::MAX);
        let stopping = self.stopping.as_ref().map_or(Duration::MAX, |stopping| stopping.until);
        let beat = self.beat_at.min(self.stalls.deadline());
        self.member.deadline().min(check_ends).min(stopping).min(beat)
    }

    /// Returns whether the loop is over.
    fn do_what_is_due(&mut self) -> bool {
        let now = clock::now();
        self.stalls.tick(now);
        if self.check_ends.is_some_and(|end| now >= end) {
            self.check_ends = None;
            let (lease, worst) = (self.settings.lease.into(), self.stalls.worst());
            if !self.settings.force && !stalls::is_long_enough(lease, worst) {
                self.say_ready(Err(StartError::stalls_too_long(lease, worst)));
                return true;
            }
            self.say_ready(Ok(()));
            self.with_member(RegisterMember::begin);
        }
        if now >= self.member.deadline() {
            self.with_member(RegisterMember::tick);
        }
        if now >= self.beat_at {
            self.beat_at = now + BEAT;
            self.beat(now);
        }
        self.deliver();
        self.go_on_stopping(now)
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Told(event) => self.with_member(|member, now| member.handle(now, event)),
            News::Answered(took) => {
                self.trouble = None;
                self.round_trips.push(took);
                self.shared.heard(clock::now());
            }
            News::Trouble(trouble) => self.trouble = Some(trouble),
            News::Wish { key, at, wish } => {
                let takes_part = self.is_member && self.check_ends.is_none();
                if takes_part && self.stopping.is_none() && wish.by.is_none() {
                    let me = self.member.writer().clone();
                    spawn_local(Rc::clone(&self.client).claim(key, at, wish, me));
                }
            }
            News::Claimed { key, wanted } => self.make(key, &wanted),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Change { change, reply } => self.change(change, Asker::Thread(reply)),
            Event::Figures { reply } => {
                let _ = reply.try_send(self.figures());
            }
            Event::Stop { grace, reply } => {
                self.shared.gate.close();
                let until = clock::now() + grace;
                self.stopping = Some(Stopping { until, has_renounced: false, reply });
            }
            Event::Hello { hello, reply } => {
                let answer = self.hello(hello);
                let _ = reply.send(answer);
            }
            Event::Attendee { number, message } => self.attendee_said(number, *message),
            Event::AttendeeLeft { number, reason } => self.attendees.left(number, reason),
            Event::Link { number, news } => self.link_news(number, news),
            Event::Describe { reply } => {
                let _ = reply.send(Ok(self.describe()));
            }
            Event::Follow { request, reply } => {
                let answer = self.follow(request);
                let _ = reply.send(answer);
            }
            Event::Found { reply, .. } => drop(reply.send(Err(lies_in_etcd()))),
            Event::MakeChange { reply, .. } => drop(reply.send(Err(lies_in_etcd()))),
            // Nothing of this engine is synced.
            Event::Synced { .. } => {}
        }
    }

    fn change(&mut self, change: Change, asker: Asker) {
        if !self.is_member {
            let reason = "a router makes no changes: ask a process that is the member of a pod";
            let failed = ChangeFailed::Unreachable { reason: reason.into() };
            return self.answer_to(asker, Err(failed));
        }
        match self.member.wish(change.clone()) {
            Ok(()) => self.waiting.push_back((change, asker)),
            Err(error) => self.answer_to(asker, Err(error.into())),
        }
        self.with_member(RegisterMember::tick);
    }

    /// This process has put its name to what an operator wants.
    fn make(&mut self, key: Vec<u8>, wanted: &proto::RecordChange) {
        let Some(record) = self.member.record().cloned() else { return };
        match wire::change(wanted, &record) {
            Ok(change) => self.change(change, Asker::Operator(key)),
            Err(error) => {
                let (code, message) = ("change_malformed".into(), error.to_string());
                self.answer_to(Asker::Operator(key), Err(ChangeFailed::Told { code, message }));
            }
        }
    }

    fn answer_to(&mut self, asker: Asker, result: Result<Epoch, ChangeFailed>) {
        match asker {
            Asker::Thread(reply) => {
                let _ = reply.try_send(result);
            }
            Asker::Operator(key) => {
                spawn_local(Rc::clone(&self.client).tell_operator(key, response(result)));
            }
        }
    }

    /// Lets the member do something by the clock read now, publishes what it is then to those that
    /// write, and only then carries out what it asks for.
    fn with_member(
        &mut self,
        act: impl FnOnce(&mut RegisterMember, Duration) -> Vec<RegisterAction>,
    ) {
        let (now, end) = (clock::now(), self.member.lease_end());
        let actions = act(&mut self.member, now);
        if self.is_member {
            self.shared.gate.publish(&self.member);
        }
        self.note_lease(end, now);
        for action in actions {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: RegisterAction) {
        match action {
            RegisterAction::Transact(request, asked) => {
                spawn_local(Rc::clone(&self.client).transact(request, asked));
            }
            RegisterAction::ToVoter(to, message) => self.member_says(to, message),
            RegisterAction::FromVoter(to, message) => self.voter_says(&to, message),
            RegisterAction::Installed(record) => {
                self.shared.gate.forget_releases();
                self.shared.publish(&record);
                // What is to be sent may be for voters that were not there before.
                self.links_follow_record(clock::now());
                self.tell_followers(clock::now());
            }
            RegisterAction::Quiesce(record) => self.shared.gate.quiesce(&record),
            RegisterAction::Made { change, epoch } => {
                self.elections += 1;
                self.answer(&change, Ok(epoch));
            }
            RegisterAction::Dropped { change, reason } => {
                self.answer(&change, Err(reason.into()));
            }
        }
    }

    /// Equal changes are answered in the order in which they were asked for.
    fn answer(&mut self, change: &Change, result: Result<Epoch, ChangeFailed>) {
        let place = self.waiting.iter().position(|(wished, _)| wished == change);
        if let Some((_, asker)) = place.and_then(|place| self.waiting.remove(place)) {
            self.answer_to(asker, result);
        }
    }

    /// Writes that a release waited for have ended.
    fn writes_ended(&mut self) {
        for record in self.shared.gate.quiesced() {
            self.with_member(|member, now| member.quiesced(now, &record));
        }
    }

    /// Returns whether the loop is over.
    fn go_on_stopping(&mut self, now: Duration) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        if stopping.has_renounced {
            // The last word was given its time.
            return now >= stopping.until && self.is_over(true);
        }
        if !self.shared.gate.is_idle() {
            return now >= stopping.until && self.is_over(false);
        }
        stopping.has_renounced = true;
        stopping.until = now + FAREWELL;
        if self.is_member {
            self.with_member(|member, now| member.renounce(now));
            self.deliver();
            return false;
        }
        self.is_over(true)
    }

    fn is_over(&mut self, in_time: bool) -> bool {
        if let Some(stopping) = self.stopping.take() {
            let _ = stopping.reply.try_send(in_time);
        }
        true
    }

    fn say_ready(&mut self, result: Result<(), StartError>) {
        if let Some(ready) = self.ready.take() {
            let _ = ready.try_send(result);
        }
    }
}

/// What etcd said and the loop has not heard yet; who adds to a full queue waits.
const NEWS_MOST: usize = 1_024;

/// etcd takes longer than a short lease when it changes its leader.
const PATIENCE_LEAST: Duration = Duration::from_millis(1_000);

/// A member of etcd that has not answered within such a part of a lease is late. Two members can be
/// late one after the other, and the third still renews the lease in time.
const LATE_PARTS: u32 = 4;

/// How often members hear that the voter here is there.
const BEAT: Duration = Duration::from_millis(100);

/// For so long the last word may be under way.
const FAREWELL: Duration = Duration::from_millis(200);
