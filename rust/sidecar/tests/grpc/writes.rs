//! What has one writer: to the owner by the newest record, to nobody else, and one answer.
use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use h2::Reason;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::support::{
    Answer, Call, Client, FakeQuorum, Options, Pod, Setup, frame, run, start, status_trailers,
    unframe, until,
};

mod streams;

const METHOD: &str = "/test.Service/Method";

/// Two pods, a router before them, and the quorum that names them.
struct Desk {
    pods: [Pod; 2],
    quorum: std::sync::Arc<FakeQuorum>,
    setup: Setup,
}

impl Desk {
    async fn new(first: Pod, second: Pod, change: impl FnOnce(&mut Options)) -> Self {
        let quorum = FakeQuorum::of(&[&first.address, &second.address]);
        let mut options = Options::writing(&quorum);
        change(&mut options);
        let setup = start(&[&first, &second], options);
        Self { pods: [first, second], quorum, setup }
    }

    /// Sends a write whose key the first pod owns, and leaves it under way.
    async fn begin(&self, client: &mut Client) -> tokio::task::JoinHandle<Answer> {
        let key = self.quorum.key_of("pod-0");
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(frame(b"order").into(), true).expect("an open stream");
        tokio::task::spawn_local(async move { Answer::read(response).await.expect("an answer") })
    }

    fn received(&self) -> [usize; 2] {
        [self.pods[0].received(), self.pods[1].received()]
    }
}

/// A pod that takes writes and answers them when it is told to.
async fn slow_pod(release: &Rc<Notify>) -> Pod {
    let release = Rc::clone(release);
    Pod::start(move |mut call: Call| {
        let release = Rc::clone(&release);
        async move {
            call.read().await;
            release.notified().await;
            let mut answer = call.begin();
            let _gone = answer.send_trailers(status_trailers("0"));
        }
    })
    .await
}

async fn mute_pod() -> Pod {
    Pod::start(|mut call: Call| async move {
        call.read().await;
        std::future::pending::<()>().await;
    })
    .await
}

async fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn a_write_goes_to_its_owner_with_the_tag_of_the_record_in_place_of_any_forged_one() {
    run(async {
        let desk = Desk::new(Pod::echo().await, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        for pod in ["pod-0", "pod-1"] {
            let key = desk.quorum.key_of(pod);
            let headers = [
                ("x-hashroute-key", key.as_str()),
                ("x-hashroute-slot", "1"),
                ("x-hashroute-term", "99"),
                ("x-hashroute-term", "98"),
                ("x-hashroute-epoch", "97"),
                ("x-hashroute-group", "desk"),
                ("x-hashroute-stale", "true"),
            ];
            let answer = client.call(METHOD, &headers, &frame(b"m")).await.expect("an answer").ok();
            assert_eq!(answer.pod(), pod);
            assert!(!answer.head.contains_key("x-hashroute-stale"));
            let place = usize::from(pod == "pod-1");
            let heads = desk.pods[place].heads();
            let got = heads.last().expect("a request").headers();
            let only = |name| {
                let mut values = got.get_all(name).iter();
                let value = values.next().map(|value| value.to_str().expect("text").to_owned());
                assert!(values.next().is_none(), "{name} is there once");
                value
            };
            let slot = desk.quorum.slot_of(&key).to_string();
            assert_eq!(only("x-hashroute-slot"), Some(slot));
            assert_eq!(only("x-hashroute-term"), Some(desk.quorum.term_of(&key).to_string()));
            assert_eq!(only("x-hashroute-epoch"), Some("10".to_owned()));
            assert_eq!(only("x-hashroute-group"), None);
            assert_eq!(only("x-hashroute-stale"), None);
        }
    });
}

#[test]
fn a_write_of_a_group_goes_to_its_leader_and_needs_no_key() {
    run(async {
        let desk = Desk::new(Pod::echo().await, Pod::echo().await, |options| {
            options.routes[0]["group"] = json!("desk");
            options.routes[0]["key"] = json!([]);
        })
        .await;
        let mut client = desk.setup.client().await;
        let headers = [("x-hashroute-slot", "5"), ("x-hashroute-group", "other")];
        let answer = client.call(METHOD, &headers, &frame(b"m")).await.expect("an answer");
        assert_eq!(answer.ok().pod(), "pod-0");
        desk.quorum.fail("pod-0");
        until("the record counts", || desk.setup.snapshot().epoch == 11).await;
        let answer = client.call(METHOD, &headers, &frame(b"m")).await.expect("an answer");
        assert_eq!(answer.ok().pod(), "pod-1");
        let heads = desk.pods[0].heads();
        let got = heads[0].headers();
        assert_eq!(got["x-hashroute-group"], "desk");
        assert_eq!(
            (&got["x-hashroute-term"], &got["x-hashroute-epoch"]),
            (&"3".parse().expect("a value"), &"10".parse().expect("a value"))
        );
        assert!(!got.contains_key("x-hashroute-slot"));
        assert_eq!(desk.pods[1].heads()[0].headers()["x-hashroute-term"], "11");
    });
}

#[test]
fn a_write_goes_to_nobody_but_its_owner() {
    run(async {
        let other = Pod::echo().await;
        let dead = dead_address().await;
        let quorum = FakeQuorum::of(&[&dead, &other.address]);
        let mut options = Options::writing(&quorum);
        options.patience_ms = 50;
        let setup = Setup::at(&[&dead, &other.address], options);
        let key = quorum.key_of("pod-0");
        let answer = setup.client().await.unary(&key, b"m").await;
        let text = answer.error("14", "not-applied");
        assert!(text.contains("writes.patience (50 ms)") && text.contains("pod-0"), "{text}");
        assert_eq!(answer.last("x-hashroute-refusal"), None);
        assert_eq!(other.received(), 0);
        let snapshot = setup.snapshot();
        assert_eq!((snapshot.writes.given_up, snapshot.pods[1].failovers), (1, 0));
    });
}

#[test]
fn what_a_pod_refuses_because_of_a_newer_record_goes_to_the_new_owner_by_it() {
    run(async {
        for word in ["not-owner", "stale-term"] {
            let refusing = Pod::refusing(&[word; 9]).await;
            let desk = Desk::new(refusing, Pod::echo().await, |_| {}).await;
            let mut client = desk.setup.client().await;
            let answer = desk.begin(&mut client).await;
            until("the pod has refused", || desk.pods[0].received() == 1).await;
            desk.quorum.fail("pod-0");
            let answer = answer.await.expect("a task").ok();
            assert_eq!((answer.pod(), unframe(&answer.body)), ("pod-1", &b"order"[..]));
            assert!(!answer.head.contains_key("x-hashroute-refusal"));
            assert_eq!(desk.received(), [1, 1], "by the old record it is not sent again");
            let heads = desk.pods[1].heads();
            assert_eq!(heads[0].headers()["x-hashroute-epoch"], "11");
            assert_eq!(heads[0].headers()["x-hashroute-term"], "11");
            let writes = desk.setup.snapshot().writes;
            assert_eq!((writes.repeated, writes.given_up), (1, 0));
            assert_eq!(writes.refused, [(word, 1)].into());
        }
    });
}

#[test]
fn a_record_older_than_the_one_that_a_pod_refused_by_is_waited_out() {
    run(async {
        let refusing =
            Pod::start(|call: Call| async move { call.refuse_write("not-owner", Some(12)) }).await;
        let desk = Desk::new(refusing, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the pod has refused", || desk.pods[0].received() == 1).await;
        desk.quorum.change(&hashroute_coordination::Change::Nothing);
        until("the record counts", || desk.setup.snapshot().epoch == 11).await;
        desk.quorum.fail("pod-0");
        assert_eq!(answer.await.expect("a task").ok().pod(), "pod-1");
        assert_eq!(desk.received(), [1, 1]);
    });
}

#[test]
fn what_passes_in_a_moment_is_sent_to_the_same_pod_again() {
    run(async {
        let words = ["behind", "moving", "no-lease", "behind", "moving"];
        let desk = Desk::new(Pod::refusing(&words).await, Pod::echo().await, |_| {}).await;
        let key = desk.quorum.key_of("pod-0");
        let answer = desk.setup.client().await.unary(&key, b"order").await.ok();
        assert_eq!((answer.pod(), unframe(&answer.body)), ("pod-0", &b"order"[..]));
        assert_eq!(desk.received(), [6, 0]);
        let writes = desk.setup.snapshot().writes;
        assert_eq!(writes.repeated, 5);
        assert_eq!(writes.refused, [("behind", 2), ("moving", 2), ("no-lease", 1)].into());
        assert_eq!(
            desk.setup.snapshot().pods[0].requests["grpc"].error,
            0,
            "no fault of the pod's"
        );
    });
}

#[test]
fn a_newer_record_ends_the_pause_after_a_refusal() {
    run(async {
        let refusing =
            Pod::start(|call: Call| async move { call.refuse_write("moving", None) }).await;
        let desk = Desk::new(refusing, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the pod has refused", || desk.pods[0].received() > 3).await;
        desk.quorum.drain("pod-0");
        assert_eq!(answer.await.expect("a task").ok().pod(), "pod-1");
    });
}

#[test]
fn when_patience_is_over_the_caller_sees_one_error_with_the_last_refusal() {
    run(async {
        for (word, status) in [("no-lease", "14"), ("not-owner", "14")] {
            let refusing =
                Pod::start(move |call: Call| async move { call.refuse_write(word, None) }).await;
            let desk =
                Desk::new(refusing, Pod::echo().await, |options| options.patience_ms = 100).await;
            let key = desk.quorum.key_of("pod-0");
            let answer = desk.setup.client().await.unary(&key, b"order").await;
            let text = answer.error(status, "not-applied");
            assert!(
                text.contains("pod pod-0") && text.contains("writes.patience (100 ms)"),
                "{text}"
            );
            assert_eq!(answer.last("x-hashroute-refusal"), Some(word));
            let [first, second] = desk.received();
            let is_once = first == 1 || word != "not-owner";
            assert!(second == 0 && first >= 1 && is_once, "{first} {second}");
            assert_eq!(desk.setup.snapshot().writes.given_up, 1);
        }
    });
}

#[test]
fn a_write_that_its_pod_finds_untagged_fails_at_once() {
    run(async {
        let desk = Desk::new(Pod::refusing(&["untagged"]).await, Pod::echo().await, |_| {}).await;
        let key = desk.quorum.key_of("pod-0");
        let answer = desk.setup.client().await.unary(&key, b"order").await;
        answer.error("9", "not-applied");
        assert_eq!(answer.last("x-hashroute-refusal"), Some("untagged"));
        assert_eq!(desk.received(), [1, 0]);
    });
}

#[test]
fn an_answer_of_the_service_is_the_answer_whatever_it_says() {
    run(async {
        let failing = Pod::start(|call: Call| call.refuse("9")).await;
        let strange =
            Pod::start(|call: Call| async move { call.refuse_write("fed-up", None) }).await;
        let desk = Desk::new(failing, strange, |_| {}).await;
        let mut client = desk.setup.client().await;
        let answer = client.unary(&desk.quorum.key_of("pod-0"), b"m").await;
        assert_eq!((answer.status(), answer.last("x-trailing-bin")), ("9", Some("AAEC")));
        assert_eq!(answer.last("x-hashroute-outcome"), None);
        let answer = client.unary(&desk.quorum.key_of("pod-1"), b"m").await;
        assert_eq!(answer.last("x-hashroute-refusal"), Some("fed-up"), "no word that is known");
        assert_eq!(desk.received(), [1, 1]);
    });
}

#[test]
fn without_a_record_a_write_waits_for_one() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let quorum = FakeQuorum::new();
        let setup = start(&[&pods[0], &pods[1]], Options::writing(&quorum));
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "key")];
        let (response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the write is in hand", || setup.snapshot().totals.requests_in_flight["grpc"] == 1)
            .await;
        let known = FakeQuorum::of(&[&pods[0].address, &pods[1].address]);
        quorum.install(known.record());
        Answer::read(response).await.expect("an answer").ok();
        assert_eq!(pods[0].received() + pods[1].received(), 1);
    });
}

