//! The router's part: to the owner by the newest record, to nobody else, and one answer.
use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use hashroute_coordination::Change;
use serde_json::json;

use super::quorum::FakeQuorum;
use super::support::{Message, Pod, Reaction, Setup, refusal, router, until};

fn quorum(pods: &[&Pod]) -> Arc<FakeQuorum> {
    let addresses: Vec<&str> = pods.iter().map(|pod| pod.address.as_str()).collect();
    FakeQuorum::of(&addresses)
}

fn content(message: &Message) -> &[Vec<u8>] {
    let end = message.iter().position(Vec::is_empty).expect("an envelope") + 1;
    &message[end..]
}

fn text(reply: &Message) -> String {
    assert_eq!(reply.len(), 1, "{reply:?}");
    String::from_utf8(reply[0].clone()).expect("text")
}

fn writes(setup: &Setup) -> hashroute_sidecar::WritesSnapshot {
    setup.snapshot().writes
}

#[test]
fn the_tag_is_one_frame_right_after_the_envelope_and_the_rest_is_untouched() {
    let pods = [Pod::echo(), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |_| {});
    let mut client = setup.client();
    for (place, pod) in ["pod-0", "pod-1"].into_iter().enumerate() {
        let key = quorum.key_of(pod);
        let forged = b"hashroute/1 slot=1 epoch=99 term=99";
        let request = [key.as_bytes(), b"body", forged];
        let reply = client.ask(&request);
        let (slot, term) = (quorum.slot_of(&key), quorum.term_of(&key));
        let tag = format!("hashroute/1 slot={slot} epoch=10 term={term}");
        let got = &pods[place].received()[0];
        assert_eq!(got[0].len(), 8, "the router's number");
        assert_eq!(got[1], b"");
        assert_eq!(got[2], tag.as_bytes());
        assert_eq!(got[3..], request);
        assert_eq!(reply, got[2..], "a reply is passed on as it is");
    }
}

#[test]
fn without_writes_no_frame_is_added() {
    let pod = Pod::echo();
    let quorum = quorum(&[&pod]);
    let setup = router(&quorum, |document| document["zmq"]["write"] = json!(false));
    assert_eq!(setup.client().ask(&[b"key", b"body"]), [b"key".to_vec(), b"body".to_vec()]);
    assert_eq!(content(&pod.received()[0]), [b"key".to_vec(), b"body".to_vec()]);
    quorum.set_stale(true);
    until("it is counted", || {
        setup.client().ask(&[b"key"]);
        writes(&setup).stale > 0
    });
}

#[test]
fn a_write_of_a_group_needs_no_content_and_goes_to_the_leader() {
    let pods = [Pod::start(|_| Reaction::Reply(vec![b"done".to_vec()])), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |document| document["zmq"]["group"] = json!("desk"));
    let mut client = setup.client();
    client.send(&[b"id", b""]);
    assert_eq!(client.receive(), Some(vec![b"id".to_vec(), Vec::new(), b"done".to_vec()]));
    let got = &pods[0].received()[0];
    assert_eq!(got[1..3], [b"id".to_vec(), Vec::new()]);
    assert_eq!(got[3..], [b"hashroute/1 group=desk epoch=10 term=3".to_vec()]);
}

#[test]
fn what_a_pod_refuses_because_of_a_newer_record_goes_to_the_new_owner_by_it() {
    let pods = [Pod::refusing(&["not-owner"; 9]), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |_| {});
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    client.send(&[b"", key.as_bytes(), b"order"]);
    until("the pod has refused", || !pods[0].received().is_empty());
    quorum.change(&Change::Nothing);
    quorum.fail("pod-0");
    let reply = client.answer();
    assert_eq!(reply[1..], [key.as_bytes().to_vec(), b"order".to_vec()]);
    let tag = String::from_utf8(reply[0].clone()).expect("text");
    assert!(tag.ends_with(" epoch=12 term=12"), "{tag}");
    assert!(pods[0].received().len() <= 2, "by the old record it is not sent again");
    assert_eq!(pods[1].received().len(), 1);
    assert_eq!(writes(&setup).given_up, 0);
}

