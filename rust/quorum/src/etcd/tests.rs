//! Nodes around a real etcd cluster of three members: Debian's `etcd-server`.
mod voters;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hashroute_coordination::{
    ClusterId, Key, Record, RegisterEvent, Request, Resource, Revision, Transaction, Value,
    VoterEntry, VoterId, WriteRefusal,
};
use hashroute_core::{Epoch, Parameters, Pod, PodId, Slot, View};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

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

/// Three members of etcd, and the lease of the cluster in it.
struct Etcd {
    lease: LeaseSettings,
    members: Vec<Child>,
    endpoints: Vec<String>,
    _directory: TempDir,
}

impl Etcd {
    fn start() -> Self {
        Self::with(LEASE)
    }

    fn with(lease: LeaseSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = std::iter::repeat_with(port).take(6).collect();
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
        Self { lease, members, endpoints, _directory: directory }
    }

    /// The member that leads, by its own word.
    fn leader(&self) -> usize {
        let leads = |endpoint: &String| {
            let mut page = String::new();
            let mut stream = TcpStream::connect(endpoint).ok()?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
            stream.read_to_string(&mut page).ok()?;
            page.contains("\netcd_server_is_leader 1").then_some(())
        };
        let mut leader = None;
        wait("etcd has a leader", || {
            leader = self.endpoints.iter().position(|it| leads(it).is_some());
            leader.is_some()
        });
        leader.unwrap()
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
        Node::start(self.settings(pod)).unwrap()
    }

    fn settings(&self, pod: Option<&str>) -> NodeSettings {
        let endpoints = self.endpoints.clone();
        NodeSettings {
            engine: Engine::Etcd { endpoints, prefix: "/hashroute".into() },
            pod: pod.map(str::to_owned),
            lease: self.lease,
            ..settings_anywhere()
        }
    }

