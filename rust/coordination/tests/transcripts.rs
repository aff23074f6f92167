//! Small clusters whose whole conversation can be read: `tests/transcripts/*.txt`.
//!
//! Every link takes 1 ms and every disk 1 ms. Renewals, probes and their answers are left out. To
//! write the files anew after a change that is meant, delete them and run the tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the transcripts are files")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hashroute_coordination::{
    Change, ClusterId, FromVoter, Incarnation, LeaseParameters, Member, MemberAction, Planted,
    Record, ToPeer, ToVoter, Voter, VoterAction, VoterEntry, VoterId, VoterState,
};
use hashroute_core::{Epoch, Parameters, Pod, PodId, View};

enum Event {
    ToVoter(VoterId, PodId, ToVoter),
    FromVoter(VoterId, PodId, FromVoter),
    ToPeer(PodId, PodId, ToPeer),
}

struct Cluster {
    now: Duration,
    members: BTreeMap<PodId, Member>,
    voters: BTreeMap<VoterId, Voter>,
    queue: BTreeMap<(Duration, u64), Event>,
    dice: u64,
    text: String,
}

const LINK: Duration = Duration::from_millis(1);
const DISK: Duration = Duration::from_millis(1);

impl Cluster {
    /// Voters 1 to 3, pods `a` and `b`; `a` has joined before `b` comes.
    fn of_two() -> Self {
        let pods = ["a", "b"].map(|name| Pod::new(PodId::new(name).unwrap()));
        let parameters = Parameters::new(8, 0.05, 0).unwrap();
        let view = View::new(Epoch::new(1), parameters, pods.to_vec()).unwrap();
        let voters = [1, 2, 3].map(|id| VoterEntry { id: VoterId(id), address: String::new() });
        let first =
            Record::first(ClusterId(7), LeaseParameters::TIGHT, voters.to_vec(), &view).unwrap();
        let mut cluster = Self {
            now: Duration::ZERO,
            members: BTreeMap::new(),
            voters: BTreeMap::new(),
            queue: BTreeMap::new(),
            dice: 0,
            text: String::new(),
        };
        for VoterEntry { id, .. } in voters {
            let state = VoterState::first(id, first.clone());
            cluster.voters.insert(id, Voter::new(state, Duration::ZERO));
        }
        for (index, pod) in pods.into_iter().enumerate() {
            let now = Duration::from_millis(index as u64 * 20);
            cluster.run(now);
            let incarnation = Incarnation(index as u64 + 1);
            let member =
                Member::new(pod.clone(), incarnation, first.clone(), now, Planted::default());
            cluster.members.insert(pod.id, member);
        }
        cluster
    }

    fn say(&mut self, line: &str) {
        let ms = self.now.as_secs_f64() * 1000.0;
        writeln!(self.text, "{ms:>6.1}  {line}").unwrap();
    }

    /// Lets time pass.
    fn run(&mut self, until: Duration) {
        loop {
            let message = self.queue.keys().next().map(|(at, _)| *at);
            let voter = self.voters.values().filter_map(Voter::deadline).min();
            let member = self.members.values().map(Member::deadline).min();
            let next = [message, voter, member].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = self.now.max(next);
            if message == Some(next) {
                let (_, event) = self.queue.pop_first().unwrap();
                self.deliver(event);
            } else {
                self.tick();
            }
        }
        self.now = until;
    }

    fn tick(&mut self) {
        let now = self.now;
        for id in self.voters.keys().copied().collect::<Vec<_>>() {
            let actions = self.voters.get_mut(&id).unwrap().tick(now);
            self.voter_acts(id, actions);
        }
        for pod in self.members.keys().cloned().collect::<Vec<_>>() {
            self.dice += 1;
            let dice = self.dice;
            let member = self.members.get_mut(&pod).unwrap();
            if member.deadline() <= now {
                let actions = member.tick(now, dice);
                self.member_acts(&pod, actions);
            }
        }
    }

