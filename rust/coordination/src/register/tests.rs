//! Members around one store, under virtual time: delays, losses, pauses, crashes, clocks that
//! drift by the bound, a watch that lags. At every step every member is asked what it would admit.
use std::collections::BTreeMap;

use hashroute_core::{Parameters, Pod, PodId, Slot, View};

use super::*;
use crate::guard::WriteTag;
use crate::lease::LeaseParameters;
use crate::record::{ClusterId, Incarnation, Resource, VoterEntry, VoterId};

const SLOTS: u32 = 8;

/// A stream of random numbers: SplitMix64.
struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    fn micros(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.below(most + 1))
    }
}

/// What the store holds, and what it did.
#[derive(Default)]
struct Store {
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

    fn transact(&mut self, request: Request, asked: &Transaction) -> (RegisterEvent, Vec<Entry>) {
        let stands = |(key, revision): &(Key, Revision)| {
            self.keys.get(key).map_or(Revision(0), |it| it.0) == *revision
        };
        if !asked.when.iter().all(stands) {
            let entries = asked.otherwise.iter().map(|key| self.read(key)).collect();
            return (RegisterEvent::Conflicted { request, entries }, Vec::new());
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
        let changed = asked.then.iter().map(|(key, value)| {
            let (key, value) = (key.clone(), value.clone());
            Entry { key, revision, value }
        });
        (RegisterEvent::Committed { request, revision }, changed.collect())
    }

    fn record(&self) -> &Record {
        match &self.keys[&Key::Record].1 {
            Value::Record(record) => record,
            Value::Intent(..) | Value::Alive | Value::Renounced | Value::Released(_) => {
                panic!("something else where the record belongs")
            }
        }
    }
}

struct Process {
    pod: Pod,
    member: Option<RegisterMember>,
    boot: u64,
    fast_ppm: i64,
    paused_until: Duration,
    /// Cut off from the store until then, in the directions that the flags say.
    cut_until: Duration,
    cut: (bool, bool),
    /// The watch is in order, however late.
    watch_at: Duration,
    /// Only the wake-up asked for last counts.
    wakes: u64,
}

enum Event {
    Tick(usize, u64, u64),
    Arrives(usize, u64, Request, Transaction),
    Told(usize, u64, RegisterEvent),
    Quiesced(usize, u64, Record),
    Looks(usize, u64),
}

struct World {
    dice: Dice,
    now: Duration,
    count: u64,
    queue: BTreeMap<(Duration, u64), Event>,
    store: Store,
    processes: Vec<Process>,
    faults: bool,
    most: u64,
    /// The record of every epoch that was the store's.
    history: Vec<Record>,
    made: u64,
}

fn first(pods: usize) -> Record {
    let pods = (0..pods).map(|index| Pod::new(PodId::new(&format!("pod-{index}")).unwrap()));
    let parameters = Parameters::new(u64::from(SLOTS), 0.05, 0).unwrap();
    let view = View::new(Epoch::new(1), parameters, pods.collect()).unwrap();
    let voters = vec![VoterEntry { id: VoterId(1), address: "etcd:2379".into() }];
    Record::first(ClusterId(7), LeaseParameters::TIGHT, voters, &view).unwrap()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let pods = 2 + usize::try_from(dice.below(3)).unwrap();
        let record = first(pods);
        let mut store = Store { revision: 1, ..Store::default() };
        let value = Value::Record(record.clone());
        store.keys.insert(Key::Record, (Revision(1), value));
        let processes = record.view().pods().iter().map(|pod| Process {
            pod: pod.clone(),
            member: None,
            boot: 0,
            fast_ppm: i64::try_from(dice.below(2001)).unwrap() - 1000,
            paused_until: Duration::ZERO,
            cut_until: Duration::ZERO,
            cut: (false, false),
            watch_at: Duration::ZERO,
            wakes: 0,
        });
        let processes = processes.collect();
        let most = [500, 5_000, 30_000][usize::try_from(dice.below(3)).unwrap()];
        let mut world = Self {
            dice,
            now: Duration::ZERO,
            count: 0,
            queue: BTreeMap::new(),
            store,
            processes,
            faults: true,
            most,
            history: vec![record],
            made: 0,
        };
        for place in 0..pods {
            world.start(place);
        }
        world
    }

    fn local(&self, place: usize) -> Duration {
        let ppm = u128::from((1_000_000 + self.processes[place].fast_ppm).unsigned_abs());
        Duration::from_nanos(u64::try_from(self.now.as_nanos() * ppm / 1_000_000).unwrap())
    }

    fn push(&mut self, wait: Duration, event: Event) {
        self.count += 1;
        self.queue.insert((self.now + wait, self.count), event);
    }

    fn start(&mut self, place: usize) {
        let now = self.local(place);
        let incarnation = Incarnation(self.dice.word());
        let process = &mut self.processes[place];
        process.boot += 1;
        process.member = Some(RegisterMember::new(process.pod.clone(), incarnation, now));
        let boot = process.boot;
        let wait = self.dice.micros(self.most);
        self.push(wait, Event::Looks(place, boot));
    }

