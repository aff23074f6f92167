//! The ways from this process to the voters.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashroute_coordination::{FromVoter, Record, Refusal, VoterId, Writer};
use hashroute_core::Epoch;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tonic::transport::Channel;

use crate::drift::Drift;
use crate::figures::LinkFigures;
use crate::link::{Link, News, Opening};
use crate::outbox::Outbox;
use crate::proto;
use crate::proto::attend_request;
use crate::settings::{NodeSettings, TlsSettings};
use crate::shared::Shared;
use crate::shell::Event;
use crate::transport;
use crate::wire::{cluster_id_out, voter_id_in, voter_id_out, writer_out};

/// All of them.
#[derive(Debug)]
pub(crate) struct Links {
    list: Vec<Way>,
    last_number: u64,
    own: Own,
    cluster: String,
    /// The addresses of the settings.
    addresses: Vec<String>,
    tls: Option<TlsSettings>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    /// Whether nothing more is said.
    has_hung_up: bool,
}

/// This process, as voters see it.
#[derive(Debug)]
pub(crate) struct Own {
    /// Its own voter, which is reached without a way.
    pub(crate) voter: Option<VoterId>,
    /// Where others reach that; empty if there is none.
    pub(crate) address: String,
    /// The member that attends voters; a process without one follows them, as a router does.
    pub(crate) attends: Option<Writer>,
}

/// What a voter said, for the loop to read.
#[derive(Debug)]
pub(crate) enum Said {
    /// To the member of this process.
    ToMember(Box<proto::AttendResponse>),
    /// To the router that this process is.
    ToRouter(Box<proto::FollowResponse>),
}

/// The way to one voter.
#[derive(Debug)]
struct Way {
    number: u64,
    address: String,
    /// Whom the record says to be there; none for an address out of the settings.
    wanted: Option<VoterId>,
    /// Who is there.
    voter: Option<VoterId>,
    opening: Arc<Mutex<Opening>>,
    /// None if the address cannot be used.
    task: Option<AbortHandle>,
    channel: Option<Channel>,
    outbox: Option<Outbox<proto::AttendRequest>>,
    heard: Option<Duration>,
    epoch: u64,
    round_trip: Option<Duration>,
    drift: Drift,
    trouble: Option<String>,
    /// Since when the record does not name it.
    unwanted_since: Option<Duration>,
    /// Whether it turned out to lead to this very process.
    is_own: bool,
}

