//! Three processes that vote, the first two of which are members, and a store, by hand.
use hashroute_core::{Parameters, Pod, Slot, View};

use super::super::tests::{MS, Store, look};
use super::*;
use crate::change::Change;
use crate::guard::WriteTag;
use crate::lease::LeaseParameters;
use crate::record::{ClusterId, Incarnation, Resource, VoterEntry};
use crate::register::{Key, RegisterEvent, Value};

const TTL: Duration = LeaseParameters::TIGHT.ttl;

struct Cluster {
    now: Duration,
    store: Store,
    /// Two pods and a witness.
    processes: Vec<RegisterMember>,
    /// Whether the store answers this process.
    hears_store: [bool; 3],
    /// Whether the other processes hear this one, and it them.
    is_linked: [bool; 3],
    /// What voters said, newest last.
    said: Vec<(usize, FromVoter)>,
}

fn pod(name: usize) -> Pod {
    Pod::new(PodId::new(&format!("pod-{name}")).unwrap())
}

fn voter(place: usize) -> VoterId {
    VoterId(10 + place as u128)
}

fn first() -> Record {
    let parameters = Parameters::new(8, 0.05, 0).unwrap();
    let view = View::new(Epoch::new(1), parameters, vec![pod(0), pod(1)]).unwrap();
    let entry = |place| VoterEntry { id: voter(place), address: format!("host-{place}:7000") };
    let voters = (0..3).map(entry).collect();
    let first = Record::first(ClusterId(7), LeaseParameters::TIGHT, voters, &view).unwrap();
    let join = |record: Record, name| {
        record.next(&Change::Join { pod: pod(name), incarnation: Incarnation(1) }).unwrap()
    };
    join(join(first, 0), 1)
}

fn process(place: usize, now: Duration) -> RegisterMember {
    let process = RegisterMember::new(pod(place), Incarnation(1), now).voting(voter(place));
    if place == 2 { process.only_following() } else { process }
}

impl Cluster {
    /// Both pods are writers and hold leases.
    fn new() -> Self {
        let mut store = Store::default();
        store.put(Key::Record, Value::Record(first()));
        let processes = (0..3).map(|place| process(place, Duration::ZERO)).collect();
        let mut cluster = Self {
            now: Duration::ZERO,
            store,
            processes,
            hears_store: [true; 3],
            is_linked: [true; 3],
            said: Vec::new(),
        };
        (0..3).for_each(|place| cluster.looks(place));
        cluster.pass(TTL);
        assert!(cluster.admits(0) && cluster.admits(1));
        cluster
    }

    /// The process hears everything that the store holds.
    fn looks(&mut self, place: usize) {
        let actions = look(&self.store, &mut self.processes[place], self.now);
        self.carry_out(place, actions);
    }

    /// What is due is done, every millisecond, and all that is said is heard at once.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MS;
            for place in 0..3 {
                if self.hears_store[place] {
                    self.looks(place);
                }
                if self.processes[place].deadline() <= self.now {
                    let actions = self.processes[place].tick(self.now);
                    self.carry_out(place, actions);
                }
            }
        }
    }

    fn carry_out(&mut self, place: usize, actions: Vec<RegisterAction>) {
        for action in actions {
            let more = match action {
                RegisterAction::Transact(request, asked) if self.hears_store[place] => {
                    let answer = self.store.transact(request, &asked);
                    self.processes[place].handle(self.now, answer)
                }
                RegisterAction::ToVoter(to, message) => {
                    self.tell_voter(place, to, message);
                    continue;
                }
                RegisterAction::FromVoter(to, message) => {
                    self.tell_member(place, &to, message);
                    continue;
                }
                RegisterAction::Quiesce(record) => {
                    self.processes[place].quiesced(self.now, &record)
                }
                RegisterAction::Transact(..)
                | RegisterAction::Installed(_)
                | RegisterAction::Made { .. }
                | RegisterAction::Dropped { .. } => continue,
            };
            self.carry_out(place, more);
        }
    }

    fn tell_voter(&mut self, from: usize, to: VoterId, message: ToVoter) {
        let pod = self.processes[from].writer().pod.clone();
        let Some(to) = (0..3).find(|place| voter(*place) == to) else { return };
        if from == to || (self.is_linked[from] && self.is_linked[to]) {
            let actions = self.processes[to].asked(self.now, pod, message);
            self.carry_out(to, actions);
        }
    }

    fn tell_member(&mut self, from: usize, to: &PodId, message: FromVoter) {
        self.said.push((from, message.clone()));
        let to = (0..3).find(|place| self.processes[*place].writer().pod == *to);
        let Some(to) = to else { return };
        if from == to || (self.is_linked[from] && self.is_linked[to]) {
            let actions = self.processes[to].hear_voter(self.now, voter(from), message);
            self.carry_out(to, actions);
        }
    }

    /// Whether the pod may write what it owns by the record that it goes by.
    fn admits(&self, place: usize) -> bool {
        let member = &self.processes[place];
        let record = member.record().unwrap();
        let mut slots = (0..8).map(|slot| Resource::Slot(Slot::new(slot)));
        let owned = slots.find(|slot| record.owner(slot).as_ref() == Some(member.writer()));
        owned.is_some_and(|slot| {
            let tag = WriteTag { epoch: record.epoch(), term: record.term(&slot).unwrap() };
            member.admit(self.now, &slot, tag).is_ok()
        })
    }

    fn record(&self) -> Record {
        match self.store.get(&Key::Record) {
            Some(Value::Record(record)) => record.clone(),
            other => panic!("no record: {other:?}"),
        }
    }

    /// An intent is written down, by one who is gone.
    fn somebody_drains_the_first_pod(&mut self) {
        let next = self.record().next(&Change::Drain(pod(0).id)).unwrap();
        let by = Writer { pod: pod(9).id, incarnation: Incarnation(9) };
        self.store.put(Key::Intent, Value::Intent(next, by));
    }

    fn intent(&self) -> Option<Record> {
        match self.store.get(&Key::Intent) {
            Some(Value::Intent(record, _)) => Some(record.clone()),
            _ => None,
        }
    }
}

