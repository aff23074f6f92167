//! The ways from this process to the voters.
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hashroute_coordination::{Record, VoterId};
use tokio::task::AbortHandle;
use tonic::transport::Channel;

use crate::clock;
use crate::drift::Drift;
use crate::figures::LinkFigures;
use crate::link::{Link, News, Opening};
use crate::outbox::Outbox;
use crate::proto;
use crate::proto::{attend_request, attend_response};
use crate::transport;
use crate::wire::{cluster_id_out, voter_id_in, voter_id_out, writer_out};

use super::member::MemberPart;
use super::{Mail, PoisonError, Shell};

/// All of them.
#[derive(Debug)]
pub(super) struct Links {
    list: Vec<Way>,
    last_number: u64,
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
    pub(super) fn new() -> Self {
        Self { list: Vec::new(), last_number: 0 }
    }

    /// Says it to this voter, if a conversation is open; else it is as good as lost.
    pub(super) fn say(&self, to: VoterId, message: attend_request::Message) {
        let way = self.list.iter().find(|way| way.voter == Some(to) && way.outbox.is_some());
        if let Some(outbox) = way.and_then(|way| way.outbox.as_ref()) {
            outbox.push(proto::AttendRequest { message: Some(message) });
        }
    }

    /// Says it to every voter with which a conversation is open.
    pub(super) fn say_to_all(&self, message: &attend_request::Message) {
        for outbox in self.list.iter().filter_map(|way| way.outbox.as_ref()) {
            outbox.push(proto::AttendRequest { message: Some(message.clone()) });
        }
    }

    /// Says it in this conversation.
    pub(super) fn say_in(&self, number: u64, message: attend_request::Message) {
        let way = self.list.iter().find(|way| way.number == number);
        if let Some(outbox) = way.and_then(|way| way.outbox.as_ref()) {
            outbox.push(proto::AttendRequest { message: Some(message) });
        }
    }

    /// The connections that are open.
    pub(super) fn channels(&self) -> Vec<(String, Channel)> {
        let open =
            self.list.iter().filter_map(|way| Some((way.address.clone(), way.channel.clone()?)));
        open.collect()
    }