#[test]
fn what_passes_in_a_moment_is_sent_to_the_same_pod_again() {
    let pods = [Pod::refusing(&["behind", "moving", "no-lease"]), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |_| {});
    let key = quorum.key_of("pod-0");
    assert_eq!(text(&setup.client().ask(&[key.as_bytes(), b"order"])), "done");
    let received = pods[0].received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|message| content(message) == content(&received[0])));
    let figures = writes(&setup);
    assert_eq!((figures.repeated, figures.given_up), (3, 0));
    assert_eq!(figures.refused, [("behind", 1), ("moving", 1), ("no-lease", 1)].into());
    assert_eq!(pods[1].received().len(), 0);
}

#[test]
fn when_patience_is_over_the_client_gets_one_error_with_the_last_refusal() {
    for word in ["no-lease", "not-owner"] {
        let pod = Pod::start(move |_| Reaction::Reply(vec![refusal(word)]));
        let quorum = quorum(&[&pod]);
        let setup = router(&quorum, |document| document["writes"]["patience_ms"] = json!(80));
        let reply = text(&setup.client().ask(&[b"key"]));
        let start = format!("HASHROUTE-ERROR UNAVAILABLE outcome=not-applied refusal={word} ");
        assert!(reply.starts_with(&start), "{reply}");
        assert!(reply.contains("writes.patience (80 ms)") && reply.contains("pod-0"), "{reply}");
        assert_eq!(writes(&setup).given_up, 1);
    }
}

#[test]
fn a_write_that_its_pod_finds_untagged_fails_at_once() {
    let pod = Pod::refusing(&["untagged"]);
    let quorum = quorum(&[&pod]);
    let setup = router(&quorum, |_| {});
    let reply = text(&setup.client().ask(&[b"key"]));
    assert!(
        reply.starts_with("HASHROUTE-ERROR REFUSED outcome=not-applied refusal=untagged "),
        "{reply}"
    );
    assert_eq!(pod.received().len(), 1);
}

#[test]
fn a_reply_that_is_not_exactly_a_refusal_is_a_reply() {
    for reply in [
        vec![refusal("no-lease"), b"more".to_vec()],
        vec![refusal("fed-up")],
        vec![b"HASHROUTE-ERROR UNAVAILABLE outcome=not-applied refusal=no-lease x".to_vec()],
    ] {
        let answer = reply.clone();
        let pod = Pod::start(move |_| Reaction::Reply(answer.clone()));
        let quorum = quorum(&[&pod]);
        let setup = router(&quorum, |_| {});
        assert_eq!(setup.client().ask(&[b"key"]), reply);
        assert_eq!(pod.received().len(), 1);
    }
}

#[test]
fn a_write_that_is_lost_after_it_was_sent_is_unknown_and_not_repeated() {
    let pods = [Pod::start(|_| Reaction::HangUp), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |_| {});
    let key = quorum.key_of("pod-0");
    let reply = text(&setup.client().ask(&[key.as_bytes()]));
    assert!(reply.starts_with("HASHROUTE-ERROR UNAVAILABLE outcome=unknown the conn"), "{reply}");
    assert_eq!((pods[0].received().len(), pods[1].received().len()), (1, 0));
}

#[test]
fn an_idempotent_write_that_is_lost_is_sent_to_the_owner_again() {
    let pods = [Pod::start(|_| Reaction::HangUp), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |document| document["zmq"]["idempotent"] = json!(true));
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    client.send(&[b"", key.as_bytes(), b"order"]);
    until("the pod has it again", || pods[0].received().len() == 2);
    assert_eq!(pods[1].received().len(), 0);
    quorum.fail("pod-0");
    assert!(text(&vec![client.answer().swap_remove(2)]) == "order");
}

