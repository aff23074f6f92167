//! The guard in front of a service: what it admits, what it refuses, what the service sees.
use std::rc::Rc;
use std::sync::Arc;

use hashroute_coordination::{Resource, WriteRefusal, WriteTag};
use hashroute_core::{Epoch, Slot};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::support::{
    Answer, Call, Client, FakeQuorum, Options, Pod, Setup, frame, run, start, status_trailers,
    until, writer,
};

const METHOD: &str = "/test.Service/Method";
const READ: &str = "/read.Service/Method";

type Headers = Vec<(&'static str, String)>;

/// A service, and the guard of pod-0 in front of it.
struct Guarded {
    service: Pod,
    quorum: Arc<FakeQuorum>,
    setup: Setup,
    address: String,
}

impl Guarded {
    async fn new(service: Pod, change: impl FnOnce(&mut Options)) -> Self {
        let quorum = FakeQuorum::of(&["127.0.0.1:1"]);
        let mut options = Options::writing(&quorum);
        options.guard = json!({
            "grpc": {"listen": "127.0.0.1:0", "service": service.address},
            "zmq": null,
            "untagged": "reject",
        });
        change(&mut options);
        let setup = Setup::at(&["127.0.0.1:1"], options);
        let sidecar = setup.sidecar.borrow();
        let address = sidecar.as_ref().expect("a sidecar").addresses().guard_grpc.clone();
        drop(sidecar);
        Self { service, quorum, setup, address: address.expect("the guard's address") }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.address).await
    }

    /// The headers that a router sends with a write of `key`.
    fn tagged(&self, key: &str, more: &[(&'static str, &str)]) -> Headers {
        let slot = self.quorum.slot_of(key).to_string();
        let mut headers = vec![
            ("x-hashroute-key", key.to_owned()),
            ("x-hashroute-slot", slot),
            ("x-hashroute-epoch", "10".to_owned()),
            ("x-hashroute-term", "4".to_owned()),
        ];
        headers.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        headers
    }

    async fn write(&self, client: &mut Client, headers: &[(&str, String)]) -> Answer {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client.call(METHOD, &headers, &frame(b"order")).await.expect("an answer")
    }

    /// The value of a header in the last request that the service has got.
    fn got(&self, name: &str) -> Option<String> {
        let heads = self.service.heads();
        let mut values = heads.last().expect("a request").headers().get_all(name).iter();
        let value = values.next().map(|value| value.to_str().expect("text").to_owned());
        assert!(values.next().is_none(), "{name} is there once");
        value
    }

    fn refused(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.setup.snapshot().guard.expect("a guard").refused
    }
}

#[test]
fn an_admitted_write_reaches_the_service_under_the_term_of_its_admission() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |_| {}).await;
        guarded.quorum.guard.admit_under(12, 11);
        let mut client = guarded.client().await;
        let headers = guarded.tagged("AAPL", &[]);
        let answer = guarded.write(&mut client, &headers).await.ok();
        assert_eq!(answer.body, frame(b"order"));
        assert_eq!(guarded.got("x-hashroute-term").as_deref(), Some("11"));
        assert_eq!(guarded.got("x-hashroute-epoch").as_deref(), Some("12"));
        let slot = guarded.quorum.slot_of("AAPL");
        assert_eq!(guarded.got("x-hashroute-slot"), Some(slot.to_string()));
        let tag = WriteTag { epoch: Epoch::new(10), term: Epoch::new(4) };
        assert_eq!(guarded.quorum.guard.asked(), [(Resource::Slot(slot), Some(tag))]);
        until("it is over", || guarded.quorum.guard.under_way() == 0).await;
        let figures = guarded.setup.snapshot().guard.expect("a guard");
        assert_eq!((figures.admitted, figures.passed, figures.refused.len()), (1, 0, 0));
    });
}

#[test]
fn what_is_no_write_passes_without_a_term() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |_| {}).await;
        guarded.quorum.guard.refuse(WriteRefusal::NoLease);
        let mut client = guarded.client().await;
        let headers = [("x-hashroute-term", "999"), ("x-hashroute-slot", "5")];
        client.call(READ, &headers, &frame(b"m")).await.expect("an answer").ok();
        assert_eq!(guarded.got("x-hashroute-term"), None, "no service takes this for a token");
        assert_eq!(guarded.got("x-hashroute-slot").as_deref(), Some("5"));
        assert_eq!(guarded.quorum.guard.asked(), []);
        assert_eq!(guarded.setup.snapshot().guard.expect("a guard").passed, 1);
    });
}