#[test]
fn writes_go_on_for_as_long_as_the_store_answers_nobody() {
    let mut cluster = Cluster::new();
    cluster.hears_store = [false; 3];
    for _ in 0..20 {
        cluster.pass(TTL);
        assert!(cluster.admits(0) && cluster.admits(1));
    }
    cluster.hears_store = [true; 3];
    cluster.processes[1].wish(Change::Drain(pod(0).id)).unwrap();
    cluster.pass(TTL);
    assert!(!cluster.admits(0) && cluster.admits(1), "a change goes through again");
}

#[test]
fn a_silent_pod_is_replaced_when_its_lease_has_run_out_at_a_majority() {
    let mut cluster = Cluster::new();
    let before = cluster.record().epoch();
    (cluster.hears_store[0], cluster.is_linked[0]) = (false, false);
    while cluster.record().epoch() == before {
        cluster.pass(MS);
        assert!(!cluster.admits(0) || cluster.record().epoch() == before);
        assert!(cluster.now < TTL * 4, "it takes a lease and a little");
    }
    assert!(!cluster.admits(0), "its own lease has ended before");
    assert!(cluster.admits(1));
}

#[test]
fn what_is_taken_from_a_live_pod_by_force_waits_for_the_votes() {
    let mut cluster = Cluster::new();
    // It votes, it renews, and it hears nothing of what the store says.
    cluster.hears_store[0] = false;
    cluster.processes[1].wish(Change::Drain(pod(0).id)).unwrap();
    cluster.pass(MS);
    assert!(cluster.intent().is_some());
    cluster.pass(TTL / 2);
    assert!(cluster.admits(0) && cluster.intent().is_some(), "nobody has voted");
    assert!(!cluster.said.iter().any(|(_, it)| matches!(it, FromVoter::Accepted { .. })));
}

#[test]
fn a_pod_that_is_waited_for_and_does_not_hear_the_store_gives_its_lease_up() {
    let mut cluster = Cluster::new();
    let before = cluster.record().epoch();
    cluster.hears_store[0] = false;
    cluster.processes[1].wish(Change::Drain(pod(0).id)).unwrap();
    cluster.pass(TTL * 5 / 2);
    assert!(cluster.record().epoch() > before, "within the time for which an intent stands");
    assert!(!cluster.admits(0));
}

#[test]
fn who_has_stopped_for_an_intent_and_never_learns_of_its_end_gives_its_lease_up() {
    let mut cluster = Cluster::new();
    cluster.somebody_drains_the_first_pod();
    cluster.looks(0);
    assert!(!cluster.admits(0), "it has stopped");
    cluster.hears_store = [false; 3];
    cluster.pass(TTL * (STOPPED_LEASES - 1));
    assert!(cluster.processes[0].lease_end() > Some(cluster.now));
    cluster.pass(TTL * 2);
    assert!(cluster.processes[0].lease_end() <= Some(cluster.now));
    assert!(cluster.admits(1), "the other has not stopped");
}