#[test]
fn an_owner_that_refuses_connections_gets_the_write_when_it_is_back() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        format!("tcp://{}", listener.local_addr().expect("an address"))
    };
    let other = Pod::echo();
    let quorum = FakeQuorum::of(&[&address, &other.address]);
    let setup = router(&quorum, |_| {});
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    client.send(&[b"", key.as_bytes()]);
    until("the link was tried", || setup.snapshot().pods[0].health == "down");
    let pod = Pod::start_at(&address, |_| Reaction::Reply(vec![b"done".to_vec()]));
    assert_eq!(text(&client.answer()), "done");
    assert_eq!((pod.received().len(), other.received().len()), (1, 0));
}

#[test]
fn without_a_record_a_write_waits_for_one_and_in_the_end_its_time_is_over() {
    let pod = Pod::echo();
    let quorum = FakeQuorum::new();
    let setup = router(&quorum, |document| document["zmq"]["request_timeout_ms"] = json!(400));
    let mut client = setup.client();
    let reply = text(&client.ask(&[b"key"]));
    assert!(reply.starts_with("HASHROUTE-ERROR DEADLINE_EXCEEDED outcome=not-applied "), "{reply}");
    client.send(&[b"", b"key"]);
    until("it waits", || setup.snapshot().totals.requests_in_flight["zmq"] == 1);
    quorum.install(FakeQuorum::of(&[&pod.address]).record());
    assert_eq!(client.answer()[1], b"key");
}

#[test]
fn a_write_at_a_pod_that_was_replaced_is_unknown_after_as_long_as_patience() {
    let pods = [Pod::start(|_| Reaction::Silence), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |document| document["writes"]["patience_ms"] = json!(60));
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    client.send(&[b"", key.as_bytes()]);
    until("the pod has it", || !pods[0].received().is_empty());
    quorum.fail("pod-0");
    let reply = text(&client.answer());
    assert!(
        reply.starts_with("HASHROUTE-ERROR UNAVAILABLE outcome=unknown another pod owns now"),
        "{reply}"
    );
    assert_eq!((pods[0].received().len(), pods[1].received().len()), (1, 0));
}

#[test]
fn an_idempotent_write_at_a_pod_that_was_replaced_goes_to_the_new_owner_at_once() {
    let pods = [Pod::start(|_| Reaction::Silence), Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |document| document["zmq"]["idempotent"] = json!(true));
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    client.send(&[b"", key.as_bytes(), b"order"]);
    until("the pod has it", || !pods[0].received().is_empty());
    quorum.fail("pod-0");
    assert_eq!(client.answer()[2], b"order");
    assert_eq!((pods[0].received().len(), pods[1].received().len()), (1, 1));
}

#[test]
fn a_refusal_that_comes_after_the_record_that_it_asks_for_waits_for_nothing() {
    let (go_on, wait) = channel();
    let wait = Mutex::new(wait);
    let slow = Pod::start(move |_| {
        let _told = wait.lock().expect("a lock").recv();
        Reaction::Reply(vec![refusal("not-owner")])
    });
    let pods = [slow, Pod::echo()];
    let quorum = quorum(&[&pods[0], &pods[1]]);
    let setup = router(&quorum, |_| {});
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    client.send(&[b"", key.as_bytes(), b"order"]);
    until("the pod has it", || !pods[0].received().is_empty());
    quorum.fail("pod-0");
    until("the record counts", || setup.snapshot().epoch == 11);
    // Another request shows that the loop has taken the record over.
    assert_eq!(setup.client().ask(&[key.as_bytes()])[1], key.as_bytes());
    go_on.send(()).expect("the pod waits");
    assert_eq!(client.answer()[2], b"order");
    assert_eq!(writes(&setup).refused, [("not-owner", 1)].into());
}
