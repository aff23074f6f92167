//! The guard's part: what it admits reaches the service without its tag, what it refuses does not.
use std::sync::Arc;
use std::sync::mpsc::channel;

use hashroute_coordination::{Resource, WriteRefusal, WriteTag};
use hashroute_core::Epoch;
use serde_json::json;

use super::quorum::FakeQuorum;
use super::support::{Message, Peer, Pod, Reaction, Setup, guard, router, until};

fn tag(quorum: &FakeQuorum, key: &str) -> String {
    format!("hashroute/1 slot={} epoch=10 term=4", quorum.slot_of(key))
}

/// A service with its guard.
fn guarded(service: &Pod) -> (Arc<FakeQuorum>, Setup) {
    let quorum = FakeQuorum::of(&["tcp://127.0.0.1:1"]);
    let setup = guard(&quorum, &service.address, |_| {});
    (quorum, setup)
}

fn error(reply: &Message) -> String {
    assert_eq!(reply.len(), 1, "{reply:?}");
    String::from_utf8(reply[0].clone()).expect("text")
}

/// Asks until the service can be reached.
fn ask_when_up(client: &mut Peer, content: &[&[u8]]) -> Message {
    loop {
        let reply = client.ask(content);
        if !reply[0].starts_with(b"HASHROUTE-ERROR UNAVAILABLE outcome=not-applied the service") {
            return reply;
        }
    }
}

#[test]
fn an_admitted_write_reaches_the_service_as_its_client_sent_it() {
    let service = Pod::echo();
    let (quorum, setup) = guarded(&service);
    let mut client = setup.client();
    let own = tag(&quorum, "AAPL");
    let reply = ask_when_up(&mut client, &[own.as_bytes(), b"AAPL", b"order"]);
    assert_eq!(reply, [b"AAPL".to_vec(), b"order".to_vec()]);
    let got = service.received();
    assert_eq!(got[0][0].len(), 8, "the guard's number");
    assert_eq!(got[0][1..], [Vec::new(), b"AAPL".to_vec(), b"order".to_vec()]);
    let expected = WriteTag { epoch: Epoch::new(10), term: Epoch::new(4) };
    let asked = quorum.guard.asked();
    assert_eq!(asked[0], (Resource::Slot(quorum.slot_of("AAPL")), Some(expected)));
    until("it is over", || quorum.guard.under_way() == 0);
    assert!(setup.snapshot().guard.expect("a guard").admitted >= 1);
    assert_eq!(setup.snapshot().totals.requests, 0, "it is no router");
}

#[test]
fn a_refusal_is_the_envelope_and_one_frame_and_nothing_reaches_the_service() {
    let service = Pod::echo();
    let (quorum, setup) = guarded(&service);
    let own = tag(&quorum, "AAPL");
    let resource = Resource::Slot(quorum.slot_of("AAPL"));
    let mut client = setup.client();
    let (old, new) = (Epoch::new(9), Epoch::new(10));
    for (refusal, start) in [
        (
            WriteRefusal::NotOwner { resource: resource.clone(), epoch: old, owner: None },
            "refusal=not-owner epoch=9 ",
        ),
        (WriteRefusal::StaleTerm { expected: new, got: old }, "refusal=stale-term epoch=10 "),
        (WriteRefusal::Behind { installed: old, got: new }, "refusal=behind epoch=9 "),
        (WriteRefusal::Moving { resource }, "refusal=moving epoch=10 "),
        (WriteRefusal::NoLease, "refusal=no-lease epoch=10 "),
    ] {
        quorum.guard.refuse(refusal);
        client.send(&[b"12345678", b"id", b"", own.as_bytes(), b"AAPL"]);
        let reply = client.receive().expect("a reply");
        assert_eq!(reply[..3], [b"12345678".to_vec(), b"id".to_vec(), Vec::new()]);
        let text = error(&reply[3..].to_vec());
        let start = format!("HASHROUTE-ERROR REFUSED outcome=not-applied {start}");
        assert!(text.starts_with(&start) && text.len() > start.len(), "{text}");
    }
    assert_eq!((service.received().len(), quorum.guard.under_way()), (0, 0));
    assert_eq!(setup.snapshot().guard.expect("a guard").refused.len(), 5);
}

#[test]
fn a_write_without_a_whole_tag_of_its_own_resource_is_not_judged() {
    let service = Pod::echo();
    let (quorum, setup) = guarded(&service);
    let mut client = setup.client();
    let slot = quorum.slot_of("AAPL").get();
    let tags = [
        None,
        Some("hashroute/2 slot=1 epoch=10 term=4".to_owned()),
        Some(format!("hashroute/1 slot={slot} epoch=10")),
        Some(format!("hashroute/1 slot={slot} epoch=10 term=4 ")),
        Some(format!("hashroute/1 slot={} epoch=10 term=4", slot ^ 1)),
        Some("hashroute/1 group=desk epoch=10 term=4".to_owned()),
    ];
    for tag in &tags {
        let frames: Vec<&[u8]> =
            tag.iter().map(String::as_bytes).chain([&b"AAPL"[..], b"order"]).collect();
        let text = error(&client.ask(&frames));
        let start = "HASHROUTE-ERROR REFUSED outcome=not-applied refusal=untagged epoch=10 ";
        assert!(text.starts_with(start), "{tag:?}: {text}");
    }
    assert_eq!((service.received().len(), quorum.guard.asked().len()), (0, 0));
    assert_eq!(setup.snapshot().guard.expect("a guard").refused["untagged"], 6);
}