#[test]
fn a_voter_that_starts_again_takes_the_intent_in_the_store_for_its_vote() {
    let mut cluster = Cluster::new();
    let record = cluster.record();
    let next = record.next(&Change::Reweight(pod(0).id, hashroute_core::Weight::new(0.5).unwrap()));
    let loser = record.losers(next.as_ref().unwrap()).first().cloned().unwrap();
    let by = Writer { pod: pod(1).id, incarnation: Incarnation(1) };
    cluster.store.put(Key::Intent, Value::Intent(next.unwrap(), by));
    let mut again = process(2, cluster.now);
    look(&cluster.store, &mut again, cluster.now);
    let renewal = ToVoter::Renew {
        epoch: record.epoch(),
        writer: loser.clone(),
        sequence: crate::message::Sequence(1),
    };
    let answers = again.asked(cluster.now, loser.pod, renewal);
    let is_pending = |it: &RegisterAction| {
        let RegisterAction::FromVoter(_, FromVoter::Refused { refusal, .. }) = it else {
            return false;
        };
        matches!(refusal, Refusal::Pending(_))
    };
    assert!(answers.iter().any(is_pending), "{answers:?}");
    let is_vote = |it: &_| matches!(it, RegisterAction::FromVoter(_, FromVoter::Accepted { .. }));
    assert!(!answers.iter().any(is_vote), "it is said when the guards are over");
}

#[test]
fn a_vote_counts_for_its_own_intent_alone() {
    let mut cluster = Cluster::new();
    let epoch = cluster.record().epoch().next().unwrap();
    let member = &mut cluster.processes[1];
    for (by, round) in [(0, 5), (2, 6)] {
        let ballot = Ballot { round, proposer: 0 };
        member.hear_voter(cluster.now, voter(by), FromVoter::Accepted { epoch, ballot });
    }
    let record = member.record().unwrap().clone();
    assert!(
        !member.is_voted_for(&record, Revision(5)) && !member.is_voted_for(&record, Revision(6))
    );
    let ballot = Ballot { round: 6, proposer: 0 };
    member.hear_voter(cluster.now, voter(1), FromVoter::Accepted { epoch, ballot });
    assert!(member.is_voted_for(&record, Revision(6)));
    let stranger = Ballot { round: 7, proposer: 0 };
    for by in [7, 8, 9] {
        let vote = FromVoter::Accepted { epoch, ballot: stranger };
        member.hear_voter(cluster.now, voter(by), vote);
    }
    assert!(!member.is_voted_for(&record, Revision(7)), "they are none of its voters");
}

#[test]
fn votes_are_asked_for_in_the_store_alone() {
    let mut cluster = Cluster::new();
    let record = cluster.record();
    let ballot = Ballot { round: 99, proposer: 0 };
    let next = record.next(&Change::Drain(pod(0).id)).unwrap();
    for message in [
        ToVoter::Prepare { epoch: next.epoch(), ballot, stop: vec![] },
        ToVoter::Accept {
            ballot,
            record: next,
            released: record.writers_in_order().cloned().collect(),
        },
    ] {
        let answers = cluster.processes[2].asked(cluster.now, pod(1).id, message);
        assert_eq!(answers, []);
    }
    assert!(cluster.processes[2].voter().unwrap().state().promised.is_none());
}

#[test]
fn voters_are_replaced_by_votes_although_nobody_loses_a_lease() {
    let mut cluster = Cluster::new();
    let before = cluster.record();
    let new = VoterEntry { id: VoterId(77), address: "host-3:7000".into() };
    cluster.processes[1].wish(Change::ReplaceVoter { old: voter(2), new }).unwrap();
    cluster.is_linked = [false; 3];
    cluster.pass(TTL / 4);
    assert_eq!(cluster.record(), before, "one vote is heard");
    cluster.is_linked = [true; 3];
    cluster.pass(TTL);
    assert!(cluster.record().has_voter(VoterId(77)));
    assert!(cluster.admits(0) && cluster.admits(1));
}

#[test]
fn a_withdrawn_intent_leaves_no_vote_behind() {
    let mut cluster = Cluster::new();
    cluster.somebody_drains_the_first_pod();
    cluster.looks(0);
    cluster.looks(2);
    let accepted =
        |cluster: &Cluster| cluster.processes[2].voter().unwrap().state().accepted.clone();
    assert!(accepted(&cluster).is_some(), "the loser has stopped, so it votes");
    cluster.store.remove(&Key::Intent);
    cluster.pass(TTL);
    assert!(accepted(&cluster).is_none());
    assert!(cluster.admits(0), "who had stopped goes on");
    let changed = RegisterEvent::Changed { entries: vec![] };
    assert_eq!(cluster.processes[2].handle(cluster.now, changed), []);
}

#[test]
fn a_call_to_the_store_brings_what_the_watch_owes() {
    let mut cluster = Cluster::new();
    cluster.somebody_drains_the_first_pod();
    (0..3).for_each(|place| cluster.looks(place));
    let has_voted =
        |cluster: &Cluster| cluster.processes[2].voter().unwrap().state().accepted.is_some();
    assert!(has_voted(&cluster));
    cluster.store.remove(&Key::Intent);
    // From here on its watch says nothing: it is called once to hear of it, once to be sure.
    for _ in 0..2 {
        cluster.now += LeaseParameters::TIGHT.renewal_interval;
        let actions = cluster.processes[2].tick(cluster.now);
        cluster.carry_out(2, actions);
    }
    assert!(!has_voted(&cluster));
}