    /// Says nothing more in any conversation: what was said is still sent.
    pub(super) fn hang_up(&mut self) {
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
    pub(super) fn are_closed(&self) -> bool {
        self.list.iter().all(|way| way.channel.is_none())
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

impl Shell {
    /// Sees to it that there is a way to every voter of the record, and as long as no majority of
    /// them is heard, to every address of the settings.
    pub(super) fn links_follow_record(&mut self, now: Duration) {
        let own_id = self.voter.as_ref().map(|part| part.id);
        let record = self.shared.record();
        let voters = record.iter().flat_map(|record| record.voters());
        let voters = voters.filter(|entry| Some(entry.id) != own_id);
        let mut wanted: Vec<(Option<VoterId>, String)> =
            voters.map(|entry| (Some(entry.id), entry.address.clone())).collect();
        if self.shared.is_stale() {
            let others = self.settings.voters.iter().filter(|address| **address != self.address);
            wanted.extend(others.map(|address| (None, address.clone())));
        }
        for way in &mut self.links.list {
            let is_wanted =
                way.is_own || wanted.iter().any(|(voter, address)| way.leads_to(*voter, address));
            way.unwanted_since = (!is_wanted).then(|| way.unwanted_since.unwrap_or(now));
        }
        for (voter, address) in wanted {
            let place = self.links.list.iter().position(|way| way.leads_to(voter, &address));
            match place {
                Some(place) => self.mean(place, voter),
                None => self.begin(voter, address, None),
            }
        }
        self.links.end_unwanted(now);
    }

    /// The way leads to this voter, says the record.
    fn mean(&mut self, place: usize, voter: Option<VoterId>) {
        if voter.is_none() || self.links.list[place].wanted == voter {
            return;
        }
        let opening = self.opening(voter);
        let way = &mut self.links.list[place];
        way.wanted = voter;
        way.voter = voter;
        *way.opening.lock().unwrap_or_else(PoisonError::into_inner) = opening;
    }

    fn begin(&mut self, voter: Option<VoterId>, address: String, trouble: Option<String>) {
        self.links.last_number += 1;
        let number = self.links.last_number;
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
        match transport::endpoint(&way.address, self.settings.tls.as_ref()) {
            Ok(endpoint) => {
                let (opening, events) = (Arc::clone(&way.opening), self.events.clone());
                let is_distrusted = way.trouble.is_some();
                let link = Link { number, endpoint, opening, events, is_distrusted };
                way.task = Some(tokio::spawn(link.keep()).abort_handle());
            }
            Err(error) => way.trouble = Some(error.to_string()),
        }
        self.links.list.push(way);
    }

    /// What to say first.
    fn opening(&self, voter: Option<VoterId>) -> Opening {
        let version = proto::Version::Version1.into();
        let cluster = self.settings.cluster.clone();
        let record = self.shared.record();
        match self.member_attends() {
            Some(member) => Opening::Attend(proto::Hello {
                version,
                cluster,
                cluster_id: record.map(|it| cluster_id_out(it.cluster())).unwrap_or_default(),
                voter_id: voter.map(voter_id_out).unwrap_or_default(),
                writer: Some(writer_out(&member.writer())),
            }),
            None => Opening::Follow(proto::FollowRequest {
                version,
                cluster,
                router: router_name(),
                epoch: 0,
            }),
        }
    }

    /// The member that attends voters; a process without one follows them, as a router does.
    pub(super) fn member_attends(&self) -> Option<&MemberPart> {
        self.member.as_ref().filter(|member| !member.has_left)
    }

    /// Begins all conversations again, in another part.
    pub(super) fn begin_links_again(&mut self) {
        for way in self.links.list.drain(..) {
            if let Some(task) = way.task {
                task.abort();
            }
        }
        self.links_follow_record(clock::now());
    }

    pub(super) fn link_news(&mut self, number: u64, news: News) {
        let now = clock::now();
        let is_stopping = self.stopping.as_ref().is_some_and(|stopping| stopping.has_hung_up());
        let Some(way) = self.links.way(number) else { return };
        match news {
            // Too late for another conversation.
            News::Open { .. } if is_stopping => {}
            News::Open { channel, outbox } => {
                way.channel = Some(channel);
                way.outbox = outbox;
                way.trouble = None;
                way.heard = Some(now);
            }
            News::Broken { reason } => {
                way.broke(reason);
                if is_stopping && let Some(task) = &way.task {
                    task.abort();
                }
            }
            News::Attended(answer) => {
                way.heard = Some(now);
                self.count_heard(now);
                self.voter_said(number, now, *answer);
            }
            News::Followed(answer) => {
                way.heard = Some(now);
                way.epoch = answer.epoch;
                self.count_heard(now);
                self.is_with(number, &answer.voter_id);
                if let Some(message) = answer.record {
                    self.read_record(number, &message);
                }
                if let Some(message) = answer.coming {
                    self.make_ready(number, &message);
                }
            }
        }
    }

    /// A voter said this to the member of this process.
    fn voter_said(&mut self, number: u64, now: Duration, answer: proto::AttendResponse) {
        let Some(message) = answer.message else { return };
        match message {
            attend_response::Message::Welcome(welcome) => {
                self.is_with(number, &welcome.voter_id);
                if let Some(message) = welcome.record {
                    self.read_record(number, &message);
                }
            }
            attend_response::Message::FromPeer(from) => {
                let read = from.message.map(|message| self.codec.to_peer(message));
                match (hashroute_core::PodId::new(&from.pod), read) {
                    (Ok(pod), Some(Ok(message))) => self.mail.push_back(Mail::ToPeer(pod, message)),
                    (_, Some(Err(error))) => self.distrust(number, error.to_string()),
                    (Err(_), _) | (_, None) => self.distrust(number, "no peer said this".into()),
                }
            }
            attend_response::Message::ChangeWanted(wanted) => self.change_wanted(number, wanted),
            attend_response::Message::Coming(message) => self.make_ready(number, &message),
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
                    self.measure(number, now, answer.clock_ns, &message);
                    let by = self.links.way(number).and_then(|way| way.voter);
                    if let Some(by) = by {
                        self.mail.push_back(Mail::FromVoter(by, message));
                    }
                }
                Err(error) => self.distrust(number, error.to_string()),
            },
        }
    }

    /// The conversation is with this voter.
    fn is_with(&mut self, number: u64, id: &[u8]) {
        let id = match voter_id_in(id) {
            Ok(id) => id,
            Err(error) => return self.distrust(number, error.to_string()),
        };
        let own = self.voter.as_ref().map(|part| part.id);
        let Some(way) = self.links.way(number) else { return };
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

    fn read_record(&mut self, number: u64, message: &proto::Record) {
        match self.codec.record(message) {
            Ok(record) => {
                let known = self.shared.record();
                if known.is_some_and(|known| known.cluster() != record.cluster()) {
                    let reason = "the voter belongs to another founding of this cluster: one of its \
                                  address and its data directory is old";
                    return self.distrust(number, reason.into());
                }
                if let Some(way) = self.links.way(number) {
                    way.epoch = way.epoch.max(record.epoch().get());
                }
                self.learn(&record);
            }
            Err(error) => self.distrust(number, error.to_string()),
        }
    }

    /// A record may come: it is read, and its ring made, now that nobody waits for it.
    fn make_ready(&mut self, number: u64, message: &proto::Record) {
        if let Err(error) = self.codec.record(message) {
            self.distrust(number, error.to_string());
        }
    }

    /// What came this way makes no sense: the conversation begins again.
    fn distrust(&mut self, number: u64, reason: String) {
        let Some(place) = self.links.list.iter().position(|way| way.number == number) else {
            return;
        };
        let (wanted, address) =
            (self.links.list[place].wanted, self.links.list[place].address.clone());
        if let Some(task) = self.links.list.remove(place).task {
            task.abort();
        }
        self.begin(wanted, address, Some(reason));
    }

    /// Notes how long the answer took, and how the voter's clock stands.
    fn measure(
        &mut self,
        number: u64,
        now: Duration,
        theirs: u64,
        message: &hashroute_coordination::FromVoter,
    ) {
        let sent = self.member.as_ref().and_then(|member| member.sent(message));
        let Some(way) = self.links.way(number) else { return };
        if let Some(sent) = sent {
            way.round_trip = Some(now.saturating_sub(sent));
            way.drift.saw(sent, now, theirs);
        }
        if let Some(epoch) = super::member::epoch_of(message) {
            way.epoch = epoch.get();
        }
    }

    /// Notes since when a majority of the record's voters has been heard.
    pub(super) fn count_heard(&mut self, now: Duration) {
        let Some(record) = self.shared.record() else { return };
        let own = self.voter.as_ref().filter(|part| part.is_running()).map(|part| part.id);
        let voters = record.voters().iter();
        let mut heard: Vec<Duration> =
            voters
                .filter_map(|entry| {
                    if Some(entry.id) == own { Some(now) } else { self.links.heard(entry.id) }
                })
                .collect();
        heard.sort_unstable_by(|one, other| other.cmp(one));
        if let Some(at) = heard.get(record.majority() - 1) {
            self.shared.heard(*at);
        }
    }

    pub(super) fn link_figures(&self, now: Duration) -> Vec<LinkFigures> {
        let record: Option<Record> = self.shared.record();
        let own = self.voter.as_ref().map(|part| part.id);
        let voters = record.iter().flat_map(|record| record.voters());
        voters
            .map(|entry| {
                let mut figures = LinkFigures::to(entry.id, &entry.address);
                if Some(entry.id) == own {
                    let running = self.voter.as_ref().filter(|part| part.is_running());
                    figures.is_connected = running.is_some();
                    figures.heard_ago = running.map(|_| Duration::ZERO);
                    let record = running.and_then(|part| part.record());
                    figures.epoch = record.map_or(0, |record| record.epoch().get());
                }
                let way = self.links.list.iter().filter(|way| way.voter == Some(entry.id));
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
    pub(super) fn link_troubles(&self) -> Vec<String> {
        let troubled = self.links.list.iter().filter(|way| !way.is_own && way.channel.is_none());
        let troubles = troubled.filter_map(|way| {
            way.trouble.as_ref().map(|trouble| format!("the voter at {}: {trouble}", way.address))
        });
        let contested = self.attendees.contested(clock::now());
        let contested = contested.map(|pod| {
            format!(
                "two processes attend as pod {pod}: stop one of them, or give it another quorum.pod"
            )
        });
        troubles
            .chain(contested)
            .chain(self.member.as_ref().and_then(|it| it.trouble.clone()))
            .collect()
    }
}

/// The name of this process for voters that it follows.
pub(super) fn router_name() -> String {
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", own.trim(), std::process::id())
}

/// For so long a voter is still talked to after the record stopped naming it.
const LINGER: Duration = Duration::from_secs(2);