impl Links {
    /// No way yet. `events` hear what comes of those to come.
    pub(crate) fn new(
        own: Own,
        settings: &NodeSettings,
        shared: &Arc<Shared>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            list: Vec::new(),
            last_number: 0,
            own,
            cluster: settings.cluster.clone(),
            addresses: settings.voters.clone(),
            tls: settings.tls.clone(),
            shared: Arc::clone(shared),
            events,
            has_hung_up: false,
        }
    }

    /// Sees to it that there is a way to every voter of the record, and if `tries_all`, to every
    /// address of the settings.
    pub(crate) fn follow(&mut self, record: Option<&Record>, tries_all: bool, now: Duration) {
        let voters = record.into_iter().flat_map(Record::voters);
        let voters = voters.filter(|entry| Some(entry.id) != self.own.voter);
        let mut wanted: Vec<(Option<VoterId>, String)> =
            voters.map(|entry| (Some(entry.id), entry.address.clone())).collect();
        if tries_all {
            let others = self.addresses.iter().filter(|address| **address != self.own.address);
            wanted.extend(others.map(|address| (None, address.clone())));
        }
        for way in &mut self.list {
            let is_wanted =
                way.is_own || wanted.iter().any(|(voter, address)| way.leads_to(*voter, address));
            way.unwanted_since = (!is_wanted).then(|| way.unwanted_since.unwrap_or(now));
        }
        for (voter, address) in wanted {
            let place = self.list.iter().position(|way| way.leads_to(voter, &address));
            match place {
                Some(place) => self.mean(place, voter),
                None => self.begin(voter, address, None),
            }
        }
        self.end_unwanted(now);
    }

    /// Notes what became of a conversation; returns what the voter said in it.
    pub(crate) fn hear(&mut self, number: u64, news: News, now: Duration) -> Option<Said> {
        let has_hung_up = self.has_hung_up;
        let way = self.way(number)?;
        match news {
            // Too late for another conversation.
            News::Open { .. } if has_hung_up => None,
            News::Open { channel, outbox } => {
                way.channel = Some(channel);
                way.outbox = outbox;
                way.trouble = None;
                way.heard = Some(now);
                None
            }
            News::Broken { reason } => {
                way.broke(reason);
                if has_hung_up && let Some(task) = &way.task {
                    task.abort();
                }
                None
            }
            News::Attended(answer) => {
                way.heard = Some(now);
                Some(Said::ToMember(answer))
            }
            News::Followed(answer) => {
                way.heard = Some(now);
                way.epoch = answer.epoch;
                Some(Said::ToRouter(answer))
            }
        }
    }

    /// Says it to this voter, if a conversation is open; else it is as good as lost.
    pub(crate) fn say(&self, to: VoterId, message: attend_request::Message) {
        let way = self.list.iter().find(|way| way.voter == Some(to) && way.outbox.is_some());
        if let Some(outbox) = way.and_then(|way| way.outbox.as_ref()) {
            outbox.push(proto::AttendRequest { message: Some(message) });
        }
    }

    /// Says it to every voter with which a conversation is open.
    pub(crate) fn say_to_all(&self, message: &attend_request::Message) {
        for outbox in self.list.iter().filter_map(|way| way.outbox.as_ref()) {
            outbox.push(proto::AttendRequest { message: Some(message.clone()) });
        }
    }

    /// Says it in this conversation.
    pub(crate) fn say_in(&self, number: u64, message: attend_request::Message) {
        let way = self.list.iter().find(|way| way.number == number);
        if let Some(outbox) = way.and_then(|way| way.outbox.as_ref()) {
            outbox.push(proto::AttendRequest { message: Some(message) });
        }
    }

    /// The connections that are open.
    pub(crate) fn channels(&self) -> Vec<(String, Channel)> {
        let open =
            self.list.iter().filter_map(|way| Some((way.address.clone(), way.channel.clone()?)));
        open.collect()
    }

    /// Says nothing more in any conversation: what was said is still sent.
    pub(crate) fn hang_up(&mut self) {
        self.has_hung_up = true;
        for way in &mut self.list {
            if way.outbox.take().is_none() {
                // Nobody waits for what only listens.
                way.channel = None;
                if let Some(task) = &way.task {
                    task.abort();
                }
            }
        }
    }

    /// Whether every conversation has ended.
    pub(crate) fn are_closed(&self) -> bool {
        self.list.iter().all(|way| way.channel.is_none())
    }

    /// The conversation is with this voter.
    pub(crate) fn is_with(&mut self, number: u64, id: &[u8]) {
        let id = match voter_id_in(id) {
            Ok(id) => id,
            Err(error) => return self.distrust(number, error.to_string()),
        };
        let own = self.own.voter;
        let Some(way) = self.way(number) else { return };
        if Some(id) == own {
            way.is_own = true;
            way.broke("this address leads back here".into());
            if let Some(task) = &way.task {
                task.abort();
            }
        } else if way.wanted.is_none_or(|wanted| wanted == id) {
            way.voter = Some(id);
        } else {
            self.distrust(number, format!("voter {:032x} is there, and another is meant", id.0));
        }
    }

    /// The voter of this conversation, as far as is known.
    pub(crate) fn voter(&mut self, number: u64) -> Option<VoterId> {
        self.way(number)?.voter
    }

    /// The voter of this conversation has this record, or a newer one.
    pub(crate) fn has_record(&mut self, number: u64, epoch: Epoch) {
        if let Some(way) = self.way(number) {
            way.epoch = way.epoch.max(epoch.get());
        }
    }

    /// What came this way makes no sense: the conversation begins again.
    pub(crate) fn distrust(&mut self, number: u64, reason: String) {
        let Some(place) = self.list.iter().position(|way| way.number == number) else { return };
        let way = self.list.remove(place);
        if let Some(task) = way.task {
            task.abort();
        }
        self.begin(way.wanted, way.address, Some(reason));
    }

    /// Notes how long the answer to what was `sent` took, and how the voter's clock stands.
    pub(crate) fn measure(
        &mut self,
        number: u64,
        message: &FromVoter,
        theirs: u64,
        sent: Option<Duration>,
        now: Duration,
    ) {
        let Some(way) = self.way(number) else { return };
        if let Some(sent) = sent {
            way.round_trip = Some(now.saturating_sub(sent));
            way.drift.saw(sent, now, theirs);
        }
        if let Some(epoch) = epoch_of(message) {
            way.epoch = epoch.get();
        }
    }

    /// Since when a majority of the record's voters has been heard, if one ever was. The own voter
    /// is always heard, if it `votes`.
    pub(crate) fn majority_heard(
        &self,
        record: &Record,
        votes: bool,
        now: Duration,
    ) -> Option<Duration> {
        let own = self.own.voter.filter(|_| votes);
        let voters = record.voters().iter();
        let mut heard: Vec<Duration> = voters
            .filter_map(
                |entry| if Some(entry.id) == own { Some(now) } else { self.heard(entry.id) },
            )
            .collect();
        heard.sort_unstable_by(|one, other| other.cmp(one));
        heard.get(record.majority() - 1).copied()
    }

    /// The process does not attend voters any more. Conversations that begin from now on are a
    /// router's.
    pub(crate) fn attend_no_more(&mut self) {
        self.own.attends = None;
    }

    /// The name by which this process follows voters as a router does; none for a member.
    pub(crate) fn follows_as(&self) -> Option<String> {
        self.own.attends.is_none().then(router_name)
    }

    /// Ends all conversations.
    pub(crate) fn end_all(&mut self) {
        for way in self.list.drain(..) {
            if let Some(task) = way.task {
                task.abort();
            }
        }
    }

    /// The ways to the voters of the record. The own one has a record of the epoch `own`, if it
    /// votes.
    pub(crate) fn figures(
        &self,
        record: Option<&Record>,
        own: Option<Epoch>,
        now: Duration,
    ) -> Vec<LinkFigures> {
        let voters = record.into_iter().flat_map(Record::voters);
        voters
            .map(|entry| {
                let mut figures = LinkFigures::to(entry.id, &entry.address);
                if Some(entry.id) == self.own.voter {
                    figures.is_connected = own.is_some();
                    figures.heard_ago = own.map(|_| Duration::ZERO);
                    figures.epoch = own.map_or(0, Epoch::get);
                }
                let way = self.list.iter().filter(|way| way.voter == Some(entry.id));
                if let Some(way) = way.max_by_key(|way| (way.channel.is_some(), way.heard)) {
                    figures.is_connected = way.channel.is_some();
                    figures.heard_ago = way.heard.map(|heard| now.saturating_sub(heard));
                    figures.epoch = way.epoch;
                    figures.round_trip = way.round_trip;
                    figures.drift_ppm = way.drift.rate_ppm();
                }
                figures
            })
            .collect()
    }

    /// What keeps this process from talking to voters, each as a sentence.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        let troubled = self.list.iter().filter(|way| !way.is_own && way.channel.is_none());
        troubled.filter_map(|way| {
            way.trouble.as_ref().map(|trouble| format!("the voter at {}: {trouble}", way.address))
        })
    }

    /// The way leads to this voter, says the record.
    fn mean(&mut self, place: usize, voter: Option<VoterId>) {
        if voter.is_none() || self.list[place].wanted == voter {
            return;
        }
        let opening = self.opening(voter);
        let way = &mut self.list[place];
        way.wanted = voter;
        way.voter = voter;
        *way.opening.lock().unwrap_or_else(PoisonError::into_inner) = opening;
    }

    fn begin(&mut self, voter: Option<VoterId>, address: String, trouble: Option<String>) {
        self.last_number += 1;
        let number = self.last_number;
        let opening = Arc::new(Mutex::new(self.opening(voter)));
        let mut way = Way {
            number,
            address,
            wanted: voter,
            voter,
            opening,
            task: None,
            channel: None,
            outbox: None,
            heard: None,
            epoch: 0,
            round_trip: None,
            drift: Drift::default(),
            trouble,
            unwanted_since: None,
            is_own: false,
        };
        match transport::endpoint(&way.address, self.tls.as_ref()) {
            Ok(endpoint) => {
                let (opening, events) = (Arc::clone(&way.opening), self.events.clone());
                let is_distrusted = way.trouble.is_some();
                let link = Link { number, endpoint, opening, events, is_distrusted };
                way.task = Some(tokio::spawn(link.keep()).abort_handle());
            }
            Err(error) => way.trouble = Some(error.to_string()),
        }
        self.list.push(way);
    }

    /// What to say first.
    fn opening(&self, voter: Option<VoterId>) -> Opening {
        let version = proto::Version::Version1.into();
        let cluster = self.cluster.clone();
        let record = self.shared.record();
        match &self.own.attends {
            Some(writer) => Opening::Attend(proto::Hello {
                version,
                cluster,
                cluster_id: record.map(|it| cluster_id_out(it.cluster())).unwrap_or_default(),
                voter_id: voter.map(voter_id_out).unwrap_or_default(),
                writer: Some(writer_out(writer)),
            }),
            None => Opening::Follow(proto::FollowRequest {
                version,
                cluster,
                router: router_name(),
                epoch: 0,
            }),
        }
    }

    /// When this voter was heard last.
    fn heard(&self, voter: VoterId) -> Option<Duration> {
        let ways = self.list.iter().filter(|way| way.voter == Some(voter));
        ways.filter_map(|way| way.heard).max()
    }

    fn way(&mut self, number: u64) -> Option<&mut Way> {
        self.list.iter_mut().find(|way| way.number == number)
    }

    /// Ends what has been unwanted for a while: voters that were replaced are still told so.
    fn end_unwanted(&mut self, now: Duration) {
        self.list.retain(|way| {
            let is_wanted =
                way.unwanted_since.is_none_or(|since| now.saturating_sub(since) < LINGER);
            if !is_wanted && let Some(task) = &way.task {
                task.abort();
            }
            is_wanted
        });
    }
}