    fn act(
        &mut self,
        place: usize,
        boot: u64,
        act: impl FnOnce(&mut RegisterMember, Duration) -> Vec<RegisterAction>,
    ) {
        let now = self.local(place);
        let process = &mut self.processes[place];
        if process.boot != boot {
            return;
        }
        let Some(member) = &mut process.member else { return };
        for action in act(member, now) {
            match action {
                RegisterAction::Transact(request, transaction) => {
                    let mut wait = self.dice.micros(self.most);
                    if self.faults && self.dice.below(30) == 0 {
                        wait += self.dice.micros(1_000_000);
                    }
                    let lost = self.faults && (self.dice.below(50) == 0 || self.is_cut(place).0);
                    if !lost {
                        self.push(wait, Event::Arrives(place, boot, request, transaction));
                    }
                }
                RegisterAction::Quiesce(record) => {
                    let wait = self.dice.micros(self.most);
                    self.push(wait, Event::Quiesced(place, boot, record));
                }
                RegisterAction::Made { .. } => self.made += 1,
                RegisterAction::Installed(_) | RegisterAction::Dropped { .. } => {}
            }
        }
        let Some(member) = &self.processes[place].member else { return };
        let wait = member.deadline().saturating_sub(now);
        if member.deadline() < Duration::MAX {
            let late = self.dice.micros(300);
            self.processes[place].wakes += 1;
            let wake = self.processes[place].wakes;
            self.push(wait + wait / 500 + late, Event::Tick(place, boot, wake));
        }
    }

    fn is_cut(&self, place: usize) -> (bool, bool) {
        let process = &self.processes[place];
        if self.now < process.cut_until { process.cut } else { (false, false) }
    }

    fn step(&mut self) {
        let Some(((at, count), event)) = self.queue.pop_first() else { return };
        self.now = at;
        let (Event::Tick(place, ..)
        | Event::Arrives(place, ..)
        | Event::Told(place, ..)
        | Event::Quiesced(place, ..)
        | Event::Looks(place, _)) = &event;
        let resumes = self.processes[*place].paused_until;
        if at < resumes && !matches!(event, Event::Arrives(..)) {
            self.queue.insert((resumes, count), event);
            return;
        }
        match event {
            Event::Tick(place, boot, wake) if wake == self.processes[place].wakes => {
                self.act(place, boot, RegisterMember::tick);
            }
            Event::Tick(..) => return,
            Event::Arrives(place, boot, request, transaction) => {
                let (answer, changed) = self.store.transact(request, &transaction);
                if !changed.is_empty() {
                    self.tell_watchers(&changed);
                }
                let wait = self.dice.micros(self.most);
                if !(self.faults && (self.dice.below(50) == 0 || self.is_cut(place).1)) {
                    self.push(wait, Event::Told(place, boot, answer));
                }
            }
            Event::Told(place, boot, told) => {
                self.act(place, boot, |member, now| member.handle(now, told));
            }
            Event::Quiesced(place, boot, record) => {
                self.act(place, boot, |member, now| member.quiesced(now, &record));
            }
            Event::Looks(place, boot) => {
                let revision = Revision(self.store.revision);
                let entries = self.store.keys.keys().map(|key| self.store.read(key)).collect();
                let read = RegisterEvent::Read { revision, entries };
                self.act(place, boot, |member, now| member.handle(now, read));
            }
        }
        self.check();
    }

    fn tell_watchers(&mut self, changed: &[Entry]) {
        if let Some(Value::Record(record)) = changed
            .iter()
            .find_map(|entry| entry.value.as_ref().filter(|_| entry.key == Key::Record))
        {
            let before = self.history.last().unwrap();
            record.check_follows(before).expect("a record that follows the one before");
            self.history.push(record.clone());
        }
        for place in 0..self.processes.len() {
            let lag = self.dice.micros(self.most * 3);
            let process = &mut self.processes[place];
            process.watch_at = process.watch_at.max(self.now + lag);
            let (boot, wait) = (process.boot, process.watch_at - self.now);
            if self.faults && (self.is_cut(place).1 || self.dice.below(40) == 0) {
                // Lost: the shell finds out later, and reads everything again.
                let wait = wait + self.dice.micros(200_000);
                self.push(wait, Event::Looks(place, boot));
            } else {
                let entries = changed.to_vec();
                self.push(wait, Event::Told(place, boot, RegisterEvent::Changed { entries }));
            }
        }
    }

    fn admits(&self, place: usize, resource: &Resource) -> bool {
        let Some(member) = &self.processes[place].member else { return false };
        let Some(record) = member.record() else { return false };
        let Some(term) = record.term(resource) else { return false };
        let tag = WriteTag { epoch: record.epoch(), term };
        member.admit(self.local(place), resource, tag).is_ok()
    }