#[test]
fn a_write_without_a_tag_is_judged_by_the_own_record_if_the_guard_is_told_so() {
    let service = Pod::echo();
    let quorum = FakeQuorum::of(&["tcp://127.0.0.1:1"]);
    let setup = guard(&quorum, &service.address, |document| {
        document["guard"]["untagged"] = json!("own");
    });
    let mut client = setup.client();
    let reply = ask_when_up(&mut client, &[b"AAPL", b"order"]);
    assert_eq!(reply, [b"AAPL".to_vec(), b"order".to_vec()]);
    assert_eq!(quorum.guard.asked()[0], (Resource::Slot(quorum.slot_of("AAPL")), None));
    let text = error(&client.ask(&[b"hashroute/1 slot=1", b"AAPL"]));
    assert!(text.contains("refusal=untagged"), "half a tag is none: {text}");
}

#[test]
fn a_message_that_is_all_tag_becomes_its_envelope_again() {
    let service = Pod::start(|_| Reaction::Reply(vec![b"done".to_vec()]));
    let quorum = FakeQuorum::of(&["tcp://127.0.0.1:1"]);
    let setup = guard(&quorum, &service.address, |document| {
        document["zmq"]["group"] = json!("desk");
    });
    let mut client = setup.client();
    let reply = ask_when_up(&mut client, &[b"hashroute/1 group=desk epoch=10 term=3"]);
    assert_eq!(reply, [b"done".to_vec()]);
    assert_eq!(service.received()[0][1..], [Vec::<u8>::new()]);
    assert_eq!(quorum.guard.asked()[0].0, Resource::Group("desk".into()));
}

#[test]
fn what_is_no_write_passes_and_what_claims_to_be_one_does_not() {
    let service = Pod::echo();
    let quorum = FakeQuorum::of(&["tcp://127.0.0.1:1"]);
    let setup = guard(&quorum, &service.address, |document| {
        document["zmq"]["write"] = json!(false);
    });
    quorum.guard.refuse(WriteRefusal::NoLease);
    let mut client = setup.client();
    assert_eq!(ask_when_up(&mut client, &[b"AAPL"]), [b"AAPL".to_vec()]);
    let own = tag(&quorum, "AAPL");
    let text = error(&client.ask(&[own.as_bytes(), b"AAPL"]));
    assert!(text.contains("refusal=untagged") && text.contains("zmq.write"), "{text}");
    assert_eq!((service.received().len(), quorum.guard.asked().len()), (1, 0));
}

#[test]
fn a_write_is_under_way_until_the_service_has_answered_also_if_its_client_left() {
    let (go_on, wait) = channel();
    let wait = std::sync::Mutex::new(wait);
    let service = Pod::start(move |content| {
        let _told = wait.lock().expect("a lock").recv();
        Reaction::Reply(content.to_vec())
    });
    let (quorum, setup) = guarded(&service);
    let own = tag(&quorum, "AAPL");
    let mut client = setup.client();
    loop {
        client.send(&[b"", own.as_bytes(), b"AAPL"]);
        until("it is judged", || {
            quorum.guard.under_way() == 1
                || setup.snapshot().guard.expect("a guard").by_status.len() == 1
        });
        if quorum.guard.under_way() == 1 {
            break;
        }
        client.answer();
    }
    until("the service has it", || service.received().len() == 1);
    assert_eq!(quorum.guard.under_way(), 1);
    drop(client);
    until("the client is gone", || {
        setup.snapshot().guard.expect("a guard").connections["zmq"] == 0
    });
    assert_eq!(quorum.guard.under_way(), 1);
    go_on.send(()).expect("the service waits");
    until("it is over", || quorum.guard.under_way() == 0);
}

#[test]
fn a_service_that_is_lost_leaves_the_write_unknown_and_nothing_under_way() {
    let service = Pod::start(|_| Reaction::HangUp);
    let (quorum, setup) = guarded(&service);
    let own = tag(&quorum, "AAPL");
    let mut client = setup.client();
    let text = error(&ask_when_up(&mut client, &[own.as_bytes(), b"AAPL"]));
    assert!(text.starts_with("HASHROUTE-ERROR UNAVAILABLE outcome=unknown the conn"), "{text}");
    assert_eq!(service.received().len(), 1, "it is not sent again");
    until("it is over", || quorum.guard.under_way() == 0);
    service.kill();
    let mut answers = (0..200).map(|_| error(&client.ask(&[own.as_bytes(), b"AAPL"])));
    let is_certain = |text: String| text.contains("outcome=not-applied the service cannot");
    assert!(answers.any(is_certain));
    until("it is over", || quorum.guard.under_way() == 0);
}

#[test]
fn through_router_and_guard_a_client_sees_one_answer_and_the_service_no_tag() {
    let services = [Pod::echo(), Pod::echo()];
    let guards = [guarded(&services[0]), guarded(&services[1])];
    let quorum = FakeQuorum::of(&[&guards[0].1.address, &guards[1].1.address]);
    let setup = router(&quorum, |_| {});
    let key = quorum.key_of("pod-0");
    let mut client = setup.client();
    let request = [key.as_bytes(), &[7; 20_000]];
    assert_eq!(ask_when_up(&mut client, &request), request);
    let count = services[0].received().len();
    guards[0].0.guard.refuse(WriteRefusal::NoLease);
    client.send(&[b"", key.as_bytes(), b"order"]);
    until("the guard has refused", || {
        guards[0].1.snapshot().guard.expect("a guard").refused.contains_key("no-lease")
    });
    quorum.fail("pod-0");
    assert_eq!(client.answer(), [key.as_bytes().to_vec(), b"order".to_vec()]);
    assert_eq!((services[0].received().len(), services[1].received().len()), (count, 1));
}
