//! A member and a store, by hand, rule by rule. Whole clusters, whatever fails, are the simulator's:
//! `hashroute-simulator --engine etcd`.
use std::collections::BTreeMap;

use hashroute_core::{Parameters, Pod, PodId, Slot, View};

use super::*;
use crate::guard::WriteTag;
use crate::lease::LeaseParameters;
use crate::record::{ClusterId, Incarnation, Resource, VoterEntry, VoterId};

const SLOTS: u32 = 8;

/// What the store holds, and what it did.
#[derive(Default)]
pub(super) struct Store {
    revision: u64,
    keys: BTreeMap<Key, (Revision, Value)>,
}

impl Store {
    fn read(&self, key: &Key) -> Entry {
        let known = self.keys.get(key);
        Entry {
            key: key.clone(),
            revision: known.map_or(Revision(self.revision), |it| it.0),
            value: known.map(|it| it.1.clone()),
        }
    }

    /// Writes a key in a commit of its own.
    pub(super) fn put(&mut self, key: Key, value: Value) {
        self.revision += 1;
        self.keys.insert(key, (Revision(self.revision), value));
    }

    /// Removes a key in a commit of its own.
    pub(super) fn remove(&mut self, key: &Key) {
        self.revision += 1;
        self.keys.remove(key);
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Value> {
        self.keys.get(key).map(|it| &it.1)
    }

    pub(super) fn transact(&mut self, request: Request, asked: &Transaction) -> RegisterEvent {
        let stands = |(key, revision): &(Key, Revision)| {
            self.keys.get(key).map_or(Revision(0), |it| it.0) == *revision
        };
        if !asked.when.iter().all(stands) {
            let entries = asked.otherwise.iter().map(|key| self.read(key)).collect();
            return RegisterEvent::Conflicted { request, entries };
        }
        if !asked.then.is_empty() {
            self.revision += 1;
        }
        let revision = Revision(self.revision);
        for (key, value) in &asked.then {
            match value {
                Some(value) => drop(self.keys.insert(key.clone(), (revision, value.clone()))),
                None => drop(self.keys.remove(key)),
            }
        }
        RegisterEvent::Committed { request, revision }
    }
}

fn first(pods: usize) -> Record {
    let pods = (0..pods).map(|index| Pod::new(PodId::new(&format!("pod-{index}")).unwrap()));
    let parameters = Parameters::new(u64::from(SLOTS), 0.05, 0).unwrap();
    let view = View::new(Epoch::new(1), parameters, pods.collect()).unwrap();
    let voters = vec![VoterEntry { id: VoterId(1), address: "etcd:2379".into() }];
    Record::first(ClusterId(7), LeaseParameters::TIGHT, voters, &view).unwrap()
}

pub(super) const MS: Duration = Duration::from_millis(1);

fn member(name: &str) -> RegisterMember {
    let pod = Pod::new(PodId::new(name).unwrap());
    RegisterMember::new(pod, Incarnation(1), Duration::ZERO)
}

/// A store in which `pod-0` and `pod-1` take part, and their members, who have just looked.
fn two() -> (Store, RegisterMember, RegisterMember) {
    let (mut one, mut other) = (member("pod-0"), member("pod-1"));
    let join = |record: &Record, name: &str| {
        let (pod, incarnation) = (Pod::new(PodId::new(name).unwrap()), Incarnation(1));
        record.next(&Change::Join { pod, incarnation }).unwrap()
    };
    let record = join(&join(&first(2), "pod-0"), "pod-1");
    let mut store = Store { revision: 1, ..Store::default() };
    store.keys.insert(Key::Record, (Revision(1), Value::Record(record)));
    for member in [&mut one, &mut other] {
        look(&store, member, Duration::ZERO);
        exchange(&mut store, member, Duration::ZERO);
    }
    (store, one, other)
}

pub(super) fn look(
    store: &Store,
    member: &mut RegisterMember,
    now: Duration,
) -> Vec<RegisterAction> {
    let revision = Revision(store.revision);
    let entries = store.keys.keys().map(|key| store.read(key)).collect();
    member.handle(now, RegisterEvent::Read { revision, entries })
}

/// What is due goes to the store and is answered at once.
fn exchange(store: &mut Store, member: &mut RegisterMember, now: Duration) -> Vec<RegisterAction> {
    let mut asked = member.tick(now);
    let mut rest = Vec::new();
    while let Some(action) = asked.pop() {
        match action {
            RegisterAction::Transact(request, transaction) => {
                let answer = store.transact(request, &transaction);
                asked.extend(member.handle(now, answer));
            }
            other @ (RegisterAction::ToVoter(..)
            | RegisterAction::FromVoter(..)
            | RegisterAction::Installed(_)
            | RegisterAction::Quiesce(_)
            | RegisterAction::Made { .. }
            | RegisterAction::Dropped { .. }) => rest.push(other),
        }
    }
    rest
}

fn transactions(actions: &[RegisterAction]) -> Vec<(Request, Transaction)> {
    let transactions = actions.iter().filter_map(|action| match action {
        RegisterAction::Transact(request, transaction) => Some((*request, transaction.clone())),
        RegisterAction::ToVoter(..)
        | RegisterAction::FromVoter(..)
        | RegisterAction::Installed(_)
        | RegisterAction::Quiesce(_)
        | RegisterAction::Made { .. }
        | RegisterAction::Dropped { .. } => None,
    });
    transactions.collect()
}

fn mine(member: &RegisterMember) -> Resource {
    let record = member.record().unwrap();
    let slots = (0..SLOTS).map(|slot| Resource::Slot(Slot::new(slot)));
    let mut owned = slots.filter(|slot| record.owner(slot).as_ref() == Some(member.writer()));
    owned.next().unwrap()
}

fn admits(member: &RegisterMember, now: Duration, resource: &Resource) -> bool {
    let record = member.record().unwrap();
    let tag = WriteTag { epoch: record.epoch(), term: record.term(resource).unwrap() };
    member.admit(now, resource, tag).is_ok()
}

#[test]
fn an_intent_that_was_withdrawn_never_becomes_the_record() {
    let (mut store, mut loser, mut author) = two();
    let resource = mine(&loser);
    author.wish(Change::Drain(loser.writer().pod.clone())).unwrap();
    exchange(&mut store, &mut author, MS);
    let stop = look(&store, &mut loser, MS);
    let [RegisterAction::Quiesce(next)] = &stop[..] else { panic!("{stop:?}") };
    for (request, said) in transactions(&loser.quiesced(MS, next)) {
        let answer = store.transact(request, &said);
        loser.handle(MS, answer);
    }
    assert!(!admits(&loser, MS, &resource), "it has stopped");
    // The author commits, and its transaction is very late.
    let late = transactions(&look(&store, &mut author, 2 * MS));
    assert_eq!(late.len(), 1);
    let intent = store.read(&Key::Intent).revision;
    let when = vec![(Key::Intent, intent)];
    let withdraw = Transaction { when, then: vec![(Key::Intent, None)], otherwise: vec![] };
    store.transact(Request(99), &withdraw);
    look(&store, &mut loser, 3 * MS);
    exchange(&mut store, &mut loser, 30 * MS);
    assert!(admits(&loser, 31 * MS, &resource), "it goes on, since the intent is gone for good");
    let answer = store.transact(late[0].0, &late[0].1);
    assert!(matches!(answer, RegisterEvent::Conflicted { .. }), "{answer:?}");
}

#[test]
fn nothing_is_said_to_be_released_before_the_writes_under_way_have_ended() {
    let (mut store, mut loser, mut author) = two();
    author.wish(Change::Drain(loser.writer().pod.clone())).unwrap();
    exchange(&mut store, &mut author, MS);
    let stop = look(&store, &mut loser, MS);
    assert!(matches!(&stop[..], [RegisterAction::Quiesce(_)]));
    exchange(&mut store, &mut loser, 30 * MS);
    let released = Key::Released(loser.writer().clone());
    assert_eq!(store.read(&released).value, None, "its writes are still under way");
    let RegisterAction::Quiesce(next) = &stop[0] else { unreachable!() };
    for (request, said) in transactions(&loser.quiesced(31 * MS, next)) {
        store.transact(request, &said);
    }
    assert!(store.read(&released).value.is_some());
}

#[test]
fn one_that_is_heard_and_hears_nothing_stops_renewing() {
    let (mut store, mut deaf, _) = two();
    let LeaseParameters { ttl, renewal_interval, .. } = LeaseParameters::TIGHT;
    let (mut now, mut renewed_at) = (Duration::ZERO, None);
    while now < ttl {
        now = deaf.deadline().max(now + MS);
        for (request, asked) in transactions(&deaf.tick(now)) {
            let beats = asked.then.iter().any(|(key, _)| matches!(key, Key::Beat(_)));
            renewed_at = if beats { Some(now) } else { renewed_at };
            store.transact(request, &asked);
        }
    }
    assert!(renewed_at.is_some_and(|at| at <= renewal_interval * 2), "{renewed_at:?}");
}

/// The intent at the store, if the store holds one.
fn intent(store: &Store) -> Record {
    match store.read(&Key::Intent).value {
        Some(Value::Intent(record, _)) => record,
        other => panic!("no intent: {other:?}"),
    }
}

fn put(store: &mut Store, key: Key, value: Option<Value>) {
    let asked = Transaction { when: vec![], then: vec![(key, value)], otherwise: vec![] };
    store.transact(Request(99), &asked);
}

fn group() -> Change {
    let candidates = vec![PodId::new("pod-0").unwrap(), PodId::new("pod-1").unwrap()];
    Change::AddGroup { name: "gateway".into(), candidates }
}

/// Found by the simulator: a write that was admitted between two equal intents was still under way
/// when its pod said that it had stopped.
#[test]
fn the_end_of_the_wait_for_an_earlier_intent_says_nothing_of_the_next_one() {
    let (mut store, mut loser, mut author) = two();
    author.wish(Change::Drain(loser.writer().pod.clone())).unwrap();
    exchange(&mut store, &mut author, MS);
    assert!(matches!(&look(&store, &mut loser, MS)[..], [RegisterAction::Quiesce(_)]));
    let next = intent(&store);
    put(&mut store, Key::Intent, None);
    look(&store, &mut loser, 2 * MS);
    let resource = mine(&loser);
    assert!(admits(&loser, 2 * MS, &resource), "this write is under way for long");
    let again = Value::Intent(next.clone(), author.writer().clone());
    put(&mut store, Key::Intent, Some(again));
    assert!(matches!(&look(&store, &mut loser, 3 * MS)[..], [RegisterAction::Quiesce(_)]));
    assert_eq!(loser.quiesced(4 * MS, &next), [], "the writes before the first intent have ended");
    let said = transactions(&loser.quiesced(5 * MS, &next));
    assert_eq!(said.len(), 1, "those before the second have, too");
}

/// Found by the simulator: a member with a wish, or beside a silent one, was due again at once for as
/// long as the store did not answer or an intent stood.
#[test]
fn who_has_done_what_is_due_waits_for_something_to_change() {
    let (mut store, mut one, other) = two();
    one.wish(Change::Drain(other.writer().pod.clone())).unwrap();
    let mut now = MS;
    // The other one hears of nothing: first the intent stands, then that one is silent.
    while now < 400 * MS {
        exchange(&mut store, &mut one, now);
        // What an answer made due is done, too.
        exchange(&mut store, &mut one, now);
        assert!(one.deadline() > now, "it is due again at once at {now:?}");
        now = one.deadline();
    }
    assert!(!one.record().unwrap().names(other.writer()), "the silent one was replaced");
    // Now the store is silent.
    one.wish(group()).unwrap();
    let end = now + 1_000 * MS;
    while now < end {
        one.tick(now);
        assert!(one.deadline() > now, "it is due again at once at {now:?}");
        now = one.deadline();
    }
}

/// Found by the simulator: a change that another had made before it was asked for was reported as
/// made by that record, whatever had been decided since.
#[test]
fn a_change_is_made_by_the_commit_of_whoever_was_asked_for_it() {
    let (mut store, mut one, mut other) = two();
    other.wish(group()).unwrap();
    let made = exchange(&mut store, &mut other, MS);
    assert!(made.iter().any(|it| matches!(it, RegisterAction::Made { .. })), "{made:?}");
    one.wish(group()).unwrap();
    let late = transactions(&one.tick(2 * MS));
    let seen = look(&store, &mut one, 3 * MS);
    assert!(matches!(&seen[0], RegisterAction::Installed(_)));
    let mut told = seen;
    for (request, asked) in late {
        let answer = store.transact(request, &asked);
        told.extend(one.handle(4 * MS, answer));
    }
    told.extend(exchange(&mut store, &mut one, 60 * MS));
    assert!(!told.iter().any(|it| matches!(it, RegisterAction::Made { .. })), "{told:?}");
    let reason = ChangeError::DuplicateGroup { group: "gateway".into() };
    assert!(told.contains(&RegisterAction::Dropped { change: group(), reason }), "{told:?}");
}

/// The watch may be quicker than the answer: that its beat came with the record tells whose it is.
#[test]
fn a_commit_is_known_by_the_beat_that_came_with_it() {
    let (mut store, mut one, _) = two();
    one.wish(group()).unwrap();
    for (request, asked) in transactions(&one.tick(MS)) {
        store.transact(request, &asked);
    }
    let told = look(&store, &mut one, 2 * MS);
    assert!(told.iter().any(|it| matches!(it, RegisterAction::Made { .. })), "{told:?}");
}

/// Found by the simulator: the process of a pod that was removed joined again at once.
#[test]
fn who_was_removed_stays_away_and_says_so_to_whoever_asks_it() {
    let (mut store, mut one, mut other) = two();
    other.wish(Change::Remove(one.writer().pod.clone())).unwrap();
    exchange(&mut store, &mut other, MS);
    look(&store, &mut one, MS);
    for (request, asked) in transactions(&one.quiesced(MS, &intent(&store))) {
        let answer = store.transact(request, &asked);
        one.handle(MS, answer);
    }
    for (request, asked) in transactions(&look(&store, &mut other, 2 * MS)) {
        store.transact(request, &asked);
    }
    look(&store, &mut one, 3 * MS);
    assert!(!one.record().unwrap().names(one.writer()));
    assert!(one.has_ended());
    assert_eq!(one.deadline(), Duration::MAX);
    assert_eq!(exchange(&mut store, &mut one, 500 * MS), []);
    one.wish(group()).unwrap();
    let told = one.tick(501 * MS);
    assert!(matches!(&told[..], [RegisterAction::Dropped { .. }]), "{told:?}");
}

/// Found by the simulator: a process that was stopped before its stalls were measured took part
/// when they were.
#[test]
fn who_has_renounced_does_not_begin() {
    let (store, ..) = two();
    let pod = Pod::new(PodId::new("pod-2").unwrap());
    let mut brief = RegisterMember::following(pod, Incarnation(7), Duration::ZERO);
    look(&store, &mut brief, MS);
    brief.renounce(2 * MS);
    assert_eq!(brief.begin(3 * MS), []);
    assert_eq!(brief.deadline(), Duration::MAX);
}
