//! Nodes around a real etcd cluster of three members: Debian's `etcd-server`.
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hashroute_coordination::{
    ClusterId, Key, Record, RegisterEvent, Resource, VoterEntry, VoterId, WriteRefusal,
};
use hashroute_core::{Epoch, Parameters, Pod, PodId, Slot, View};
use tempfile::TempDir;

use super::EtcdOperator;
use super::client::{Client, News, Patience};
use super::keys::Keys;
use super::proto::WatchResponse;
use crate::proto::record_change::Change as Wanted;
use crate::proto::{DrainMember, RecordChange};
use crate::settings::{Engine, LeaseSettings, NodeSettings, Priority};
use crate::{Node, transport};

const CLUSTER: &str = "desk-7";
const SLOTS: u32 = 16;

/// Longer than an election of these members takes, on a busy machine too.
const LEASE: LeaseSettings = LeaseSettings {
    ttl_us: 1_000_000,
    renewal_interval_us: 100_000,
    drift_ppm: 1_000,
    margin_us: 10_000,
};

/// Three members of etcd.
struct Etcd {
    members: Vec<Child>,
    endpoints: Vec<String>,
    _directory: TempDir,
}

impl Etcd {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = {
            // Held until all are known, so that they differ.
            let held: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            held.iter().map(|it| it.local_addr().unwrap().port()).collect()
        };
        let (clients, peers) = ports.split_at(3);
        let cluster: Vec<String> =
            peers.iter().enumerate().map(|(n, it)| format!("e{n}=http://127.0.0.1:{it}")).collect();
        let members = (0..3).map(|number| {
            let client = format!("http://127.0.0.1:{}", clients[number]);
            let peer = format!("http://127.0.0.1:{}", peers[number]);
            Command::new("etcd")
                .args(["--name", &format!("e{number}")])
                .args(["--data-dir", &directory.path().join(number.to_string()).to_string_lossy()])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &cluster.join(","), "--initial-cluster-token", "test"])
                .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
                .args(["--log-level", "error", "--logger", "zap"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("etcd is installed: apt-get install etcd-server")
        });
        let members = members.collect();
        let endpoints = clients.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Self { members, endpoints, _directory: directory }
    }

    fn signal(&self, member: usize, signal: &str) {
        let pid = self.members[member].id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    fn operator(&self) -> EtcdOperator {
        let timeout = Duration::from_secs(20);
        EtcdOperator::new(&self.endpoints, None, "/hashroute", CLUSTER, timeout).unwrap()
    }

    fn node(&self, pod: Option<&str>) -> Node {
        Node::start(NodeSettings {
            cluster: CLUSTER.into(),
            engine: Engine::Etcd { endpoints: self.endpoints.clone(), prefix: "/hashroute".into() },
            voters: Vec::new(),
            listen: None,
            advertise: None,
            data: None,
            pod: pod.map(str::to_owned),
            view: view(),
            lease: LEASE,
            tls: None,
            priority: Priority::Ordinary,
            stale_after: Duration::from_secs(3),
            stall_check: Duration::ZERO,
            force: true,
        })
        .unwrap()
    }

    /// Founds the cluster; waits for etcd.
    fn found(&self) {
        wait("etcd takes the first record", || {
            block(async { self.operator().found(&first()).await }).is_ok()
        });
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn view() -> View {
    let pods = ["pod-a", "pod-b"].map(|name| Pod::new(PodId::new(name).unwrap()));
    let parameters = Parameters::new(u64::from(SLOTS), 0.05, 0).unwrap();
    View::new(Epoch::new(1), parameters, pods.to_vec()).unwrap()
}

fn first() -> Record {
    let voters = vec![VoterEntry { id: VoterId(1), address: "etcd".into() }];
    Record::first(ClusterId(7), LEASE.into(), voters, &view()).unwrap()
}

fn slots() -> impl Iterator<Item = Resource> {
    (0..SLOTS).map(|slot| Resource::Slot(Slot::new(slot)))
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(40);
    while !is_so() {
        assert!(Instant::now() < until, "did not come true: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

/// How many of the slots the node admits writes to.
fn admitted(node: &Node) -> usize {
    let guard = node.guard().unwrap();
    slots().filter(|slot| guard.admit(slot, None).is_ok()).count()
}

/// Two pods that share all slots between them.
fn pair(etcd: &Etcd) -> (Node, Node) {
    etcd.found();
    let (one, other) = (etcd.node(Some("pod-a")), etcd.node(Some("pod-b")));
    wait("both pods write", || {
        let (one, other) = (admitted(&one), admitted(&other));
        one > 0 && other > 0 && one + other == SLOTS as usize
    });
    (one, other)
}

#[test]
fn a_pod_that_dies_is_replaced_and_its_terms_are_older() {
    let etcd = Etcd::start();
    let (one, other) = pair(&etcd);
    let router = etcd.node(None);
    let record = one.record().unwrap();
    let lost = slots().find(|slot| record.owner(slot).unwrap().pod.as_str() == "pod-a").unwrap();
    let before = record.term(&lost).unwrap();
    drop(one);
    wait("the other one writes everything", || admitted(&other) == SLOTS as usize);
    let admission = other.guard().unwrap().admit(&lost, None).unwrap();
    assert!(admission.term() > before);
    wait("a router follows", || router.record().is_some_and(|it| it.term(&lost) > Some(before)));
    assert!(!router.is_stale());
}

#[test]
fn a_drain_and_a_stop_hand_over_without_a_lease_running_out() {
    let etcd = Etcd::start();
    let (one, other) = pair(&etcd);
    let guard = one.guard().unwrap();
    let mine = slots().find(|slot| guard.admit(slot, None).is_ok()).unwrap();
    let under_way = guard.admit(&mine, None).unwrap();
    let drained = thread::spawn(move || (one.drain(Duration::from_secs(20)), one));
    wait("nothing new is admitted", || guard.admit(&mine, None).is_err());
    assert!(under_way.is_valid(), "what is under way may end");
    assert!(other.guard().unwrap().admit(&mine, None).is_err(), "and nobody else begins");
    drop(under_way);
    let (epoch, one) = drained.join().unwrap();
    assert!(epoch.unwrap() > Epoch::new(3));
    wait("the other one writes everything", || admitted(&other) == SLOTS as usize);
    assert!(one.stop(Duration::from_secs(5)));
}

#[test]
fn an_operator_s_wish_is_made_by_a_member() {
    let etcd = Etcd::start();
    let (one, other) = pair(&etcd);
    let drain = Wanted::Drain(DrainMember { pod: "pod-a".into() });
    let epoch =
        block(async { etcd.operator().change(7, RecordChange { change: Some(drain) }).await });
    wait("the record has it", || one.record().map(|it| it.epoch()) >= epoch.clone().ok());
    wait("the other one writes everything", || admitted(&other) == SLOTS as usize);
    let unknown = Wanted::Drain(DrainMember { pod: "pod-z".into() });
    let refused =
        block(async { etcd.operator().change(8, RecordChange { change: Some(unknown) }).await });
    assert_eq!(refused.unwrap_err().code(), "unknown_pod");
}

#[test]
fn members_of_etcd_that_stall_or_die_stop_nobody_for_good() {
    let etcd = Etcd::start();
    let (one, other) = pair(&etcd);
    for member in 0..3 {
        // The leader is among them.
        etcd.signal(member, "-STOP");
        wait("both pods write without that member", || {
            admitted(&one) + admitted(&other) == SLOTS as usize
        });
        etcd.signal(member, "-CONT");
    }
    etcd.signal(0, "-STOP");
    etcd.signal(1, "-STOP");
    wait("without a majority nobody writes", || admitted(&one) + admitted(&other) == 0);
    let refused = one.guard().unwrap().admit(&Resource::Slot(Slot::new(0)), None).unwrap_err();
    assert!(matches!(refused, WriteRefusal::NoLease | WriteRefusal::NotOwner { .. }));
    wait("and they say that what they know is old", || one.is_stale() && other.is_stale());
    etcd.signal(0, "-CONT");
    etcd.signal(1, "-CONT");
    wait("with it, everything is written again", || {
        admitted(&one) + admitted(&other) == SLOTS as usize
    });
}

#[test]
fn a_watch_that_was_compacted_away_begins_again_with_a_look() {
    let (news, mut told) = tokio::sync::mpsc::channel(64);
    let etcd = Etcd::start();
    etcd.found();
    let endpoint = transport::endpoint(&etcd.endpoints[0], None).unwrap();
    let endpoints = vec![(etcd.endpoints[0].clone(), endpoint)];
    let keys = Keys::new("/hashroute", CLUSTER);
    block(async {
        let patience = Patience { late: Duration::from_secs(1), most: Duration::from_secs(5) };
        let client = Client::new(endpoints, keys, patience, news);
        let compacted = WatchResponse { canceled: true, compact_revision: 9, ..Default::default() };
        let why = client.changed(0, compacted).await.unwrap_err();
        assert!(why.contains("compacted away at 9"), "{why}");
        tokio::task::LocalSet::new()
            .run_until(async {
                tokio::task::spawn_local(std::rc::Rc::new(client).follow());
                loop {
                    if let News::Told(RegisterEvent::Read { entries, .. }) =
                        told.recv().await.unwrap()
                    {
                        break assert!(entries.iter().any(|entry| entry.key == Key::Record));
                    }
                }
            })
            .await;
    });
}