#[test]
fn a_refusal_says_its_word_that_nothing_was_applied_and_the_guards_epoch() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |_| {}).await;
        let mut client = guarded.client().await;
        let resource = Resource::Slot(Slot::new(1));
        let (old, new) = (Epoch::new(9), Epoch::new(10));
        let owner = Some(writer("pod-7"));
        for (refusal, word, status, epoch) in [
            (
                WriteRefusal::NotOwner { resource: resource.clone(), epoch: old, owner },
                "not-owner",
                "9",
                "9",
            ),
            (WriteRefusal::StaleTerm { expected: new, got: old }, "stale-term", "9", "10"),
            (WriteRefusal::Behind { installed: old, got: new }, "behind", "14", "9"),
            (WriteRefusal::Moving { resource }, "moving", "14", "10"),
            (WriteRefusal::NoLease, "no-lease", "14", "10"),
        ] {
            guarded.quorum.guard.refuse(refusal);
            let headers = guarded.tagged("AAPL", &[]);
            let answer = guarded.write(&mut client, &headers).await;
            assert!(!answer.error(status, "not-applied").is_empty(), "{answer:?}");
            assert!(answer.trailers.is_none(), "the first headers say all: {answer:?}");
            assert_eq!(answer.head["x-hashroute-refusal"], word);
            assert_eq!(answer.head["x-hashroute-epoch"], epoch, "{word}");
            assert_eq!(guarded.refused()[word], 1);
        }
        assert_eq!((guarded.service.received(), guarded.quorum.guard.under_way()), (0, 0));
    });
}

#[test]
fn a_write_without_a_whole_tag_of_its_own_resource_is_not_judged() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |_| {}).await;
        let mut client = guarded.client().await;
        let slot = guarded.quorum.slot_of("AAPL").get();
        let other = (slot ^ 1).to_string();
        let with = |change: &dyn Fn(&mut Headers)| {
            let mut headers = guarded.tagged("AAPL", &[]);
            change(&mut headers);
            headers
        };
        let cases: [(&str, Headers); 8] = [
            ("no tag", with(&|headers| headers.truncate(1))),
            ("no term", with(&|headers| drop(headers.pop()))),
            ("two terms", with(&|headers| headers.push(("x-hashroute-term", "9".into())))),
            ("no number", with(&|headers| headers[3].1 = "4 ".into())),
            ("a negative term", with(&|headers| headers[3].1 = "-4".into())),
            ("another slot", with(&|headers| headers[1].1.clone_from(&other))),
            ("a group", with(&|headers| headers[1] = ("x-hashroute-group", "desk".into()))),
            ("both", with(&|headers| headers.push(("x-hashroute-group", "desk".into())))),
        ];
        for (what, headers) in cases {
            let answer = guarded.write(&mut client, &headers).await;
            answer.error("9", "not-applied");
            assert_eq!(answer.last("x-hashroute-refusal"), Some("untagged"), "{what}");
        }
        assert_eq!((guarded.service.received(), guarded.quorum.guard.asked().len()), (0, 0));
        assert_eq!(guarded.refused()["untagged"], 8);
    });
}

#[test]
fn a_write_without_a_tag_is_judged_by_the_own_record_if_the_guard_is_told_so() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |options| {
            options.guard["untagged"] = json!("own");
        })
        .await;
        let mut client = guarded.client().await;
        let untagged = [("x-hashroute-key", "AAPL".to_owned())];
        guarded.write(&mut client, &untagged).await.ok();
        let resource = Resource::Slot(guarded.quorum.slot_of("AAPL"));
        assert_eq!(guarded.quorum.guard.asked(), [(resource, None)]);
        assert_eq!(guarded.got("x-hashroute-term").as_deref(), Some("5"));
        // Half a tag is none under either setting.
        let half = [("x-hashroute-key", "AAPL".to_owned()), ("x-hashroute-term", "4".to_owned())];
        let answer = guarded.write(&mut client, &half).await;
        assert_eq!(answer.last("x-hashroute-refusal"), Some("untagged"));
        assert_eq!(guarded.service.received(), 1);
    });
}

#[test]
fn a_group_of_the_rule_counts_and_not_that_of_the_tag() {
    run(async {
        let guarded =
            Guarded::new(Pod::echo().await, |options| options.routes[0]["group"] = json!("a b"))
                .await;
        let mut client = guarded.client().await;
        let mut headers = guarded.tagged("AAPL", &[]);
        headers[1] = ("x-hashroute-group", "a%20b".to_owned());
        guarded.write(&mut client, &headers).await.ok();
        assert_eq!(guarded.quorum.guard.asked()[0].0, Resource::Group("a b".into()));
        assert_eq!(guarded.got("x-hashroute-group").as_deref(), Some("a%20b"));
        for wrong in ["desk", "a b", "a%2", ""] {
            headers[1].1 = wrong.to_owned();
            let answer = guarded.write(&mut client, &headers).await;
            assert_eq!(answer.last("x-hashroute-refusal"), Some("untagged"), "{wrong}");
        }
        let answer = guarded.write(&mut client, &guarded.tagged("AAPL", &[])).await;
        assert_eq!(answer.last("x-hashroute-refusal"), Some("untagged"), "a slot");
    });
}