    fn deliver(&mut self, event: Event) {
        self.dice += 1;
        let (now, dice) = (self.now, self.dice);
        match event {
            Event::ToVoter(to, from, message) => {
                if let Some(voter) = self.voters.get_mut(&to) {
                    let actions = voter.handle(now, from, message);
                    self.voter_acts(to, actions);
                }
            }
            Event::FromVoter(by, to, message) => {
                if let Some(member) = self.members.get_mut(&to) {
                    let actions = member.handle_voter(now, by, message, dice);
                    self.member_acts(&to, actions);
                }
            }
            Event::ToPeer(to, from, message) => {
                if let Some(member) = self.members.get_mut(&to) {
                    let actions = member.handle_peer(now, &from, message, dice);
                    self.member_acts(&to, actions);
                }
            }
        }
    }

    fn voter_acts(&mut self, id: VoterId, actions: Vec<VoterAction>) {
        let mut delay = LINK;
        for action in actions {
            match action {
                VoterAction::Persist(_) => delay += DISK,
                // A disk is done long before the next message comes.
                VoterAction::AwaitDisk => {}
                VoterAction::Send { to, message } => {
                    if let Some(what) = voters_word(&message) {
                        self.say(&format!("voter {} -> {to}: {what}", id.0));
                    }
                    self.push(delay, Event::FromVoter(id, to, message));
                }
            }
        }
    }

    fn member_acts(&mut self, pod: &PodId, actions: Vec<MemberAction>) {
        for action in actions {
            match action {
                MemberAction::ToVoter(to, message) => {
                    if let Some(what) = word_to_voter(&message) {
                        self.say(&format!("{pod} -> voter {}: {what}", to.0));
                    }
                    self.push(LINK, Event::ToVoter(to, pod.clone(), message));
                }
                MemberAction::ToPeer(to, message) => {
                    self.say(&format!("{pod} -> {to}: {}", word_to_peer(&message)));
                    self.push(LINK, Event::ToPeer(to, pod.clone(), message));
                }
                MemberAction::Installed(record) => {
                    self.say(&format!("{pod} goes by {}", shape(&record)));
                }
                MemberAction::Quiesce(record) => {
                    self.say(&format!("{pod} stops for {}", shape(&record)));
                    let member = self.members.get_mut(pod).unwrap();
                    let actions = member.quiesced(self.now, &record, self.dice);
                    self.member_acts(pod, actions);
                }
                MemberAction::Made { change, epoch } => {
                    self.say(&format!("{pod}: {change:?} is made at epoch {epoch}"));
                }
                MemberAction::Dropped { change, reason } => {
                    self.say(&format!("{pod}: {change:?} is dropped: {reason}"));
                }
            }
        }
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.dice += 1;
        self.queue.insert((self.now + delay, self.dice), event);
    }

