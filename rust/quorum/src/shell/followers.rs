//! Routers that follow the record of this process's voter.
use std::collections::BTreeMap;
use std::time::Duration;

use tonic::Status;

use crate::clock;
use crate::link::WAITING_MOST;
use crate::outbox::{Outbox, outbox};
use crate::proto;
use crate::server::{Answers, check_cluster, check_version, no_voter};
use crate::wire::{NAME_BYTES_MAX, voter_id_out};

use super::Shell;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Followers {
    list: Vec<Follower>,
}

#[derive(Debug)]
struct Follower {
    name: String,
    /// The epoch of the record that it was sent last, or has.
    epoch: u64,
    outbox: Outbox<Result<proto::FollowResponse, Status>>,
}

impl Follower {
    /// Returns whether the conversation goes on: one that nobody reads ends.
    fn say(&self, answer: proto::FollowResponse) -> bool {
        let goes_on = self.outbox.offer(Ok(answer));
        if !goes_on {
            let reason = "the router does not read what it is told: it has to begin again";
            self.outbox.end_with(Err(Status::resource_exhausted(reason)));
        }
        goes_on
    }
}

impl Followers {
    /// The epoch that each was last sent, by name.
    pub(super) fn epochs(&self) -> BTreeMap<String, u64> {
        self.list.iter().map(|follower| (follower.name.clone(), follower.epoch)).collect()
    }

    pub(super) fn end_all(&mut self, status: &Status) {
        for follower in self.list.drain(..) {
            follower.outbox.end_with(Err(status.clone()));
        }
    }
}

impl Shell {
    pub(super) fn follow(
        &mut self,
        request: proto::FollowRequest,
    ) -> Result<Answers<proto::FollowResponse>, Status> {
        check_version(request.version)?;
        check_cluster(self.codec.cluster(), &request.cluster)?;
        let part = self.voter.as_ref().ok_or_else(no_voter)?;
        if let Some(trouble) = part.trouble() {
            let reason = format!("the voter's disk failed ({trouble}): ask another voter");
            return Err(Status::unavailable(reason));
        }
        if self.followers.list.len() >= FOLLOWERS_MOST {
            return Err(Status::resource_exhausted(format!(
                "{FOLLOWERS_MOST} routers follow this voter, which is the most"
            )));
        }
        let (outbox, answers) = outbox(WAITING_MOST);
        let mut name = request.router;
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        self.followers.list.push(Follower { name, epoch: request.epoch, outbox });
        self.tell_followers(clock::now());
        Ok(answers)
    }

    /// Every router hears that the voter is there, and its record if it has not got it.
    pub(super) fn tell_followers(&mut self, now: Duration) {
        let Some(part) = self.voter.as_ref().filter(|_| !self.followers.list.is_empty()) else {
            return;
        };
        let record = part.record();
        let (id, epoch) = (part.id, record.map_or(0, |record| record.epoch().get()));
        let is_news = self.followers.list.iter().any(|follower| follower.epoch != epoch);
        let news = record.filter(|_| is_news).map(|record| self.codec.record_out(record));
        self.followers.list.retain_mut(|follower| {
            let record = news.clone().filter(|_| follower.epoch != epoch);
            follower.epoch = epoch;
            let (voter_id, clock_ns) = (voter_id_out(id), clock::nanos(now));
            follower.say(proto::FollowResponse { voter_id, epoch, record, clock_ns, coming: None })
        });
    }

    /// Every router and every member hears what the voter will vote for when others have stopped.
    pub(super) fn foretell(&mut self, message: &proto::Record) {
        let Some(id) = self.voter.as_ref().map(|part| part.id) else { return };
        self.attendees.foretell(message);
        let clock_ns = clock::nanos(clock::now());
        self.followers.list.retain(|follower| {
            let (voter_id, epoch) = (voter_id_out(id), follower.epoch);
            let coming = Some(message.clone());
            follower.say(proto::FollowResponse { voter_id, epoch, record: None, clock_ns, coming })
        });
    }
}

/// Routers that follow at one time.
const FOLLOWERS_MOST: usize = 1_024;