#[test]
fn a_key_in_the_body_is_found_before_anything_reaches_the_service() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |options| {
            options.routes[0]["key"] = json!([{"field": [1]}]);
        })
        .await;
        let mut client = guarded.client().await;
        let body = frame(b"\x0a\x04AAPL");
        for (key, is_right) in [("AAPL", true), ("MSFT", false)] {
            let headers = guarded.tagged(key, &[]);
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = client.call(METHOD, &headers, &body).await.expect("an answer");
            if is_right {
                assert_eq!(answer.ok().body, body);
            } else {
                answer.error("9", "not-applied");
            }
        }
        assert_eq!(guarded.service.received(), 1);
    });
}

#[test]
fn a_slot_by_the_peer_is_believed_as_only_the_router_has_seen_it() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |options| {
            options.routes[0]["key"] = json!([{"metadata": "x-key"}, "peer"]);
            options.guard["untagged"] = json!("own");
        })
        .await;
        let mut client = guarded.client().await;
        let mut headers = guarded.tagged("of the router's caller", &[]);
        guarded.write(&mut client, &headers).await.ok();
        let slot = guarded.quorum.slot_of("of the router's caller");
        assert_eq!(guarded.quorum.guard.asked()[0].0, Resource::Slot(slot));
        // A key that the guard can see is not taken from the router.
        headers.push(("x-key", "AAPL".to_owned()));
        let answer = guarded.write(&mut client, &headers).await;
        assert_eq!(answer.last("x-hashroute-refusal"), Some("untagged"));
        // Who comes past every router is the peer.
        guarded.write(&mut client, &[]).await.ok();
        let own = guarded.quorum.slot_of("127.0.0.1");
        assert_eq!(guarded.quorum.guard.asked()[1], (Resource::Slot(own), None));
    });
}

#[test]
fn a_write_without_a_key_is_the_callers_mistake() {
    run(async {
        let guarded = Guarded::new(Pod::echo().await, |_| {}).await;
        let headers = &guarded.tagged("AAPL", &[])[1..];
        let answer = guarded.write(&mut guarded.client().await, headers).await;
        assert!(answer.error("3", "not-applied").contains("x-hashroute-key"));
        assert_eq!(guarded.service.received(), 0);
    });
}

#[test]
fn a_write_is_under_way_until_the_service_has_answered_all_of_it() {
    run(async {
        let go_on = Rc::new(Notify::new());
        let told = Rc::clone(&go_on);
        let service = Pod::start(move |mut call: Call| {
            let told = Rc::clone(&told);
            async move {
                call.read().await;
                told.notified().await;
                let mut answer = call.begin();
                answer.send_data(frame(b"half").into(), false).expect("an open stream");
                told.notified().await;
                let _gone = answer.send_trailers(status_trailers("0"));
            }
        })
        .await;
        let guarded = Guarded::new(service, |_| {}).await;
        let mut client = guarded.client().await;
        let headers = guarded.tagged("AAPL", &[]);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the service has it", || guarded.service.received() == 1).await;
        assert_eq!(guarded.quorum.guard.under_way(), 1);
        go_on.notify_one();
        let mut from = response.await.expect("a head").into_body();
        from.data().await.expect("a message").expect("an open stream");
        assert_eq!(guarded.quorum.guard.under_way(), 1, "its answer is not complete");
        go_on.notify_one();
        assert!(from.data().await.is_none());
        until("it is over", || guarded.quorum.guard.under_way() == 0).await;
    });
}

#[test]
fn a_write_whose_caller_left_is_under_way_until_the_service_has_answered() {
    run(async {
        let go_on = Rc::new(Notify::new());
        let told = Rc::clone(&go_on);
        let service = Pod::start(move |mut call: Call| {
            let told = Rc::clone(&told);
            async move {
                let is_whole = call.read().await.is_some();
                told.notified().await;
                let mut answer = call.begin();
                assert!(is_whole && answer.send_trailers(status_trailers("0")).is_ok());
            }
        })
        .await;
        let guarded = Guarded::new(service, |_| {}).await;
        for timeout in [None, Some("40m")] {
            let mut client = guarded.client().await;
            let more: Vec<_> = timeout.map(|value| ("grpc-timeout", value)).into_iter().collect();
            let headers = guarded.tagged("AAPL", &more);
            let headers: Vec<(&str, &str)> =
                headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let before = guarded.service.received();
            let (response, mut to) = client.open(METHOD, &headers).await;
            to.send_data(frame(b"m").into(), true).expect("an open stream");
            until("the service has it", || guarded.service.received() > before).await;
            if timeout.is_some() {
                Answer::read(response).await.expect("an answer").error("4", "unknown");
            } else {
                client.cut();
            }
            until("nobody waits", || {
                guarded.setup.snapshot().guard.expect("a guard").requests_in_flight["grpc"] == 0
            })
            .await;
            assert_eq!(guarded.quorum.guard.under_way(), 1);
            go_on.notify_one();
            until("it is over", || guarded.quorum.guard.under_way() == 0).await;
        }
    });
}

