//! Who is not let in, and processes that do not start.
use std::time::Duration;

use hashroute_quorum::{LeaseSettings, Node, StartError};

use crate::support::{
    Host, SLOW, addresses, found, operator, pair_and_witness, settings, slots, wait,
};

fn warns(host: &Host, words: &str) -> bool {
    host.node().snapshot().warnings.iter().any(|warning| warning.contains(words))
}

#[test]
fn a_process_of_another_cluster_is_refused_and_told_why() {
    let (one, other, witness) = pair_and_witness(SLOW);
    let mut stranger = Host::without_vote(SLOW, &[&one, &other, &witness], Some("pod-a"));
    stranger.crash();
    stranger.settings.cluster = "desk-8".into();
    stranger.start();
    wait("it is told why", || warns(&stranger, "belongs to cluster \"desk-7\""));
    assert_eq!(stranger.node().record(), None);
    assert!(slots().all(|slot| stranger.admit(&slot).is_err()));
    let mut router = stranger;
    router.crash();
    router.settings.pod = None;
    router.start();
    wait("so is a router", || warns(&router, "belongs to cluster \"desk-7\""));
    assert_eq!(router.node().record(), None);
}

#[test]
fn two_foundings_of_one_name_refuse_each_other() {
    let (one, other, _witness) = pair_and_witness(SLOW);
    let mut stray = Host::voter(SLOW, &[], Some("pod-b"));
    found(&[&stray]);
    wait("it writes by itself", || stray.writes_everything());
    assert_ne!(stray.node().record().unwrap().cluster(), one.node().record().unwrap().cluster());
    let again = operator(&[&one, &other, &stray]);
    assert!(again.found(&one.settings.view, SLOW.into(), &[]).is_err(), "nothing is founded twice");
    // Its disk says where it belongs, whatever its settings say.
    stray.crash();
    stray.settings.voters = addresses(&[&one]);
    stray.start();
    wait("it writes by itself again", || stray.writes_everything());
    assert!(slots().any(|slot| one.admit(&slot).is_ok()));
}

#[test]
fn another_process_of_the_same_pod_is_pointed_out() {
    let (one, other, witness) = pair_and_witness(SLOW);
    let twin = Host::without_vote(SLOW, &[&one, &other, &witness], Some("pod-a"));
    wait("the pod's own process says so", || warns(&one, "two processes attend as pod pod-a"));
    wait("a voter that both attend says so", || {
        warns(&witness, "two processes attend as pod pod-a")
    });
    drop(twin);
}

#[test]
fn a_lease_that_the_machine_would_end_is_refused_unless_forced() {
    // The timers of the event loop are a millisecond late by themselves.
    let lease =
        LeaseSettings { ttl_us: 3_500, renewal_interval_us: 1_000, drift_ppm: 0, margin_us: 0 };
    let voters = ["127.0.0.1:1".to_owned()];
    let mut hasty = settings(lease, &voters, Some("pod-a"));
    (hasty.stall_check, hasty.force) = (Duration::from_millis(300), false);
    match Node::start(hasty.clone()) {
        Err(error @ StartError::StallsTooLong { .. }) => {
            assert_eq!(error.code(), "stalls_too_long");
        }
        other => panic!("{other:?}"),
    }
    hasty.force = true;
    assert!(Node::start(hasty).is_ok());
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_starts() {
    let voters = ["127.0.0.1:1".to_owned()];
    let directory = tempfile::tempdir().unwrap();
    let refused = |change: &dyn Fn(&mut hashroute_quorum::NodeSettings)| {
        let mut settings = settings(SLOW, &voters, None);
        settings.listen = Some("127.0.0.1:0".into());
        settings.data = Some(directory.path().into());
        change(&mut settings);
        Node::start(settings).map(|_| ()).map_err(|error| error.code().to_owned())
    };
    assert_eq!(refused(&|_| ()), Ok(()));
    assert_eq!(refused(&|it| it.data = None), Err("setting".into()));
    assert_eq!(refused(&|it| it.listen = Some("0.0.0.0:0".into())), Err("setting".into()));
    assert_eq!(refused(&|it| it.voters = vec!["no address".into()]), Err("setting".into()));
    assert_eq!(refused(&|it| it.stale_after = Duration::ZERO), Err("setting".into()));
    assert_eq!(refused(&|it| it.listen = Some("nowhere".into())), Err("address_not_usable".into()));
}

#[test]
fn one_disk_serves_one_process_and_one_cluster() {
    let mut host = Host::voter(SLOW, &[], Some("pod-a"));
    let in_use = Node::start(hashroute_quorum::NodeSettings {
        listen: Some("127.0.0.1:0".into()),
        ..host.settings.clone()
    });
    assert_eq!(in_use.err().unwrap().code(), "disk_in_use");
    found(&[&host]);
    wait("it writes everything", || host.writes_everything());
    host.crash();
    let mut other = host.settings.clone();
    other.cluster = "desk-8".into();
    assert_eq!(Node::start(other).err().unwrap().code(), "other_cluster");
    host.start();
    wait("it writes everything again", || host.writes_everything());
}
