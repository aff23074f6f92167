//! Real nodes: leases, records and guards as they are, between sidecars in this process.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hashroute_coordination::{LeaseParameters, Resource};
use hashroute_sidecar::{ApplyError, Settings};
use serde_json::json;
use tokio::task::spawn_local;

use super::support::{Answer, Client, Cluster, Pod, frame, run, until};

const METHOD: &str = "/test.Service/Method";

/// A lease that a busy test machine does not end by itself.
const LEASE: LeaseParameters = LeaseParameters {
    ttl: Duration::from_secs(4),
    renewal_interval: Duration::from_millis(200),
    ..LeaseParameters::DEFAULT
};

async fn echoes() -> [Pod; 2] {
    [Pod::echo().await, Pod::echo().await]
}

async fn write(client: &mut Client, key: &str) -> Answer {
    client.unary(key, b"order").await
}

fn header(pod: &Pod, name: &str) -> Option<String> {
    let heads = pod.heads();
    let value = heads.last()?.headers().get(name)?;
    Some(value.to_str().expect("text").to_owned())
}

#[test]
fn writes_reach_their_owners_service_under_the_agreed_term() {
    run(async {
        let cluster = Cluster::start(LEASE, echoes().await, |_| {}).await;
        let mut client = cluster.client().await;
        for (pod, service) in ["pod-0", "pod-1"].into_iter().zip(&cluster.services) {
            let key = cluster.key_of(pod);
            assert_eq!(write(&mut client, &key).await.ok().pod(), pod);
            let record = cluster.record();
            let slot = record.ring().expect("a ring").slot(key.as_bytes());
            let term = record.term(&Resource::Slot(slot)).expect("a term");
            assert_eq!(header(service, "x-hashroute-term"), Some(term.to_string()));
            assert_eq!(header(service, "x-hashroute-slot"), Some(slot.to_string()));
        }
        let snapshot = cluster.members[0].as_ref().expect("a member").snapshot();
        assert_eq!(snapshot.guard.expect("a guard").admitted, 1);
        assert_eq!(snapshot.quorum.expect("a node").member.expect("a member").admitted, 1);
        assert_eq!(cluster.services[0].received() + cluster.services[1].received(), 2);
    });
}

#[test]
fn when_a_writer_dies_the_next_write_waits_and_another_pod_answers_it() {
    run(async {
        let mut cluster = Cluster::start(LEASE, echoes().await, |_| {}).await;
        let key = cluster.key_of("pod-0");
        let mut client = cluster.client().await;
        assert_eq!(write(&mut client, &key).await.ok().pod(), "pod-0");
        let term = header(&cluster.services[0], "x-hashroute-term").expect("a term");
        drop(cluster.members[0].take());
        // What is sent before the end of the connection is seen would be unknown.
        until("the connection is gone", || cluster.router.snapshot().pods[0].health == "down")
            .await;
        let answer = write(&mut client, &key).await;
        assert_eq!(answer.ok().pod(), "pod-1");
        let later = header(&cluster.services[1], "x-hashroute-term").expect("a term");
        let number = |term: &str| term.parse::<u64>().expect("a number");
        assert!(number(&later) > number(&term), "{later} after {term}");
        assert_eq!((cluster.services[0].received(), cluster.services[1].received()), (1, 1));
    });
}

#[test]
fn without_a_majority_writes_fail_closed_and_reads_go_on_marked() {
    run(async {
        let change = |options: &mut super::support::Options| {
            options.patience_ms = 700;
            options.routes.as_array_mut().expect("rules").push(json!({
                "match": "/read.Service/*", "key": [{"metadata": "x-hashroute-key"}],
                "on_missing": "reject", "idempotent": true,
            }));
        };
        let mut cluster = Cluster::start(LEASE, echoes().await, change).await;
        let key = cluster.key_of("pod-1");
        let mut client = cluster.client().await;
        write(&mut client, &key).await.ok();
        let headers = [("x-hashroute-key", key.as_str())];
        let path = "/read.Service/Method";
        let read = client.call(path, &headers, &frame(b"m")).await.expect("an answer").ok();
        assert!(!read.head.contains_key("x-hashroute-stale"));
        assert_eq!(header(&cluster.services[1], "x-hashroute-term"), None, "it is no write");

        drop(cluster.witness.take());
        drop(cluster.members[0].take());
        // What is left of the lease is used; then nothing is admitted any more.
        let (before, answer) = loop {
            let before = cluster.services[1].received();
            let answer = write(&mut client, &key).await;
            if answer.status() != "0" {
                break (before, answer);
            }
        };
        answer.error("14", "not-applied");
        assert_eq!(answer.last("x-hashroute-refusal"), Some("no-lease"));
        assert_eq!(cluster.services[1].received(), before, "the service saw no write");
        loop {
            let read = client.call(path, &headers, &frame(b"m")).await.expect("an answer").ok();
            if read.head.contains_key("x-hashroute-stale") {
                break;
            }
        }
        let member = cluster.members[1].take().expect("a member");
        assert!(member.snapshot().guard.expect("a guard").refused["no-lease"] > 1);
    });
}