    /// Compares what was said with the file of this name.
    fn compare(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
        if !path.exists() {
            std::fs::write(&path, &self.text).unwrap();
            panic!("{} was written: read it, and run the test again", path.display());
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        assert_eq!(self.text, expected, "{} is another conversation", path.display());
    }
}

fn word_to_voter(message: &ToVoter) -> Option<String> {
    match message {
        ToVoter::Prepare { epoch, stop, .. } if stop.is_empty() => Some(format!("prepare {epoch}")),
        ToVoter::Prepare { epoch, stop, .. } => {
            let stop: Vec<String> = stop.iter().map(|writer| writer.pod.to_string()).collect();
            Some(format!("prepare {epoch}, and nothing more for {}", stop.join(", ")))
        }
        ToVoter::Accept { record, released, .. } if released.is_empty() => {
            Some(format!("accept {}", shape(record)))
        }
        ToVoter::Accept { record, released, .. } => {
            let pods: Vec<String> = released.iter().map(|writer| writer.pod.to_string()).collect();
            Some(format!("accept {}, released by {}", shape(record), pods.join(", ")))
        }
        ToVoter::Renounce { .. } => Some("renounce".to_owned()),
        ToVoter::Renew { .. } | ToVoter::Probe { .. } | ToVoter::Install { .. } => None,
    }
}

fn voters_word(message: &FromVoter) -> Option<String> {
    match message {
        FromVoter::Lapsed { writers, .. } => {
            let pods: Vec<String> = writers.iter().map(|writer| writer.pod.to_string()).collect();
            Some(format!("the lease of {} has run out", pods.join(", ")))
        }
        FromVoter::Promised { epoch, .. } => Some(format!("promised {epoch}")),
        FromVoter::Accepted { epoch, .. } => Some(format!("accepted {epoch}")),
        FromVoter::Guarded { remaining, .. } => Some(format!("guarded for {remaining:?} more")),
        FromVoter::Outbid { promised, .. } => Some(format!("outbid by round {}", promised.round)),
        FromVoter::Decided { record } => Some(format!("decided: {}", shape(record))),
        FromVoter::Missing { epoch } => Some(format!("at epoch {epoch}")),
        FromVoter::Renewed { .. } | FromVoter::Refused { .. } | FromVoter::Heard { .. } => None,
    }
}

fn word_to_peer(message: &ToPeer) -> String {
    match message {
        ToPeer::AskReady { epoch, .. } => format!("ready for {epoch}?"),
        ToPeer::Ready { epoch, .. } => format!("ready for {epoch}"),
        ToPeer::AskRelease { record, .. } => format!("release for {}", shape(record)),
        ToPeer::Released { epoch, .. } => format!("released for {epoch}"),
        ToPeer::Install { record } => format!("install {}", shape(record)),
    }
}

/// A record in a few words: its epoch, and how many slots each pod owns.
fn shape(record: &Record) -> String {
    let pods = record.view().pods().iter().enumerate();
    let counts = pods.map(|(index, pod)| {
        let owns = |owner: &&u16| usize::from(**owner) == index;
        let count = record.ring().map_or(0, |ring| ring.owners().iter().filter(owns).count());
        format!("{}:{count}", pod.id)
    });
    format!("{} ({})", record.epoch(), counts.collect::<Vec<_>>().join(" "))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn two_pods_join_one_after_the_other() {
    let mut cluster = Cluster::of_two();
    cluster.run(ms(250));
    cluster.compare("join.txt");
}

#[test]
fn a_dead_pod_is_replaced_when_its_guards_have_run_out() {
    let mut cluster = Cluster::of_two();
    cluster.run(ms(1000));
    cluster.text.clear();
    cluster.say("a and voter 1 are killed");
    cluster.members.remove(&PodId::new("a").unwrap());
    cluster.voters.remove(&VoterId(1));
    cluster.run(ms(1250));
    cluster.compare("kill.txt");
}

#[test]
fn a_drained_pod_hands_over_without_waiting_for_guards() {
    let mut cluster = Cluster::of_two();
    cluster.run(ms(1000));
    cluster.text.clear();
    let b = PodId::new("b").unwrap();
    cluster.say("b is asked to drain a");
    let drain = Change::Drain(PodId::new("a").unwrap());
    cluster.members.get_mut(&b).unwrap().wish(drain).unwrap();
    cluster.run(ms(1100));
    cluster.compare("drain.txt");
}

#[test]
fn what_a_dead_proposer_told_nobody_is_finished_by_others() {
    let mut cluster = Cluster::of_two();
    cluster.run(ms(1000));
    cluster.text.clear();
    let (a, b) = (PodId::new("a").unwrap(), PodId::new("b").unwrap());
    cluster.say("b is asked to drain a");
    cluster.members.get_mut(&b).unwrap().wish(Change::Drain(a)).unwrap();
    cluster.run(ms(1011));
    cluster.say("b is killed: all have voted, and nobody knows");
    cluster.members.remove(&b);
    cluster.run(ms(1250));
    cluster.compare("untold.txt");
}

#[test]
fn a_pod_that_is_not_there_to_release_interrupts_nobody() {
    let mut cluster = Cluster::of_two();
    cluster.run(ms(1000));
    cluster.text.clear();
    let (a, b) = (PodId::new("a").unwrap(), PodId::new("b").unwrap());
    cluster.say("a hears nothing from here on; b is asked to drain it");
    cluster.members.remove(&a);
    cluster.members.get_mut(&b).unwrap().wish(Change::Drain(a)).unwrap();
    cluster.run(ms(1100));
    cluster.compare("unready.txt");
}
