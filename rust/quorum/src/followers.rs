//! Routers that follow the record of this process's voter.
use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{Record, VoterId};
use tonic::Status;

use crate::clock;
use crate::link::WAITING_MOST;
use crate::outbox::{Outbox, outbox};
use crate::proto;
use crate::server::{Answers, check_cluster, check_version};
use crate::wire::{Codec, NAME_BYTES_MAX, voter_id_out};

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Followers {
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
    pub(crate) fn epochs(&self) -> BTreeMap<String, u64> {
        self.list.iter().map(|follower| (follower.name.clone(), follower.epoch)).collect()
    }

    pub(crate) fn end_all(&mut self, status: &Status) {
        for follower in self.list.drain(..) {
            follower.outbox.end_with(Err(status.clone()));
        }
    }

    /// Begins to tell a router of the voter here.
    pub(crate) fn begin(
        &mut self,
        request: proto::FollowRequest,
        cluster: &str,
    ) -> Result<Answers<proto::FollowResponse>, Status> {
        check_version(request.version)?;
        check_cluster(cluster, &request.cluster)?;
        if self.list.len() >= FOLLOWERS_MOST {
            return Err(Status::resource_exhausted(format!(
                "{FOLLOWERS_MOST} routers follow this voter, which is the most"
            )));
        }
        let (outbox, answers) = outbox(WAITING_MOST);
        let mut name = request.router;
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        self.list.push(Follower { name, epoch: request.epoch, outbox });
        Ok(answers)
    }

    /// Every router hears that the voter `id` is there, and its record if it has not got it.
    pub(crate) fn tell(
        &mut self,
        id: VoterId,
        record: Option<&Record>,
        codec: &Codec,
        now: Duration,
    ) {
        let epoch = record.map_or(0, |record| record.epoch().get());
        let is_news = self.list.iter().any(|follower| follower.epoch != epoch);
        let news = record.filter(|_| is_news).map(|record| codec.record_out(record));
        self.list.retain_mut(|follower| {
            let record = news.clone().filter(|_| follower.epoch != epoch);
            follower.epoch = epoch;
            let (voter_id, clock_ns) = (voter_id_out(id), clock::nanos(now));
            follower.say(proto::FollowResponse { voter_id, epoch, record, clock_ns, coming: None })
        });
    }

    /// Every router hears what the voter will vote for when others have stopped.
    pub(crate) fn foretell(&mut self, id: VoterId, message: &proto::Record) {
        let clock_ns = clock::nanos(clock::now());
        self.list.retain(|follower| {
            let (voter_id, epoch) = (voter_id_out(id), follower.epoch);
            let coming = Some(message.clone());
            follower.say(proto::FollowResponse { voter_id, epoch, record: None, clock_ns, coming })
        });
    }
}

/// Routers that follow at one time.
const FOLLOWERS_MOST: usize = 1_024;