    /// One writer; and none that the store's record has replaced.
    fn check(&self) {
        for slot in 0..SLOTS {
            let resource = Resource::Slot(Slot::new(slot));
            let owner = self.store.record().owner(&resource);
            for place in (0..self.processes.len()).filter(|it| self.admits(*it, &resource)) {
                let member = self.processes[place].member.as_ref().unwrap();
                assert_eq!(
                    Some(member.writer()),
                    owner.as_ref(),
                    "at {:?} slot {slot} is written by one that does not own it: {:?} {:#?}",
                    self.now,
                    self.store.record(),
                    member
                );
            }
        }
    }

    fn break_something(&mut self) {
        let place = usize::try_from(self.dice.below(self.processes.len() as u64)).unwrap();
        let span = Duration::from_millis(1 + self.dice.below(400));
        let kind = self.dice.below(8);
        let process = &mut self.processes[place];
        match kind {
            0 => process.member = None,
            1 if process.member.is_none() => self.start(place),
            2 => process.paused_until = self.now + span,
            3 | 4 => {
                process.cut_until = self.now + span;
                process.cut = [(true, true), (true, false), (false, true)]
                    [usize::try_from(self.dice.below(3)).unwrap()];
            }
            5 => {
                let now = self.local(place);
                let boot = self.processes[place].boot;
                self.act(place, boot, |member, _| member.renounce(now));
                self.processes[place].member = None;
            }
            _ => {
                let other = usize::from(self.dice.below(2) == 1);
                let pod = self.processes[other].pod.id.clone();
                let weight = hashroute_core::Weight::new([1.0, 2.0, 3.0, 4.0][place % 4]).unwrap();
                let change = match self.dice.below(3) {
                    0 => Change::Drain(pod),
                    _ => Change::Reweight(pod, weight),
                };
                let boot = self.processes[place].boot;
                self.act(place, boot, |member, _| {
                    let _full = member.wish(change);
                    Vec::new()
                });
            }
        }
    }

    fn run(&mut self, seed: u64) {
        let mut next_fault = Duration::from_millis(50);
        let end = Duration::from_secs(4);
        while self.now < end {
            if self.now >= next_fault {
                self.break_something();
                next_fault = self.now + Duration::from_millis(5 + self.dice.below(300));
            }
            if self.queue.is_empty() {
                // Everybody is dead.
                self.now = next_fault;
            }
            self.step();
        }
        self.faults = false;
        for place in 0..self.processes.len() {
            self.processes[place].cut_until = Duration::ZERO;
            self.processes[place].paused_until = Duration::ZERO;
            // A new process of each: drained ones own nothing for the rest of their lives.
            self.start(place);
        }
        let (ttl, most) = (LeaseParameters::TIGHT.ttl, Duration::from_micros(self.most));
        let bound = self.now + ttl * 8 + most * 60 + Duration::from_millis(500);
        while self.now < bound {
            self.step();
        }
        for slot in 0..SLOTS {
            let resource = Resource::Slot(Slot::new(slot));
            let writers = (0..self.processes.len()).filter(|it| self.admits(*it, &resource));
            assert_eq!(writers.count(), 1, "seed {seed}: slot {slot} has no writer again");
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "REGISTER_SEEDS asks for more than the usual trials")]
fn one_writer_whatever_fails_and_one_again_when_it_heals() {
    let seeds = std::env::var("REGISTER_SEEDS").map_or(150, |it| it.parse().unwrap());
    let first: u64 = std::env::var("REGISTER_SEED").map_or(0, |it| it.parse().unwrap());
    let mut made = 0;
    for seed in first..first + seeds {
        let mut world = World::new(seed);
        world.run(seed);
        made += world.made;
    }
    assert!(seeds < 100 || made > seeds / 4, "changes come true: {made}");
}

// ---- by hand: what schedules meet too rarely

const MS: Duration = Duration::from_millis(1);

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

fn look(store: &Store, member: &mut RegisterMember, now: Duration) -> Vec<RegisterAction> {
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
                let (answer, _) = store.transact(request, &transaction);
                asked.extend(member.handle(now, answer));
            }
            other @ (RegisterAction::Installed(_)
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
        RegisterAction::Installed(_)
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
        let (answer, _) = store.transact(request, &said);
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
    let (answer, _) = store.transact(late[0].0, &late[0].1);
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
    let window = LeaseParameters::TIGHT.holder_window();
    let mut now = Duration::ZERO;
    while now < window * 2 {
        now = deaf.deadline().max(now + MS);
        for (request, asked) in transactions(&deaf.tick(now)) {
            let beats = asked.then.iter().any(|(key, _)| matches!(key, Key::Beat(_)));
            assert!(!beats || now <= window * 2 / 2 + 30 * MS, "it still renews at {now:?}");
            store.transact(request, &asked);
        }
    }
}
