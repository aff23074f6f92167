//! Reads in a quorum: by its record, and marked when that may be old.
use serde_json::json;

use super::support::{FakeQuorum, Options, Pod, frame, id, run, start, until};

fn reading(quorum: &std::sync::Arc<FakeQuorum>) -> Options {
    Options { quorum: Some(std::sync::Arc::clone(quorum)), ..Options::default() }
}

#[test]
fn answers_are_marked_while_no_majority_is_heard_and_only_then() {
    run(async {
        let pod = Pod::echo().await;
        let quorum = FakeQuorum::of(&[&pod.address]);
        let setup = start(&[&pod], reading(&quorum));
        let mut client = setup.client().await;
        let stale = |name: &str| -> Option<String> {
            let heads = pod.heads();
            let value = heads.last().expect("a request").headers().get(name)?.clone();
            Some(value.to_str().expect("text").to_owned())
        };
        let headers = [
            ("x-hashroute-key", "k"),
            ("x-hashroute-stale", "true"),
            ("x-hashroute-group", "desk"),
        ];
        let path = "/test.Service/Method";
        let answer = client.call(path, &headers, &frame(b"m")).await.expect("an answer").ok();
        assert!(!answer.head.contains_key("x-hashroute-stale"));
        assert_eq!((stale("x-hashroute-stale"), stale("x-hashroute-group")), (None, None));
        assert_eq!(setup.snapshot().writes.stale, 0);

        quorum.set_stale(true);
        let mut marked = 0;
        while marked == 0 {
            let answer = client.unary("k", b"m").await.ok();
            marked += u64::from(answer.head.contains_key("x-hashroute-stale"));
        }
        let answer = client.unary("k", b"m").await.ok();
        assert_eq!(answer.head["x-hashroute-stale"], "true");
        assert_eq!(stale("x-hashroute-stale").as_deref(), Some("true"));
        until("both answers are counted", || setup.snapshot().writes.stale >= 2).await;

        quorum.set_stale(false);
        while client.unary("k", b"m").await.ok().head.contains_key("x-hashroute-stale") {}
        assert_eq!(stale("x-hashroute-stale"), None);
    });
}

#[test]
fn views_come_from_the_record_and_a_reload_changes_only_the_rules() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let quorum = FakeQuorum::of(&[&pods[0].address, &pods[1].address]);
        let setup = start(&[&pods[0], &pods[1]], reading(&quorum));
        assert_eq!(setup.snapshot().epoch, 10, "the record's, not the file's");
        let key = quorum.key_of("pod-0");
        let mut client = setup.client().await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-0");
        {
            let heads = pods[0].heads();
            let headers = heads[0].headers();
            assert_eq!(headers["x-hashroute-epoch"], "10");
            assert_eq!(headers["x-hashroute-term"], quorum.term_of(&key).to_string().as_str());
        }
        quorum.fail("pod-0");
        until("the record counts", || setup.snapshot().epoch == 11).await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-1");

        let mut settings = setup.settings();
        settings.routes = serde_json::from_value(json!([])).expect("rules");
        settings.retry.attempts_max = 1;
        let apply = |settings| {
            let sidecar = setup.sidecar.borrow();
            sidecar.as_ref().expect("a running sidecar").apply(settings)
        };
        apply(settings).expect("good settings");
        let snapshot = setup.snapshot();
        assert_eq!((snapshot.epoch, snapshot.pods[0].state), (11, "down"));
        // By the rule that is gone a request without a key was refused.
        client.call("/test.Service/Method", &[], &frame(b"m")).await.expect("an answer").ok();
    });
}

#[test]
fn a_record_without_an_owner_leaves_reads_where_they_went() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let quorum = FakeQuorum::of(&[&pods[0].address, &pods[1].address]);
        let setup = start(&[&pods[0], &pods[1]], reading(&quorum));
        let key = quorum.key_of("pod-1");
        let mut client = setup.client().await;
        quorum.fail("pod-0");
        quorum.fail("pod-1");
        assert!(quorum.record().ring().is_none());
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-1");
        // A pod that joins is routed to again.
        let mut pod = hashroute_core::Pod::new(id("pod-0"));
        pod.addresses.grpc = Some(pods[0].address.clone());
        let incarnation = hashroute_coordination::Incarnation(2);
        quorum.change(&hashroute_coordination::Change::Join { pod, incarnation });
        until("the record counts", || setup.snapshot().epoch == quorum.epoch()).await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-0");
    });
}

#[test]
fn a_rule_that_writes_means_nothing_without_a_quorum() {
    run(async {
        let pods = [Pod::refusing(&["no-lease"]).await, Pod::echo().await];
        let mut options = Options::default();
        options.routes[0]["write"] = json!(true);
        let setup = start(&[&pods[0], &pods[1]], options);
        let answer = setup.client().await.unary(&setup.key_of("pod-0"), b"m").await;
        assert_eq!((answer.status(), answer.pod()), ("14", "pod-0"));
        assert!(!answer.head.contains_key("x-hashroute-stale"));
        assert!(setup.snapshot().quorum.is_none());
    });
}

#[test]
fn a_process_that_takes_its_pods_place_is_found_at_its_own_address() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let quorum = FakeQuorum::of(&[&pods[0].address]);
        let setup = start(&[&pods[0]], reading(&quorum));
        let mut client = setup.client().await;
        client.unary("k", b"m").await.ok();
        // The table stays as it is, and so may be shared with the record before.
        let mut pod = hashroute_core::Pod::new(id("pod-0"));
        pod.addresses.grpc = Some(pods[1].address.clone());
        let incarnation = hashroute_coordination::Incarnation(2);
        quorum.change(&hashroute_coordination::Change::Join { pod, incarnation });
        until("the record counts", || setup.snapshot().epoch == quorum.epoch()).await;
        client.unary("k", b"m").await.ok();
        assert_eq!((pods[0].received(), pods[1].received()), (1, 1));
    });
}
