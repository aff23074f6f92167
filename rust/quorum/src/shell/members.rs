//! What members say to the voter of this process.
use hashroute_coordination::Writer;
use hashroute_core::PodId;
use tonic::Status;

use crate::attendees::{Host, to_voter};
use crate::proto;
use crate::proto::attend_request;
use crate::server::{Attending, invalid, no_voter};

use super::{Mail, Shell};

impl Shell {
    /// Decides whether a member may converse, and begins.
    pub(super) fn hello(&mut self, hello: proto::Hello) -> Result<Attending, Status> {
        let part = self.voter.as_ref().ok_or_else(no_voter)?;
        if let Some(trouble) = part.trouble() {
            let reason = format!("the voter's disk failed ({trouble}): ask another voter");
            return Err(Status::unavailable(reason));
        }
        let pod = self.own_pod().cloned();
        let host = Host { voter: part.id, record: part.record(), pod: pod.as_ref() };
        let (attending, before) = self.attendees.hello(hello, &host, &self.codec)?;
        if let Some(before) = before {
            self.changes_lost_with(before);
        }
        Ok(attending)
    }

    pub(super) fn attendee_said(&mut self, number: u64, message: attend_request::Message) {
        let Some(me) = self.attendees.heard(number) else { return };
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
            | attend_request::Message::Install(_) => self.said_to_voter(me, message),
        };
        if let Err(status) = refused {
            self.attendee_left(number, Some(status));
        }
    }

    fn said_to_voter(
        &mut self,
        me: Writer,
        message: attend_request::Message,
    ) -> Result<(), Status> {
        let message = to_voter(&mut self.codec, &me, message)?;
        self.voter_hears(me.pod, message);
        Ok(())
    }

    /// What one member says to another goes by every voter that both attend.
    fn pass_on(&mut self, from: &PodId, message: proto::ToPeer) -> Result<(), Status> {
        let to = PodId::new(&message.pod)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let Some(content) = message.message else {
            return Err(Status::invalid_argument("nothing is to be passed on"));
        };
        if self.own_pod() == Some(&to) {
            let message = self.codec.to_peer(content).map_err(|error| invalid(&error))?;
            self.mail.push_back(Mail::ToPeer(from.clone(), message));
        } else {
            self.attendees.say_from_peer(from, &to, content);
        }
        Ok(())
    }

    pub(super) fn attendee_left(&mut self, number: u64, reason: Option<Status>) {
        self.attendees.left(number, reason);
        self.changes_lost_with(number);
    }
}