#[test]
fn a_write_that_is_not_whole_when_its_caller_leaves_is_broken_off() {
    run(async {
        let broken = Rc::new(Notify::new());
        let tell = Rc::clone(&broken);
        let service = Pod::start(move |mut call: Call| {
            let tell = Rc::clone(&tell);
            async move {
                assert!(call.read().await.is_none(), "the rest never comes");
                tell.notify_one();
            }
        })
        .await;
        let guarded = Guarded::new(service, |_| {}).await;
        let mut client = guarded.client().await;
        let headers = guarded.tagged("AAPL", &[]);
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (_response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(frame(b"m").into(), false).expect("an open stream");
        until("the service has it", || guarded.service.received() == 1).await;
        client.cut();
        broken.notified().await;
        until("it is over", || guarded.quorum.guard.under_way() == 0).await;
    });
}

#[test]
fn a_service_that_cannot_be_reached_leaves_nothing_applied_and_nothing_under_way() {
    run(async {
        let service = Pod::echo().await;
        let guarded = Guarded::new(service, |_| {}).await;
        let mut client = guarded.client().await;
        guarded.service.kill();
        until("the connection is gone", || guarded.service.connections() == 0).await;
        let headers = guarded.tagged("AAPL", &[]);
        let answer = loop {
            // What was on its way when the service died may be unknown; what comes later is not.
            let answer = guarded.write(&mut client, &headers).await;
            if answer.last("x-hashroute-outcome") == Some("not-applied") {
                break answer;
            }
        };
        let text = answer.error("14", "not-applied");
        assert!(text.contains("the service"), "{text}");
        assert_eq!(answer.last("x-hashroute-refusal"), None);
        until("it is over", || guarded.quorum.guard.under_way() == 0).await;
    });
}

#[test]
fn through_router_and_guard_a_caller_sees_one_answer() {
    run(async {
        let services = [Pod::echo().await, Pod::echo().await];
        let guards = [
            Guarded::new(Pod::echo().await, |options| point_at(options, &services[0])).await,
            Guarded::new(Pod::echo().await, |options| point_at(options, &services[1])).await,
        ];
        let quorum = FakeQuorum::of(&[&guards[0].address, &guards[1].address]);
        let router =
            Setup::at(&[&guards[0].address, &guards[1].address], Options::writing(&quorum));
        let key = quorum.key_of("pod-0");
        let mut client = router.client().await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-0");
        // The router's tag is whole and of the right resource, and so the guard was asked.
        let term = quorum.term_of(&key);
        let tag = WriteTag { epoch: Epoch::new(10), term: Epoch::new(term) };
        let resource = Resource::Slot(quorum.slot_of(&key));
        assert_eq!(guards[0].quorum.guard.asked(), [(resource, Some(tag))]);
        // Its lease ends; the write waits, the record gives the slot to another, and it goes there.
        guards[0].quorum.guard.refuse(WriteRefusal::NoLease);
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(frame(b"order").into(), true).expect("an open stream");
        until("the guard has refused", || guards[0].refused().contains_key("no-lease")).await;
        quorum.fail("pod-0");
        let answer = Answer::read(response).await.expect("an answer").ok();
        assert_eq!((answer.pod(), &answer.body), ("pod-1", &frame(b"order")));
        assert_eq!((services[0].received(), services[1].received()), (1, 1));
    });
}

fn point_at(options: &mut Options, service: &Pod) {
    options.guard["grpc"]["service"] = Value::from(service.address.clone());
}

#[test]
fn a_guard_needs_a_pod_of_its_own() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let mut settings = setup.settings();
        settings.guard = serde_json::from_value(json!({
            "grpc": {"listen": "127.0.0.1:0", "service": pod.address}, "zmq": null,
            "untagged": "reject",
        }))
        .expect("settings");
        let error = hashroute_sidecar::Sidecar::start(settings).expect_err("no member");
        assert!(error.to_string().contains("quorum.pod"), "{error}");
    });
}