impl Way {
    /// Whether this is the way to that voter, or, without one, to that address.
    fn leads_to(&self, voter: Option<VoterId>, address: &str) -> bool {
        let fits = voter.is_none()
            || self.wanted == voter
            || (self.wanted.is_none() && (self.voter.is_none() || self.voter == voter));
        self.address == address && fits
    }

    fn broke(&mut self, reason: String) {
        (self.channel, self.outbox, self.round_trip) = (None, None, None);
        self.drift = Drift::default();
        self.voter = self.wanted;
        self.trouble = Some(reason);
    }
}

/// The epoch of the record that a voter went by when it said this, if it says.
fn epoch_of(message: &FromVoter) -> Option<Epoch> {
    match message {
        FromVoter::Renewed { epoch, .. }
        | FromVoter::Lapsed { epoch, .. }
        | FromVoter::Missing { epoch } => Some(*epoch),
        FromVoter::Heard { newer: Some(record), .. }
        | FromVoter::Refused { refusal: Refusal::Behind(record), .. }
        | FromVoter::Decided { record } => Some(record.epoch()),
        FromVoter::Heard { newer: None, .. }
        | FromVoter::Refused { .. }
        | FromVoter::Promised { .. }
        | FromVoter::Accepted { .. }
        | FromVoter::Guarded { .. }
        | FromVoter::Outbid { .. } => None,
    }
}

/// The name of this process for voters that it follows.
fn router_name() -> String {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", own.trim(), std::process::id())
}

/// For so long a voter is still talked to after the record stopped naming it.
const LINGER: Duration = Duration::from_secs(2);
