//! What voters say to this process, and which of them it talks to.
use std::time::Duration;

use hashroute_core::PodId;

use crate::clock;
use crate::link::News;
use crate::links::Said;
use crate::proto;
use crate::proto::attend_response;

use super::{Mail, Shell, VoterPart};

impl Shell {
    /// Sees to it that there is a way to every voter of the record, and as long as no majority of
    /// them is heard, to every address of the settings.
    pub(super) fn links_follow_record(&mut self, now: Duration) {
        self.links.follow(self.shared.record().as_ref(), self.shared.is_stale(), now);
    }

    /// Begins all conversations again, in another part.
    pub(super) fn begin_links_again(&mut self) {
        self.links.end_all();
        self.links_follow_record(clock::now());
    }

    pub(super) fn link_news(&mut self, number: u64, news: News) {
        let now = clock::now();
        match self.links.hear(number, news, now) {
            None => {}
            Some(Said::ToMember(answer)) => {
                self.count_heard(now);
                self.voter_said(number, now, *answer);
            }
            Some(Said::ToRouter(answer)) => {
                self.count_heard(now);
                self.links.is_with(number, &answer.voter_id);
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
                self.links.is_with(number, &welcome.voter_id);
                if let Some(message) = welcome.record {
                    self.read_record(number, &message);
                }
            }
            attend_response::Message::FromPeer(from) => {
                let read = from.message.map(|message| self.codec.to_peer(message));
                match (PodId::new(&from.pod), read) {
                    (Ok(pod), Some(Ok(message))) => self.mail.push_back(Mail::ToPeer(pod, message)),
                    (_, Some(Err(error))) => self.links.distrust(number, error.to_string()),
                    (Err(_), _) | (_, None) => {
                        self.links.distrust(number, "no peer said this".into());
                    }
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
                    let sent = self.member.as_ref().and_then(|member| member.sent(&message));
                    self.links.measure(number, &message, answer.clock_ns, sent, now);
                    if let Some(by) = self.links.voter(number) {
                        self.mail.push_back(Mail::FromVoter(by, message));
                    }
                }
                Err(error) => self.links.distrust(number, error.to_string()),
            },
        }
    }

    fn read_record(&mut self, number: u64, message: &proto::Record) {
        match self.codec.record(message) {
            Ok(record) => {
                let known = self.shared.record();
                if known.is_some_and(|known| known.cluster() != record.cluster()) {
                    let reason = "the voter belongs to another founding of this cluster: one of its \
                                  address and its data directory is old";
                    return self.links.distrust(number, reason.into());
                }
                self.links.has_record(number, record.epoch());
                self.learn(&record);
            }
            Err(error) => self.links.distrust(number, error.to_string()),
        }
    }

    /// A record may come: it is read, and its ring made, now that nobody waits for it.
    fn make_ready(&mut self, number: u64, message: &proto::Record) {
        if let Err(error) = self.codec.record(message) {
            self.links.distrust(number, error.to_string());
        }
    }

    /// Notes since when a majority of the record's voters has been heard.
    pub(super) fn count_heard(&mut self, now: Duration) {
        let Some(record) = self.shared.record() else { return };
        let votes = self.voter.as_ref().is_some_and(VoterPart::is_running);
        if let Some(at) = self.links.majority_heard(&record, votes, now) {
            self.shared.heard(at);
        }
    }

    /// What is wrong, each as a sentence.
    pub(super) fn troubles(&self) -> Vec<String> {
        let own = self.member.as_ref().and_then(|member| member.trouble.clone());
        self.links.troubles().chain(self.attendees.troubles(clock::now())).chain(own).collect()
    }
}