#[test]
fn a_sidecar_that_stops_hands_over_and_no_write_is_refused_to_its_caller() {
    run(async {
        let mut cluster = Cluster::start(LEASE, echoes().await, |_| {}).await;
        let key = cluster.key_of("pod-0");
        let (is_over, count) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let mut client = cluster.client().await;
        let writing = spawn_local({
            let (is_over, count) = (Rc::clone(&is_over), Rc::clone(&count));
            async move {
                let mut pods = Vec::new();
                while !is_over.get() {
                    let headers = [("x-hashroute-key", key.as_str())];
                    let answer = client.call(METHOD, &headers, &frame(b"m")).await;
                    pods.push(answer.expect("an answer").ok().pod().to_owned());
                    count.set(count.get() + 1);
                }
                pods
            }
        });
        until("writes flow", || count.get() > 20).await;
        let member = cluster.members[0].take().expect("a member");
        let (sender, stopped) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(member.stop(Duration::from_secs(10))));
        assert!(stopped.await.expect("stop returns"), "nothing was left over");
        let after = count.get();
        until("writes still flow", || count.get() > after + 20).await;
        is_over.set(true);
        let pods = writing.await.expect("every write was answered");
        let first = pods.iter().filter(|pod| *pod == "pod-0").count();
        assert!(pods[..first].iter().all(|pod| pod == "pod-0"), "it changed once");
        assert!(first > 0 && pods[first..].iter().all(|pod| pod == "pod-1"));
        let services = &cluster.services;
        assert_eq!(services[0].received() + services[1].received(), pods.len(), "each once");
    });
}

#[test]
fn what_a_quorum_and_a_guard_are_told_is_fixed_while_a_sidecar_runs() {
    run(async {
        let cluster = Cluster::start(LEASE, echoes().await, |_| {}).await;
        let member = cluster.members[0].as_ref().expect("a member");
        let apply = |change: fn(&mut Settings)| {
            let mut settings = cluster.settings[0].clone();
            change(&mut settings);
            member.apply(settings)
        };
        let fixed = |applied: Result<(), ApplyError>| match applied {
            Err(ApplyError::Fixed { key, .. }) => key,
            other => panic!("{other:?}"),
        };
        let no_quorum = apply(|settings| settings.quorum = None);
        assert_eq!(fixed(no_quorum), "quorum");
        assert_eq!(fixed(apply(|settings| settings.guard = None)), "guard");
        let cluster_name = apply(|settings| {
            settings.quorum.as_mut().expect("a quorum").cluster = "other".to_owned();
        });
        assert_eq!(fixed(cluster_name), "quorum.cluster");
        let voters = apply(|settings| settings.quorum.as_mut().expect("a quorum").voters.clear());
        assert_eq!(fixed(voters), "quorum.voters");
        until("it goes by the record", || member.snapshot().epoch > 1).await;
        apply(|settings| settings.retry.attempts_max = 1).expect("rules may change");
        assert!(member.snapshot().epoch > 1, "the view of the file means nothing any more");
    });
}

#[test]
fn a_sidecar_shows_its_part_in_the_quorum() {
    run(async {
        let cluster = Cluster::start(LEASE, echoes().await, |_| {}).await;
        let node = cluster.router.node().expect("a node");
        assert!(node.guard().is_none() && cluster.router.addresses().quorum.is_none());
        let member = cluster.members[0].as_ref().expect("a member");
        assert!(member.addresses().quorum.is_some() && member.addresses().guard_grpc.is_some());
        let snapshot = serde_json::to_value(member.snapshot()).expect("JSON");
        assert_eq!(snapshot["quorum"]["cluster"], "desk");
        assert!(snapshot["loop_age_ms"]["guard_grpc"].is_u64());
        assert!(snapshot["loop_age_ms"]["record"].is_u64());
    });
}