    /// Founds the cluster; waits for etcd.
    fn found(&self) {
        wait("etcd takes the first record", || {
            block(async { self.operator().found(&first(self.lease)).await }).is_ok()
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

/// A port that no other test of this process was given, and that the system does not give out by
/// itself before etcd takes it: or two tests would find themselves on one etcd.
fn port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 1_000).unwrap() * 20;
    loop {
        let port = 10_000 + (own + GIVEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
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

fn first(lease: LeaseSettings) -> Record {
    let voters = vec![VoterEntry { id: VoterId(1), address: "etcd".into() }];
    Record::first(ClusterId(7), lease.into(), voters, &view()).unwrap()
}

/// Settings of a process that reaches nobody.
fn settings_anywhere() -> NodeSettings {
    NodeSettings {
        cluster: CLUSTER.into(),
        engine: Engine::Etcd { endpoints: Vec::new(), prefix: "/hashroute".into() },
        voters: Vec::new(),
        listen: None,
        advertise: None,
        data: None,
        pod: None,
        view: view(),
        lease: LEASE,
        tls: None,
        priority: Priority::Ordinary,
        stale_after: Duration::from_secs(3),
        stall_check: Duration::ZERO,
        force: true,
    }
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
    let epoch = block(async {
        etcd.operator().change(7, RecordChange { change: Some(drain) }, || false).await
    });
    wait("the record has it", || one.record().map(|it| it.epoch()) >= epoch.clone().ok());
    wait("the other one writes everything", || admitted(&other) == SLOTS as usize);
    let unknown = Wanted::Drain(DrainMember { pod: "pod-z".into() });
    let refused = block(async {
        etcd.operator().change(8, RecordChange { change: Some(unknown) }, || false).await
    });
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
    let etcd = Etcd::start();
    etcd.found();
    let (late, most) = (Duration::from_secs(1), Duration::from_secs(5));
    block(LocalSet::new().run_until(async {
        let (client, mut news) = client(&[&etcd.endpoints[0]], late, most);
        let compacted = WatchResponse { canceled: true, compact_revision: 9, ..Default::default() };
        let why = client.changed(0, compacted).await.unwrap_err();
        assert!(why.contains("compacted away at 9"), "{why}");
        spawn_local(client.follow());
        told(&mut news, |news| reads_record(&news).then_some(())).await;
    }));
}

/// Whether it is all that stands in etcd, and the record is among it.
fn reads_record(news: &News) -> bool {
    let News::Told(RegisterEvent::Read { entries, .. }) = news else { return false };
    entries.iter().any(|entry| entry.key == Key::Record)
}

#[test]
fn a_member_of_etcd_that_hangs_costs_no_lease() {
    // A machine that stalls may cost one; who waits for the member loses every time.
    assert!((0..5).any(|_| leases_outlast_a_member_that_hangs()));
}

/// Whether two pods hold their leases without a gap while the member of etcd that both talk to
/// stops, which is not the leader.
fn leases_outlast_a_member_that_hangs() -> bool {
    // Shorter than it takes to notice that the connection is dead.
    let mut etcd = Etcd::with(LeaseSettings { ttl_us: 1_300_000, ..LEASE });
    let hangs = (etcd.leader() + 1) % 3;
    // Everybody asks the first one first.
    etcd.endpoints.rotate_left(hangs);
    let (one, other) = pair(&etcd);
    let hung = Instant::now();
    etcd.signal(hangs, "-STOP");
    let is_renewed_elsewhere = |node: &Node| {
        let snapshot = node.snapshot();
        let left = snapshot.member.unwrap().lease_margin_ms;
        snapshot.voters[0].address != etcd.endpoints[0] && left.is_some_and(|left| left > 1_000.0)
    };
    wait("both pods renew elsewhere", || [&one, &other].into_iter().all(is_renewed_elsewhere));
    [one, other].iter().all(|node| {
        let hung_ms = hung.elapsed().as_secs_f64() * 1e3;
        node.snapshot().member.unwrap().lease_age_ms.is_some_and(|it| it >= hung_ms)
    })
}

/// Two members of etcd: connections are made, and nothing is ever answered.
fn hung() -> [(TcpListener, String); 2] {
    [(); 2].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    })
}

/// A client of these members, which takes `late` for late and `most` for lost.
fn client(
    addresses: &[&String],
    late: Duration,
    most: Duration,
) -> (Rc<Client>, mpsc::Receiver<News>) {
    let (news, told) = mpsc::channel(64);
    let endpoint = |it: &&String| ((*it).clone(), transport::endpoint(it, None).unwrap());
    let endpoints = addresses.iter().map(endpoint).collect();
    let keys = Keys::new("/hashroute", CLUSTER);
    (Rc::new(Client::new(endpoints, keys, Patience { late, most }, news)), told)
}

/// Runs what talks to etcd on one thread, until it is told what is waited for.
async fn told<T>(news: &mut mpsc::Receiver<News>, mut is: impl FnMut(News) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = is(news.recv().await.unwrap()) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(40), found).await.unwrap()
}

/// The transaction that founds the cluster.
fn founding() -> Transaction {
    Transaction {
        when: vec![(Key::Record, Revision(0))],
        then: vec![(Key::Record, Some(Value::Record(first(LEASE))))],
        otherwise: vec![Key::Record],
    }
}

#[test]
fn what_is_decided_and_what_is_read_go_to_another_member_when_the_first_hangs() {
    let etcd = Etcd::start();
    etcd.leader();
    let [(_listener, hung), _] = hung();
    let (late, most) = (Duration::from_millis(200), Duration::from_secs(3_600));
    for asks_to_write in [true, false] {
        block(LocalSet::new().run_until(async {
            let (client, mut news) = client(&[&hung, &etcd.endpoints[0]], late, most);
            if asks_to_write {
                spawn_local(client.transact(Request(1), founding()));
                told(&mut news, |news| {
                    matches!(news, News::Told(RegisterEvent::Committed { .. })).then_some(())
                })
                .await;
            } else {
                spawn_local(client.follow());
                told(&mut news, |news| reads_record(&news).then_some(())).await;
            }
        }));
    }
}

#[test]
fn an_answer_that_never_comes_counts_once_against_its_member() {
    let [(_one, first), (_other, second)] = hung();
    let (late, most) = (Duration::from_millis(20), Duration::from_millis(400));
    // Nothing that may be put to two members.
    let beat = || Transaction { then: Vec::new(), ..founding() };
    block(LocalSet::new().run_until(async {
        let (client, mut news) = client(&[&first, &second], late, most);
        for (number, next) in [(1, &second), (2, &first)] {
            spawn_local(Rc::clone(&client).transact(Request(number), beat()));
            let turned = async {
                while client.address() != next {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(40), turned).await.unwrap();
        }
        let unanswered = told(&mut news, |news| {
            let News::Told(RegisterEvent::Unanswered { request }) = news else { return None };
            Some(request)
        });
        assert_eq!(unanswered.await, Request(1));
        assert_eq!(client.address(), &first, "it was late long ago, and is asked again since");
    }));
}
