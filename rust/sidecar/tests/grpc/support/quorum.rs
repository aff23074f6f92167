//! A quorum that says what the test says.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hashroute_coordination::{
    Change, ClusterId, Group, Incarnation, LeaseParameters, Record, RecordFields, Resource,
    VoterEntry, VoterId, WriteRefusal, WriteTag, Writer,
};
use hashroute_core::{
    Addresses, Epoch, Parameters, Pod as CorePod, PodId, Ring, Slot, View, hash_key,
};
use hashroute_quorum::NodeSnapshot;
use hashroute_sidecar::{Admitted, Quorum, WriteGuard};
use tokio::sync::watch;

/// What a sidecar hears of the quorum, and what its pod's guard decides.
#[derive(Debug)]
pub(crate) struct FakeQuorum {
    records: watch::Sender<Option<Record>>,
    is_stale: AtomicBool,
    pub(crate) guard: Arc<FakeGuard>,
}

/// A guard that decides as it is told.
#[derive(Debug)]
pub(crate) struct FakeGuard {
    verdict: Mutex<Result<(u64, u64), WriteRefusal>>,
    /// What it was asked.
    asked: Mutex<Vec<(Resource, Option<WriteTag>)>>,
    under_way: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct FakeAdmission {
    term: u64,
    epoch: u64,
    under_way: Arc<AtomicUsize>,
}

impl FakeQuorum {
    /// One without a record.
    pub(crate) fn new() -> Arc<Self> {
        let guard = FakeGuard {
            verdict: Mutex::new(Ok((7, 5))),
            asked: Mutex::default(),
            under_way: Arc::default(),
        };
        Arc::new(Self {
            records: watch::Sender::new(None),
            is_stale: AtomicBool::new(false),
            guard: Arc::new(guard),
        })
    }

    /// One whose record has these pods, called `pod-0`, `pod-1` and so on, each with a process, and
    /// a group `desk` that the first of them leads.
    pub(crate) fn of(addresses: &[&str]) -> Arc<Self> {
        let quorum = Self::new();
        quorum.install(record(addresses));
        quorum
    }

    /// From now on this record counts.
    pub(crate) fn install(&self, record: Record) {
        self.records.send_replace(Some(record));
    }

    /// From now on the record counts in which this was changed.
    pub(crate) fn change(&self, change: &Change) {
        self.install(self.record().next(change).expect("a change that can be made"));
    }

    /// The process of the pod is gone.
    pub(crate) fn fail(&self, pod: &str) {
        self.change(&Change::Fail(writer(pod)));
    }

    /// The pod gives up in good order what it owns.
    pub(crate) fn drain(&self, pod: &str) {
        self.change(&Change::Drain(id(pod)));
    }

    pub(crate) fn record(&self) -> Record {
        self.records.borrow().clone().expect("a record")
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.record().epoch().get()
    }

    pub(crate) fn set_stale(&self, is_stale: bool) {
        self.is_stale.store(is_stale, Ordering::Relaxed);
    }

    /// A key that `pod` owns by the record.
    pub(crate) fn key_of(&self, pod: &str) -> String {
        let record = self.record();
        let ring = record.ring().expect("a ring");
        let index = ring.view().index_of(pod).expect("a pod of the record");
        (0..)
            .map(|number| format!("key-{number}"))
            .find(|key| ring.owner_of_key(key.as_bytes()) == index)
            .expect("every pod owns slots")
    }

    /// The slot of a key.
    pub(crate) fn slot_of(&self, key: &str) -> Slot {
        ring(&self.record()).slot_of_hash(hash_key(key.as_bytes()))
    }

    /// The term of the slot of a key.
    pub(crate) fn term_of(&self, key: &str) -> u64 {
        let resource = Resource::Slot(self.slot_of(key));
        self.record().term(&resource).expect("a slot of the view").get()
    }
}

impl Quorum for FakeQuorum {
    fn records(&self) -> watch::Receiver<Option<Record>> {
        self.records.subscribe()
    }

    fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
    }

    fn guard(&self) -> Option<Arc<dyn WriteGuard>> {
        Some(Arc::clone(&self.guard) as _)
    }

    fn snapshot(&self) -> NodeSnapshot {
        let epoch = self.records.borrow().as_ref().map_or(0, |record| record.epoch().get());
        NodeSnapshot { epoch, ..NodeSnapshot::default() }
    }
}

impl FakeGuard {
    /// Admits from now on, under this epoch and this term.
    pub(crate) fn admit_under(&self, epoch: u64, term: u64) {
        *self.verdict.lock().expect("a lock") = Ok((epoch, term));
    }

    /// Refuses from now on.
    pub(crate) fn refuse(&self, refusal: WriteRefusal) {
        *self.verdict.lock().expect("a lock") = Err(refusal);
    }

    /// What it was asked.
    pub(crate) fn asked(&self) -> Vec<(Resource, Option<WriteTag>)> {
        self.asked.lock().expect("a lock").clone()
    }

    /// How many writes are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }
}

impl WriteGuard for FakeGuard {
    fn admit(
        &self,
        resource: &Resource,
        tag: Option<WriteTag>,
    ) -> Result<Box<dyn Admitted>, WriteRefusal> {
        self.asked.lock().expect("a lock").push((resource.clone(), tag));
        let (epoch, term) = self.verdict.lock().expect("a lock").clone()?;
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(FakeAdmission { term, epoch, under_way: Arc::clone(&self.under_way) }))
    }
}

impl Admitted for FakeAdmission {
    fn term(&self) -> Epoch {
        Epoch::new(self.term)
    }

    fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch)
    }
}

impl Drop for FakeAdmission {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The first process of a pod.
pub(crate) fn writer(pod: &str) -> Writer {
    Writer { pod: id(pod), incarnation: Incarnation(1) }
}

pub(crate) fn id(pod: &str) -> PodId {
    PodId::new(pod).expect("an id")
}

fn record(addresses: &[&str]) -> Record {
    let pods = addresses.iter().enumerate().map(|(number, address)| {
        let address = Some((*address).to_owned());
        let is_zmq = address.as_ref().is_some_and(|address| address.starts_with("tcp://"));
        let (grpc, zmq) = if is_zmq { (None, address) } else { (address, None) };
        CorePod { addresses: Addresses { grpc, zmq }, ..CorePod::new(id(&format!("pod-{number}"))) }
    });
    let pods: Vec<CorePod> = pods.collect();
    let writers = pods.iter().map(|pod| (pod.id.clone(), Incarnation(1)));
    let writers: BTreeMap<PodId, Incarnation> = writers.collect();
    let group = Group {
        name: "desk".into(),
        candidates: pods.iter().map(|pod| pod.id.clone()).collect(),
        leader: pods.first().map(|pod| pod.id.clone()),
        term: Epoch::new(3),
    };
    let parameters = Parameters::new(u64::from(SLOTS), 0.05, 0).expect("parameters");
    let view = View::new(Epoch::new(10), parameters, pods).expect("a view");
    let voters = vec![VoterEntry { id: VoterId(1), address: "127.0.0.1:1".to_owned() }];
    // Each slot has a term of its own, so that one cannot be taken for another.
    let terms = (0..u64::from(SLOTS)).map(|slot| 1 + slot % 9).collect();
    let (cluster, parameters, groups) = (ClusterId(1), LeaseParameters::DEFAULT, vec![group]);
    let fields = RecordFields { cluster, parameters, voters, view, writers, groups, terms };
    Record::restore(fields, None).expect("a record")
}

fn ring(record: &Record) -> Ring {
    record.ring().expect("a ring").clone()
}

const SLOTS: u32 = 1024;
