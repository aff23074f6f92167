//! Whole clusters in this process: nodes over loopback, each with a directory of its own.
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hashroute_coordination::{Record, Resource, WriteRefusal, WriteTag};
use hashroute_core::{Epoch, Parameters, Pod, PodId, Slot, View};
use hashroute_quorum::{
    Admission, Engine, LeaseSettings, Node, NodeSettings, Operator, OperatorSettings, Priority,
};
use tempfile::TempDir;

pub(crate) const CLUSTER: &str = "desk-7";

/// The default lease: for what happens when one runs out.
pub(crate) const DEFAULT: LeaseSettings = LeaseSettings {
    ttl_us: 300_000,
    renewal_interval_us: 50_000,
    drift_ppm: 1_000,
    margin_us: 10_000,
};

/// One that a busy test machine does not end: for what must happen without its end.
pub(crate) const SLOW: LeaseSettings =
    LeaseSettings { ttl_us: 4_000_000, renewal_interval_us: 200_000, ..DEFAULT };

/// One process of a cluster, and the directory of its disk.
pub(crate) struct Host {
    pub(crate) settings: NodeSettings,
    running: Option<Node>,
    _directory: Option<TempDir>,
}

impl Host {
    /// Starts a process that votes; with a pod, it is a member too.
    pub(crate) fn voter(lease: LeaseSettings, voters: &[&Host], pod: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(lease, &addresses(voters), pod);
        settings.listen = Some("127.0.0.1:0".into());
        settings.data = Some(directory.path().into());
        if settings.voters.is_empty() {
            // The first one knows nobody yet; others will come to it.
            settings.voters = vec!["127.0.0.1:1".into()];
        }
        let mut host = Self { settings, running: None, _directory: Some(directory) };
        host.start();
        // It comes back where it was.
        host.settings.listen = Some(host.address());
        host
    }

    /// Starts a process that only follows, or with a pod, only writes.
    pub(crate) fn without_vote(lease: LeaseSettings, voters: &[&Host], pod: Option<&str>) -> Self {
        let settings = settings(lease, &addresses(voters), pod);
        let mut host = Self { settings, running: None, _directory: None };
        host.start();
        host
    }

    pub(crate) fn start(&mut self) {
        self.running = Some(Node::start(self.settings.clone()).unwrap());
    }

    /// Ends it as a crash would.
    pub(crate) fn crash(&mut self) {
        self.running = None;
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) {
        let node = self.running.take().unwrap();
        assert!(node.stop(Duration::from_secs(10)), "nothing was under way");
    }

    /// Hands the running process over.
    pub(crate) fn take(&mut self) -> Node {
        self.running.take().unwrap()
    }

    pub(crate) fn node(&self) -> &Node {
        self.running.as_ref().unwrap()
    }

    pub(crate) fn address(&self) -> String {
        self.node().address().unwrap().to_owned()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.settings.data.as_deref().unwrap()
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.node().record().map(|record| record.epoch())
    }

    /// Asks the guard for a write that was routed by this process's own record.
    pub(crate) fn admit(&self, resource: &Resource) -> Result<Admission, WriteRefusal> {
        let record = self.node().record().ok_or(WriteRefusal::NoLease)?;
        let epoch = record.epoch();
        let tag = WriteTag { epoch, term: record.term(resource).unwrap_or(epoch) };
        self.node().guard().unwrap().admit(resource, Some(tag))
    }

    /// Whether it admits writes to every slot.
    pub(crate) fn writes_everything(&self) -> bool {
        slots().all(|slot| self.admit(&slot).is_ok())
    }
}

/// Two pods, each with a voter beside it, and a witness; founded.
pub(crate) fn pair_and_witness(lease: LeaseSettings) -> (Host, Host, Host) {
    let witness = Host::voter(lease, &[], None);
    let one = Host::voter(lease, &[&witness], Some("pod-a"));
    let other = Host::voter(lease, &[&witness, &one], Some("pod-b"));
    found(&[&one, &other, &witness]);
    await_shared(&one, &other);
    (one, other, witness)
}

/// Waits until every slot has one of the two pods as its only writer, and both have some.
pub(crate) fn await_shared(one: &Host, other: &Host) {
    wait("both pods write", || {
        let owned: Vec<[bool; 2]> = slots().map(|slot| admitted_by(&slot, one, other)).collect();
        let all = owned.iter().all(|[one, other]| *one || *other);
        all && owned.iter().any(|it| it[0]) && owned.iter().any(|it| it[1])
    });
}

/// Which of the two admits a write; never both.
pub(crate) fn admitted_by(resource: &Resource, one: &Host, other: &Host) -> [bool; 2] {
    let admitted = [one.admit(resource).ok(), other.admit(resource).ok()];
    // Both are under way, so neither can have been released for the other.
    let valid = admitted.iter().flatten().filter(|admission| admission.is_valid()).count();
    assert!(valid < 2, "two writers of {resource:?}");
    admitted.map(|admission| admission.is_some())
}

pub(crate) fn operator(hosts: &[&Host]) -> Operator {
    Operator::new(operator_settings(hosts)).unwrap()
}

pub(crate) fn operator_settings(hosts: &[&Host]) -> OperatorSettings {
    let voters = addresses(hosts);
    let (cluster, timeout) = (CLUSTER.into(), Duration::from_secs(10));
    let tls = hosts[0].settings.tls.clone();
    OperatorSettings { cluster, voters, etcd: None, tls, timeout }
}

pub(crate) fn found(voters: &[&Host]) -> Record {
    let groups = [("gateway".into(), vec![pod("pod-a"), pod("pod-b")])];
    let lease = voters[0].settings.lease.into();
    operator(voters).found(&voters[0].settings.view, lease, &groups).unwrap()
}

pub(crate) fn settings(lease: LeaseSettings, voters: &[String], pod: Option<&str>) -> NodeSettings {
    let pods = ["pod-a", "pod-b"].map(|name| Pod::new(self::pod(name)));
    let parameters = Parameters::new(u64::from(SLOTS), 0.05, 0).unwrap();
    NodeSettings {
        cluster: CLUSTER.into(),
        engine: Engine::Embedded,
        voters: voters.to_vec(),
        listen: None,
        advertise: None,
        data: None,
        pod: pod.map(str::to_owned),
        view: View::new(Epoch::new(1), parameters, pods.to_vec()).unwrap(),
        lease,
        tls: None,
        priority: Priority::Ordinary,
        stale_after: Duration::from_secs(1),
        stall_check: Duration::ZERO,
        force: true,
    }
}

pub(crate) fn addresses(hosts: &[&Host]) -> Vec<String> {
    hosts.iter().map(|host| host.address()).collect()
}

pub(crate) fn pod(name: &str) -> PodId {
    PodId::new(name).unwrap()
}

pub(crate) fn slots() -> impl Iterator<Item = Resource> {
    (0..SLOTS).map(slot)
}

pub(crate) fn slot(number: u32) -> Resource {
    Resource::Slot(Slot::new(number))
}

pub(crate) fn gateway() -> Resource {
    Resource::Group("gateway".into())
}

/// Waits until it is so, for as long as a test may take on a busy machine.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "did not come true: {what}");
        thread::park_timeout(Duration::from_millis(1)); // poll
    }
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const SLOTS: u32 = 256;