#[test]
fn without_an_owner_a_write_waits_and_says_so_in_the_end() {
    run(async {
        let desk = Desk::new(Pod::echo().await, Pod::echo().await, |options| {
            options.patience_ms = 30;
            options.routes[0]["group"] = json!("nobody");
        })
        .await;
        let answer = desk.setup.client().await.unary("key", b"m").await;
        let text = answer.error("14", "not-applied");
        assert!(text.contains("nobody owns group nobody"), "{text}");
        assert_eq!(desk.received(), [0, 0]);
    });
}

#[test]
fn an_owner_that_refuses_connections_gets_the_write_when_it_is_back() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let quorum = FakeQuorum::of(&[&pods[0].address, &pods[1].address]);
        let setup = start(&[&pods[0], &pods[1]], Options::writing(&quorum));
        let [first, second] = pods;
        let (key, address) = (quorum.key_of("pod-0"), first.address.clone());
        let mut client = setup.client().await;
        client.unary(&key, b"m").await.ok();
        drop(first);
        setup.until_health("pod-0", "down").await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("it was tried", || setup.snapshot().writes.repeated > 2).await;
        let again = Pod::start_at(&address, Call::echo).await;
        assert_eq!(Answer::read(response).await.expect("an answer").ok().pod(), "pod-0");
        assert_eq!((again.received(), second.received()), (1, 0));
    });
}

