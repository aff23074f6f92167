//! Nodes that show certificates. Whole clusters in the clear are in `tests/cluster`.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use hashroute_coordination::{LeaseParameters, Resource};
use hashroute_core::Slot;

use super::*;
use crate::settings::{LeaseSettings, TlsSettings};
use crate::testing::certificates::{Authority, Made};
use crate::testing::{CLUSTER, first};
use crate::{Operator, OperatorSettings};

/// A process of a cluster with a lease that a busy test machine does not end.
fn settings(voters: &[String], pod: Option<&str>, tls: Option<TlsSettings>) -> NodeSettings {
    let lease = LeaseSettings {
        ttl_us: 4_000_000,
        renewal_interval_us: 200_000,
        drift_ppm: 1_000,
        margin_us: 10_000,
    };
    NodeSettings {
        cluster: CLUSTER.into(),
        engine: Engine::Embedded,
        voters: voters.to_vec(),
        listen: None,
        advertise: None,
        data: None,
        pod: pod.map(str::to_owned),
        view: first().view().clone(),
        lease,
        tls,
        priority: Priority::Ordinary,
        stale_after: Duration::from_secs(1),
        stall_check: Duration::ZERO,
        force: true,
    }
}

/// A voter that is its own cluster, founded, and its address.
fn voter(directory: &Path, tls: &TlsSettings) -> (Node, String) {
    let mut settings = settings(&["127.0.0.1:1".into()], None, Some(tls.clone()));
    (settings.listen, settings.data) = (Some("127.0.0.1:0".into()), Some(directory.into()));
    let lease: LeaseParameters = settings.lease.into();
    let node = Node::start(settings).unwrap();
    let listened = node.address().unwrap().to_owned();
    let operator = Operator::new(OperatorSettings {
        etcd: None,
        cluster: CLUSTER.into(),
        voters: vec![listened.clone()],
        tls: Some(tls.clone()),
        timeout: Duration::from_secs(10),
    });
    operator.unwrap().found(first().view(), lease, &[]).unwrap();
    (node, listened)
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "did not come true: {what}");
        thread::park_timeout(Duration::from_millis(1)); // poll
    }
}

fn writes(node: &Node) -> bool {
    node.guard().unwrap().admit(&Resource::Slot(Slot::new(0)), None).is_ok()
}

fn attending(node: &Node) -> Vec<String> {
    node.snapshot().voter.unwrap().attending
}

fn warns(node: &Node, words: &str) -> bool {
    node.snapshot().warnings.iter().any(|warning| warning.contains(words))
}

#[test]
fn only_who_shows_a_certificate_of_the_cluster_is_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (one, other) =
        (authority.sign("one", &Made::default()), authority.sign("other", &Made::default()));
    let directory = tempfile::tempdir().unwrap();
    let (voter, address) = voter(directory.path(), &one);
    let voters = [address];
    let strange = stranger.sign("strange", &Made::default());
    // It trusts the cluster's authority, and is signed by another.
    let forged = TlsSettings { ca: one.ca.clone(), ..strange.clone() };
    assert!(Node::start(settings(&voters, Some("a"), Some(forged))).is_err());
    for tls in [None, Some(strange)] {
        let refused = Node::start(settings(&voters, Some("a"), tls)).unwrap();
        wait("it is told that it is not let in", || warns(&refused, &voters[0]));
        assert_eq!((refused.record(), writes(&refused)), (None, false));
    }
    assert_eq!(attending(&voter), Vec::<String>::new());
    let member = Node::start(settings(&voters, Some("a"), Some(other))).unwrap();
    wait("who shows one writes", || writes(&member));
    let router = Node::start(settings(&voters, None, Some(one))).unwrap();
    wait("and follows", || router.record().is_some());
}

#[test]
fn what_was_recorded_on_the_way_is_nothing_worth_to_who_sends_it_again() {
    let authority = Authority::new();
    let tls = authority.sign("one", &Made::default());
    let directory = tempfile::tempdir().unwrap();
    let (voter, address) = voter(directory.path(), &tls);
    let recorder = TcpListener::bind("127.0.0.1:0").unwrap();
    let recorded_at = recorder.local_addr().unwrap().to_string();
    let recording = Mutex::new(Vec::new());
    let to_voter = || TcpStream::connect(&address).unwrap();
    thread::scope(|scope| {
        let member = Node::start(settings(&[recorded_at], Some("a"), Some(tls))).unwrap();
        // The first connection of the member goes through here.
        let (from, _) = recorder.accept().unwrap();
        drop(recorder);
        let to = to_voter();
        let (from_again, to_again) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        scope.spawn(|| pass(from, to, Some(&recording)));
        scope.spawn(|| pass(to_again, from_again, None));
        wait("the member writes", || writes(&member));
        // It ends at once, and says nothing more.
        drop(member);
    });
    wait("the voter notices", || attending(&voter).is_empty());
    let grants = voter.snapshot().voter.unwrap().grants;
    let mut again = to_voter();
    again.write_all(&recording.into_inner().unwrap()).unwrap();
    again.shutdown(Shutdown::Write).unwrap();
    let _ = again.read_to_end(&mut Vec::new());
    let seen = voter.snapshot().voter.unwrap();
    assert_eq!((seen.attending, seen.grants), (Vec::new(), grants));
}

/// Passes bytes on until either side closes, and keeps them.
fn pass(mut from: TcpStream, mut to: TcpStream, recording: Option<&Mutex<Vec<u8>>>) {
    let mut bytes = [0; 16 * 1024];
    loop {
        let read = from.read(&mut bytes).unwrap_or(0);
        if let Some(recording) = recording {
            recording.lock().unwrap().extend_from_slice(&bytes[..read]);
        }
        if read == 0 || to.write_all(&bytes[..read]).is_err() {
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}
