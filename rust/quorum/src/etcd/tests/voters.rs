//! Leases by voters, the record in etcd.
use hashroute_coordination::LeaseParameters;

use super::*;
use crate::{Description, EtcdSettings, Operator, OperatorSettings, StartError};

/// A lease of which ten are over in three seconds.
const SHORT: LeaseSettings =
    LeaseSettings { ttl_us: 290_000, renewal_interval_us: 40_000, ..LEASE };

const PAUSE: Duration = Duration::from_secs(3);

/// A process that votes, and the directory of its id.
struct Host {
    settings: NodeSettings,
    node: Option<Node>,
    _directory: TempDir,
}

impl Host {
    fn start(etcd: &Etcd, pod: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = etcd.settings(pod);
        // Who the others are is in etcd.
        settings.voters = vec!["127.0.0.1:1".into(); 3];
        settings.listen = Some("127.0.0.1:0".into());
        settings.data = Some(directory.path().into());
        let node = Some(Node::start(settings.clone()).unwrap());
        let mut host = Self { settings, node, _directory: directory };
        // It comes back where it was.
        host.settings.listen = Some(host.address());
        host
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn address(&self) -> String {
        self.node().address().unwrap().to_owned()
    }

    /// Ends it as a crash would.
    fn crash(&mut self) {
        self.node = None;
    }

    fn start_again(&mut self) {
        self.node = Some(Node::start(self.settings.clone()).unwrap());
    }

    fn voter_id(&self) -> String {
        self.node().snapshot().voter.unwrap().id
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Why a test failed is in the figures of its processes.
        if let Some(node) = self.node.as_ref().filter(|_| thread::panicking()) {
            eprintln!("{:#?}", node.snapshot());
        }
    }
}

fn operator(etcd: &Etcd, voters: &[&Host]) -> Operator {
    let (endpoints, prefix) = (etcd.endpoints.clone(), "/hashroute".into());
    Operator::new(OperatorSettings {
        cluster: CLUSTER.into(),
        voters: voters.iter().map(|host| host.address()).collect(),
        etcd: Some(EtcdSettings { endpoints, prefix }),
        tls: None,
        timeout: Duration::from_secs(20),
    })
    .unwrap()
}

fn found(etcd: &Etcd, voters: &[&Host]) -> Record {
    let lease: LeaseParameters = etcd.lease.into();
    let mut record = None;
    wait("etcd takes the first record", || {
        record = operator(etcd, voters).found(&view(), lease, &[]).ok();
        record.is_some()
    });
    record.unwrap()
}

fn shares_all(one: &Host, other: &Host) -> bool {
    let (one, other) = (admitted(one.node()), admitted(other.node()));
    one > 0 && other > 0 && one + other == SLOTS as usize
}

/// Two pods that share all slots, and a witness.
fn pair_and_witness(etcd: &Etcd) -> [Host; 3] {
    let hosts = [Some("pod-a"), Some("pod-b"), None].map(|pod| Host::start(etcd, pod));
    let [one, other, witness] = &hosts;
    let record = found(etcd, &[one, other, witness]);
    assert_eq!(record.voters().len(), 3);
    wait("both pods write", || shares_all(one, other));
    hosts
}

fn attending(host: &Host) -> Vec<String> {
    host.node().snapshot().voter.unwrap().attending
}

fn change(etcd: &Etcd, host: &Host, change: &str) {
    let before = host.node().record().unwrap().epoch();
    let epoch = operator(etcd, &[host]).change(change).unwrap();
    assert!(epoch > before);
}

#[test]
fn a_pod_that_dies_is_replaced_and_comes_back_as_the_voter_that_it_was() {
    let etcd = Etcd::start();
    let [mut one, other, witness] = pair_and_witness(&etcd);
    let record = other.node().record().unwrap();
    let lost = slots().find(|slot| record.owner(slot).unwrap().pod.as_str() == "pod-a").unwrap();
    let (before, id) = (record.term(&lost).unwrap(), one.voter_id());
    one.crash();
    wait("the other one writes everything", || admitted(other.node()) == SLOTS as usize);
    let admission = other.node().guard().unwrap().admit(&lost, None).unwrap();
    assert!(admission.term() > before);
    drop(admission);
    wait("the witness follows", || {
        witness.node().record().is_some_and(|it| it.term(&lost) > Some(before))
    });
    one.start_again();
    wait("both pods write", || shares_all(&one, &other));
    assert_eq!(one.voter_id(), id);
    wait("and all voters are attended", || {
        attending(&witness) == ["pod-a", "pod-b"] && attending(&one) == ["pod-b"]
    });
}

#[test]
fn the_loss_of_a_witness_ends_no_lease_and_changes_go_on() {
    let etcd = Etcd::start();
    let [one, other, mut witness] = pair_and_witness(&etcd);
    let router = etcd.node(None);
    witness.crash();
    change(&etcd, &one, r#"{"drain": {"pod": "pod-a"}}"#);
    wait("the other one writes everything", || admitted(other.node()) == SLOTS as usize);
    change(&etcd, &one, r#"{"activate": {"pod": "pod-a"}}"#);
    wait("both pods write", || shares_all(&one, &other));
    wait("a router follows", || {
        router.record().map(|it| it.epoch()) == one.node().record().map(|it| it.epoch())
    });
    let figures = one.node().snapshot();
    let away = figures.voters.iter().filter(|it| !it.is_connected).count();
    assert_eq!((figures.voters.len(), away), (3, 1), "{figures:?}");
    assert!(figures.voters.iter().any(|it| it.round_trip_ms.is_some()));
    assert!(figures.voter.unwrap().grants > 0);
}

#[test]
fn who_reaches_no_majority_of_voters_stops_by_itself() {
    let etcd = Etcd::start();
    let [one, mut other, mut witness] = pair_and_witness(&etcd);
    other.crash();
    witness.crash();
    wait("one voter of three grants nothing", || admitted(one.node()) == 0);
    witness.start_again();
    wait("two of them do", || admitted(one.node()) == SLOTS as usize);
}

#[test]
fn a_drain_waits_for_what_is_under_way_and_costs_no_lease() {
    // A machine that stalls may cost a lease; what a drain costs, it costs every time.
    assert!((0..5).any(|_| leases_outlast_a_drain()));
}

/// Whether two pods hold their leases without a gap, in the same conversations, while one of them
/// is drained and a write is under way there.
fn leases_outlast_a_drain() -> bool {
    let etcd = Etcd::start();
    let [one, other, _witness] = pair_and_witness(&etcd);
    let (guard, began) = (one.node().guard().unwrap(), Instant::now());
    let mine = slots().find(|slot| guard.admit(slot, None).is_ok()).unwrap();
    let under_way = guard.admit(&mine, None).unwrap();
    let (mut are_connected, mut may_end) = (true, false);
    thread::scope(|scope| {
        scope.spawn(|| change(&etcd, &other, r#"{"drain": {"pod": "pod-a"}}"#));
        wait("nothing new is admitted", || guard.admit(&mine, None).is_err());
        // Longer than two leases: voters say again and again whom they wait for.
        let until = Instant::now() + PAUSE;
        while Instant::now() < until {
            let hosts = [&one, &other].into_iter();
            let mut links = hosts.flat_map(|host| host.node().snapshot().voters);
            are_connected &= links.all(|it| it.is_connected);
            let second = other.node().guard().unwrap().admit(&mine, None);
            assert!(second.is_err() || !under_way.is_valid(), "two writers");
            thread::park_timeout(Duration::from_millis(10));
        }
        may_end = under_way.is_valid();
        drop(under_way);
    });
    wait("the other one writes everything", || admitted(other.node()) == SLOTS as usize);
    let held_ms = began.elapsed().as_secs_f64() * 1e3;
    let age = |host: &Host| host.node().snapshot().member.unwrap().lease_age_ms;
    are_connected
        && may_end
        && [&one, &other].into_iter().all(|it| age(it).is_some_and(|it| it >= held_ms))
}

#[test]
fn a_process_whose_pod_has_another_one_goes_on_voting_and_leaves_that_one_alone() {
    let etcd = Etcd::start();
    let [one, other, _witness] = pair_and_witness(&etcd);
    let next = etcd.node(Some("pod-a"));
    wait("it takes the place of the one before", || {
        admitted(one.node()) == 0 && admitted(&next) + admitted(other.node()) == SLOTS as usize
    });
    wait("every voter answers it, that of the one before too", || {
        let voters = next.snapshot().voters;
        voters.iter().all(|it| it.is_connected && it.round_trip_ms.is_some())
    });
    let left = one.node().snapshot();
    let own = left.voter.as_ref().unwrap();
    assert!(left.follows_as.is_some(), "it attends no voter any more: {left:?}");
    assert_eq!(own.attending, ["pod-a", "pod-b"]);
}

#[test]
fn pods_without_a_vote_attend_voters_elsewhere() {
    let etcd = Etcd::start();
    let voters = [None; 3].map(|pod| Host::start(&etcd, pod));
    found(&etcd, &voters.each_ref());
    let [one, other] = ["pod-a", "pod-b"].map(|pod| etcd.node(Some(pod)));
    wait("both pods write", || admitted(&one) + admitted(&other) == SLOTS as usize);
    wait("all voters are attended", || {
        voters.iter().all(|voter| attending(voter) == ["pod-a", "pod-b"])
    });
    drop(one);
    wait("the other one writes everything", || admitted(&other) == SLOTS as usize);
}

#[test]
fn a_process_that_stops_in_good_order_is_replaced_without_waiting_for_its_lease() {
    let lease = Duration::from_secs(20);
    let etcd = Etcd::with(LeaseSettings { ttl_us: 20_000_000, ..LEASE });
    let [mut one, other, _witness] = pair_and_witness(&etcd);
    let began = Instant::now();
    assert!(one.node.take().unwrap().stop(Duration::from_secs(5)));
    wait("the other one writes everything", || admitted(other.node()) == SLOTS as usize);
    assert!(began.elapsed() < lease, "{:?}", began.elapsed());
}

#[test]
fn writes_go_on_while_all_of_etcd_stands_still() {
    // A machine that stalls may cost a lease; who needs etcd for it loses it every time.
    assert!((0..5).any(|_| leases_outlast_etcd()));
}

/// Whether two pods hold their leases without a gap while no member of etcd says anything, and
/// changes are made when it does again.
fn leases_outlast_etcd() -> bool {
    let etcd = Etcd::with(SHORT);
    let [one, other, _witness] = pair_and_witness(&etcd);
    let mine = [&one, &other].map(|host| {
        let guard = host.node().guard().unwrap();
        (slots().find(|slot| guard.admit(slot, None).is_ok()).unwrap(), guard)
    });
    (0..3).for_each(|member| etcd.signal(member, "-STOP"));
    let (until, mut refused) = (Instant::now() + PAUSE, 0);
    while Instant::now() < until {
        refused += mine.iter().filter(|(slot, guard)| guard.admit(slot, None).is_err()).count();
        thread::park_timeout(Duration::from_millis(2));
    }
    (0..3).for_each(|member| etcd.signal(member, "-CONT"));
    change(&etcd, &one, r#"{"drain": {"pod": "pod-a"}}"#);
    wait("the other one writes everything", || admitted(other.node()) == SLOTS as usize);
    refused == 0
}

#[test]
fn a_voter_is_replaced_and_the_new_one_counts() {
    let etcd = Etcd::start();
    let [mut one, other, mut witness] = pair_and_witness(&etcd);
    let new = Host::start(&etcd, None);
    let (old, address) = (witness.address(), new.address());
    let replace = format!(r#"{{"replace_voter": {{"old": "{old}", "new": "{address}"}}}}"#);
    change(&etcd, &one, &replace);
    wait("both pods attend the new voter", || attending(&new) == ["pod-a", "pod-b"]);
    witness.crash();
    one.crash();
    wait("it grants with the one that is left", || admitted(other.node()) == SLOTS as usize);
}

#[test]
fn operators_see_voters_and_etcd_and_are_told_of_the_wrong_engine() {
    let etcd = Etcd::start();
    let hosts = pair_and_witness(&etcd);
    let [one, other, witness] = &hosts;
    let described = operator(&etcd, &[one, other, witness]).describe();
    let described: Vec<Description> = described.into_iter().map(Result::unwrap).collect();
    let ids: Vec<&str> = described.iter().map(|it| it.voter_id.as_str()).collect();
    assert_eq!(ids, ["", &one.voter_id(), &other.voter_id(), &witness.voter_id()]);
    assert!(described.iter().all(|it| it.record.is_some()));
    assert!(described[3].snapshot.contains(r#""attending":["pod-a","pod-b"]"#));
    let embedded = Operator::new(OperatorSettings {
        cluster: CLUSTER.into(),
        voters: hosts.iter().map(Host::address).collect(),
        etcd: None,
        tls: None,
        timeout: Duration::from_secs(20),
    });
    let embedded = embedded.unwrap();
    let told = embedded.found(&view(), etcd.lease.into(), &[]).unwrap_err();
    assert_eq!(told.code(), "other_engine");
    let told = embedded.change(r#"{"drain": {"pod": "pod-a"}}"#).unwrap_err();
    assert!(told.to_string().contains("changed in etcd"), "{told}");
    let few = operator(&etcd, &[one]).found(&view(), etcd.lease.into(), &[]).unwrap_err();
    assert!(few.to_string().contains("3 or 5 voters"), "{few}");
}

#[test]
fn whoever_knows_voters_alone_follows_them_while_etcd_stands_still_too() {
    let etcd = Etcd::start();
    let hosts = pair_and_witness(&etcd);
    let [one, ..] = &hosts;
    let voters: Vec<String> = hosts.iter().map(Host::address).collect();
    let follower = |engine| {
        let settings = etcd.settings(None);
        let engine = if engine == "embedded" { Engine::Embedded } else { settings.engine.clone() };
        Node::start(NodeSettings { engine, voters: voters.clone(), ..settings }).unwrap()
    };
    let (client, router) = (follower("embedded"), follower("etcd"));
    let epoch = || one.node().record().map(|record| record.epoch());
    let follows = |node: &Node| node.record().map(|record| record.epoch()) == epoch();
    wait("both follow", || [&client, &router].into_iter().all(follows));
    (0..3).for_each(|member| etcd.signal(member, "-STOP"));
    let stopped = Instant::now();
    wait("etcd was silent for long", || {
        assert!(![&client, &router].into_iter().any(Node::is_stale), "voters are heard");
        stopped.elapsed() > etcd.settings(None).stale_after * 2
    });
    let late = follower("etcd");
    wait("one that starts now learns the record from voters", || follows(&late));
    (0..3).for_each(|member| etcd.signal(member, "-CONT"));
    change(&etcd, one, r#"{"drain": {"pod": "pod-a"}}"#);
    wait("all hear of the change", || [&client, &router, &late].into_iter().all(follows));
}

#[test]
fn the_directory_of_an_embedded_voter_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let settings = NodeSettings {
        engine: Engine::Embedded,
        voters: vec!["127.0.0.1:1".into()],
        listen: Some("127.0.0.1:0".into()),
        data: Some(directory.path().into()),
        ..settings_anywhere()
    };
    let node = Node::start(settings.clone()).unwrap();
    let founder = Operator::new(OperatorSettings {
        cluster: CLUSTER.into(),
        voters: vec![node.address().unwrap().to_owned()],
        etcd: None,
        tls: None,
        timeout: Duration::from_secs(20),
    });
    founder.unwrap().found(&view(), LEASE.into(), &[]).unwrap();
    drop(node);
    let voters = vec!["127.0.0.1:1".into(); 3];
    let refused = Node::start(NodeSettings {
        voters,
        listen: settings.listen.clone(),
        data: settings.data.clone(),
        ..settings_anywhere()
    });
    let refused = refused.unwrap_err();
    assert!(matches!(refused, StartError::DiskOfOtherEngine { .. }), "{refused}");
    assert_eq!(refused.code(), "disk_of_other_engine");
    assert!(Node::start(settings).is_ok(), "nothing was changed");
}

#[test]
fn settings_that_name_one_voter_or_vote_for_nobody_are_refused() {
    for (voters, listens, words) in
        [(1, false, "3 or 5 voters"), (2, true, "3 or 5 voters"), (0, true, "votes only if")]
    {
        let settings = NodeSettings {
            voters: vec!["127.0.0.1:1".into(); voters],
            listen: listens.then(|| "127.0.0.1:0".into()),
            data: listens.then(|| "nowhere".into()),
            ..settings_anywhere()
        };
        let refused = settings.check().unwrap_err().to_string();
        assert!(refused.contains("quorum.voters") && refused.contains(words), "{refused}");
    }
}