#[test]
fn a_write_that_is_lost_after_it_was_sent_is_unknown_and_not_repeated() {
    run(async {
        let desk = Desk::new(mute_pod().await, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the pod has the write", || desk.pods[0].received() == 1).await;
        desk.pods[0].cut();
        let answer = answer.await.expect("a task");
        assert!(answer.error("14", "unknown").contains("pod-0"));
        assert_eq!(desk.received(), [1, 0]);
    });
}

#[test]
fn a_stream_that_a_pod_breaks_off_is_unknown_and_one_that_it_refuses_unseen_is_sent_again() {
    run(async {
        let reason = Rc::new(Cell::new(Reason::REFUSED_STREAM));
        let next = Rc::clone(&reason);
        let pod = Pod::start(move |mut call: Call| {
            let reason = next.replace(Reason::NO_ERROR);
            async move {
                if reason == Reason::NO_ERROR {
                    return call.echo().await;
                }
                call.respond.send_reset(reason);
            }
        })
        .await;
        let desk = Desk::new(pod, Pod::echo().await, |_| {}).await;
        let key = desk.quorum.key_of("pod-0");
        let mut client = desk.setup.client().await;
        client.unary(&key, b"m").await.ok();
        assert_eq!(desk.received(), [2, 0]);
        reason.set(Reason::INTERNAL_ERROR);
        client.unary(&key, b"m").await.error("13", "unknown");
        assert_eq!(desk.received(), [3, 0]);
    });
}

#[test]
fn an_idempotent_write_that_is_lost_is_sent_to_the_owner_again() {
    run(async {
        let desk = Desk::new(mute_pod().await, Pod::echo().await, |options| {
            options.routes[0]["idempotent"] = json!(true);
        })
        .await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the pod has the write", || desk.pods[0].received() == 1).await;
        desk.pods[0].cut();
        until("the pod has it again", || desk.pods[0].received() == 2).await;
        desk.quorum.fail("pod-0");
        assert_eq!(answer.await.expect("a task").ok().pod(), "pod-1");
        assert_eq!(desk.received(), [2, 1]);
    });
}

#[test]
fn a_write_at_a_pod_that_gave_up_what_it_writes_still_gets_its_answer() {
    run(async {
        let release = Rc::new(Notify::new());
        let desk = Desk::new(slow_pod(&release).await, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the pod has the write", || desk.pods[0].received() == 1).await;
        desk.quorum.drain("pod-0");
        until("the record counts", || desk.setup.snapshot().epoch == 11).await;
        release.notify_one();
        assert_eq!(answer.await.expect("a task").ok().pod(), "pod-0");
        assert_eq!(desk.received(), [1, 0]);
    });
}

#[test]
fn a_write_at_a_pod_that_was_replaced_is_unknown_after_as_long_as_patience() {
    run(async {
        let desk =
            Desk::new(mute_pod().await, Pod::echo().await, |options| options.patience_ms = 60)
                .await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the pod has the write", || desk.pods[0].received() == 1).await;
        assert!(!answer.is_finished());
        desk.quorum.fail("pod-0");
        let answer = answer.await.expect("a task");
        let text = answer.error("14", "unknown");
        assert!(text.contains("another pod owns now"), "{text}");
        assert_eq!(desk.received(), [1, 0]);
    });
}

#[test]
fn the_deadline_ends_the_search_before_patience_does() {
    run(async {
        let refusing =
            Pod::start(|call: Call| async move { call.refuse_write("not-owner", None) }).await;
        let desk = Desk::new(refusing, Pod::echo().await, |_| {}).await;
        let key = desk.quorum.key_of("pod-0");
        let headers = [("x-hashroute-key", key.as_str()), ("grpc-timeout", "80m")];
        let mut client = desk.setup.client().await;
        let answer = loop {
            let answer = client.call(METHOD, &headers, &frame(b"m")).await.expect("an answer");
            // On a machine that stands still the deadline passes before the pod has refused.
            if answer.last("x-hashroute-refusal").is_some() {
                break answer;
            }
            answer.error("4", "unknown");
        };
        answer.error("4", "not-applied");
        assert_eq!(answer.last("x-hashroute-refusal"), Some("not-owner"));
    });
}

#[test]
fn a_write_that_is_sent_again_tells_its_pod_the_time_that_is_left() {
    run(async {
        let pods = [Pod::refusing(&["moving", "moving"]).await, Pod::echo().await];
        let [first, second] = pods;
        let desk = Desk::new(first, second, |_| {}).await;
        let key = desk.quorum.key_of("pod-0");
        let headers = [("x-hashroute-key", key.as_str()), ("grpc-timeout", "30S")];
        let mut client = desk.setup.client().await;
        client.call(METHOD, &headers, &frame(b"m")).await.expect("an answer").ok();
        let heads = desk.pods[0].heads();
        let timeouts = heads.iter().map(|head| head.headers()["grpc-timeout"].clone());
        let timeouts: Vec<_> = timeouts.collect();
        assert_eq!((timeouts.len(), &timeouts[0]), (3, &"30S".parse().expect("a value")));
        assert!(timeouts[1..].iter().all(|timeout| timeout != "30S"), "{timeouts:?}");
    });
}

#[test]
fn the_deadline_of_a_write_that_was_sent_leaves_it_unknown() {
    run(async {
        let desk = Desk::new(mute_pod().await, Pod::echo().await, |_| {}).await;
        let key = desk.quorum.key_of("pod-0");
        let headers = [("x-hashroute-key", key.as_str()), ("grpc-timeout", "60m")];
        let mut client = desk.setup.client().await;
        let answer = client.call(METHOD, &headers, &frame(b"m")).await.expect("an answer");
        answer.error("4", "unknown");
        assert_eq!(answer.last("x-hashroute-refusal"), None);
    });
}

#[test]
fn an_owner_that_does_not_answer_its_probes_is_sent_nothing() {
    run(async {
        let desk = Desk::new(mute_pod().await, Pod::echo().await, |options| {
            options.health["interval_ms"] = json!(10);
        })
        .await;
        desk.pods[0].set_serving(false);
        desk.setup.until_health("pod-0", "down").await;
        let mut client = desk.setup.client().await;
        let answer = desk.begin(&mut client).await;
        until("the write is in hand", || {
            desk.setup.snapshot().totals.requests_in_flight["grpc"] == 1
        })
        .await;
        desk.quorum.fail("pod-0");
        assert_eq!(answer.await.expect("a task").ok().pod(), "pod-1");
        assert_eq!(desk.received(), [0, 1]);
    });
}

#[test]
fn a_caller_that_leaves_while_its_write_waits_is_forgotten() {
    run(async {
        let refusing =
            Pod::start(|call: Call| async move { call.refuse_write("not-owner", None) }).await;
        let desk = Desk::new(refusing, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let _answer = desk.begin(&mut client).await;
        until("the pod has refused", || desk.pods[0].received() == 1).await;
        client.cut();
        until("nothing is in hand", || {
            desk.setup.snapshot().totals.requests_in_flight["grpc"] == 0
        })
        .await;
        desk.quorum.fail("pod-0");
        until("the record counts", || desk.setup.snapshot().epoch == 11).await;
        assert_eq!(desk.received(), [1, 0]);
    });
}

#[test]
fn a_write_without_a_key_is_the_callers_mistake() {
    run(async {
        let desk = Desk::new(Pod::echo().await, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let answer = client.call(METHOD, &[], &frame(b"m")).await.expect("an answer");
        assert!(answer.error("3", "not-applied").contains("x-hashroute-key"));
        assert_eq!(desk.received(), [0, 0]);
    });
}

#[test]
fn a_refusal_that_comes_after_the_record_that_it_asks_for_waits_for_nothing() {
    run(async {
        let go_on = Rc::new(Notify::new());
        let told = Rc::clone(&go_on);
        let slow = Pod::start(move |call: Call| {
            let told = Rc::clone(&told);
            async move {
                told.notified().await;
                call.refuse_write("not-owner", Some(11));
            }
        })
        .await;
        let desk = Desk::new(slow, Pod::echo().await, |_| {}).await;
        let mut client = desk.setup.client().await;
        let key = desk.quorum.key_of("pod-0");
        let answer = desk.begin(&mut client).await;
        until("the pod has it", || desk.pods[0].received() == 1).await;
        desk.quorum.fail("pod-0");
        until("the record counts", || desk.setup.snapshot().epoch == 11).await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-1");
        go_on.notify_one();
        assert_eq!(answer.await.expect("a task").ok().pod(), "pod-1");
        assert_eq!(desk.received(), [1, 2]);
    });
}
