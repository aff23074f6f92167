//! Pods that fail: what is tried again, what is not, and what the caller is told.
use std::cell::Cell;
use std::rc::Rc;

use h2::Reason;
use serde_json::json;
use tokio::net::TcpListener;

use super::support::{
    Answer, Call, Options, Pod, Setup, frame, run, start, status_trailers, until,
};

/// A pod that takes requests and never answers them.
async fn mute_pod() -> Pod {
    Pod::start(|mut call: Call| async move {
        call.read().await;
        std::future::pending::<()>().await;
    })
    .await
}

/// An address where nobody listens.
async fn dead_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[test]
fn a_pod_that_refuses_connections_is_passed_over_without_a_budget() {
    run(async {
        let pod = Pod::echo().await;
        let dead = dead_address().await;
        let mut options = Options::not_idempotent();
        options.retry["budget_reserve"] = json!(0);
        let setup = Setup::at(&[&dead, &pod.address], options);
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        for _ in 0..20 {
            let answer = client.unary(&key, b"m").await.ok();
            assert_eq!(answer.pod(), "pod-1");
        }
        let snapshot = setup.snapshot();
        assert_eq!((snapshot.pods[0].health, snapshot.pods[1].failovers), ("down", 20));
        assert_eq!(snapshot.pods[0].last_down_reason, "refused");
    });
}

#[test]
fn without_any_pod_the_caller_is_told_that_nothing_was_applied() {
    run(async {
        let dead = [dead_address().await, dead_address().await];
        let setup = Setup::at(&[&dead[0], &dead[1]], Options::default());
        let answer = setup.client().await.unary("k", b"m").await;
        let text = answer.error("14", "not-applied");
        assert!(text.contains("pod-0") || text.contains("pod-1"), "{text}");
    });
}

#[test]
fn a_pod_that_dies_with_an_idempotent_request_costs_the_caller_nothing() {
    run(async {
        let (mute, well) = (mute_pod().await, Pod::echo().await);
        let setup = start(&[&mute, &well], Options::default());
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str()), ("grpc-timeout", "20S")];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"precious").into(), true).expect("an open stream");
        until("the pod has the request", || mute.received() == 1).await;
        mute.kill();
        let answer = Answer::read(response).await.expect("an answer").ok();
        assert_eq!(answer.pod(), "pod-1");
        assert_eq!(answer.body, frame(b"precious"));
        // The pod that takes over is told the time that is left, not the time that was.
        let heads = well.heads();
        let timeout = heads[0].headers()["grpc-timeout"].to_str().expect("text");
        assert!(timeout != "20S" && timeout.ends_with('u'), "{timeout}");
        let snapshot = setup.snapshot();
        assert_eq!((snapshot.totals.retries, snapshot.pods[0].health), (1, "down"));
    });
}

#[test]
fn a_pod_that_dies_with_any_other_request_leaves_it_unknown() {
    run(async {
        let (mute, well) = (mute_pod().await, Pod::echo().await);
        let setup = start(&[&mute, &well], Options::not_idempotent());
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || mute.received() == 1).await;
        mute.kill();
        let answer = Answer::read(response).await.expect("an answer");
        assert!(answer.error("14", "unknown").contains("pod-0"));
        assert_eq!(well.received(), 0);
    });
}

#[test]
fn an_answer_that_has_begun_is_not_begun_again() {
    run(async {
        let half = Pod::start(|mut call: Call| async move {
            let mut answer = call.begin();
            answer.send_data(frame(b"half").into(), false).expect("an open stream");
            std::future::pending::<()>().await;
        })
        .await;
        let well = Pod::echo().await;
        let setup = start(&[&half, &well], Options::default());
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, _to) = client.open("/test.Service/Watch", &headers).await;
        let mut from = response.await.expect("a head").into_body();
        from.data().await.expect("a message").expect("an open stream");
        half.kill();
        assert!(from.data().await.is_none(), "the stream ends with trailers");
        let trailers = from.trailers().await.expect("trailers").expect("trailers");
        assert_eq!(trailers["grpc-status"], "14");
        assert_eq!(trailers["x-hashroute-outcome"], "unknown");
        assert_eq!(well.received(), 0);
    });
}

#[test]
fn a_stream_that_a_pod_refuses_unseen_goes_to_another_free_of_charge() {
    run(async {
        let refusing = Pod::start(|mut call: Call| async move {
            call.respond.send_reset(Reason::REFUSED_STREAM);
        })
        .await;
        let well = Pod::echo().await;
        let mut options = Options::not_idempotent();
        options.retry["budget_reserve"] = json!(0);
        let setup = start(&[&refusing, &well], options);
        let key = setup.key_of("pod-0");
        let answer = setup.client().await.unary(&key, b"m").await.ok();
        assert_eq!((answer.pod(), unframed(&answer)), ("pod-1", &b"m"[..]));
    });
}

fn unframed(answer: &Answer) -> &[u8] {
    super::support::unframe(&answer.body)
}

#[test]
fn other_resets_become_the_status_that_grpc_gives_them() {
    run(async {
        let reason = Rc::new(Cell::new(Reason::NO_ERROR));
        let next = Rc::clone(&reason);
        let pod = Pod::start(move |mut call: Call| {
            let reason = next.get();
            async move {
                call.read().await;
                call.respond.send_reset(reason);
            }
        })
        .await;
        let setup = start(&[&pod], Options::not_idempotent());
        let mut client = setup.client().await;
        for (next, status) in [
            (Reason::INTERNAL_ERROR, "13"),
            (Reason::CANCEL, "1"),
            (Reason::ENHANCE_YOUR_CALM, "8"),
            (Reason::INADEQUATE_SECURITY, "7"),
        ] {
            reason.set(next);
            client.unary("k", b"m").await.error(status, "unknown");
        }
    });
}

#[test]
fn retries_that_may_repeat_work_stop_when_the_budget_is_spent() {
    run(async {
        let breaking = Pod::start(|mut call: Call| async move {
            call.read().await;
            call.respond.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        let well = Pod::echo().await;
        let mut options = Options::default();
        options.retry["budget_reserve"] = json!(5);
        options.retry["budget_ratio"] = json!(0.0);
        let setup = start(&[&breaking, &well], options);
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        for _ in 0..5 {
            client.unary(&key, b"m").await.ok();
        }
        client.unary(&key, b"m").await.error("13", "unknown");
        assert_eq!(setup.snapshot().totals.retry_budget_exhausted, 1);
        assert_eq!(well.received(), 5);
    });
}

#[test]
fn attempts_end_at_their_limit() {
    run(async {
        let mut pods = Vec::new();
        for _ in 0..4 {
            pods.push(
                Pod::start(|mut call: Call| async move {
                    call.respond.send_reset(Reason::REFUSED_STREAM);
                })
                .await,
            );
        }
        let setup = start(&[&pods[0], &pods[1], &pods[2], &pods[3]], Options::default());
        setup.client().await.unary("k", b"m").await.error("14", "not-applied");
        assert_eq!(pods.iter().map(Pod::received).sum::<usize>(), 3);
    });
}

#[test]
fn a_request_too_long_to_keep_is_not_sent_twice() {
    run(async {
        let mut options = Options::default();
        options.retry["buffer_bytes"] = json!(1000);
        let (mute, well) = (mute_pod().await, Pod::echo().await);
        let setup = start(&[&mute, &well], options);
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(&[1; 2000]).into(), true).expect("an open stream");
        until("the pod has the request", || mute.received() == 1).await;
        mute.kill();
        Answer::read(response).await.expect("an answer").error("14", "unknown");
        assert_eq!(well.received(), 0);
    });
}

#[test]
fn a_goodbye_lets_requests_finish_and_sends_new_ones_to_a_new_connection() {
    run(async {
        let release = Rc::new(tokio::sync::Notify::new());
        let released = Rc::clone(&release);
        let pod = Pod::start(move |mut call: Call| {
            let released = Rc::clone(&released);
            async move {
                if call.head.uri().path().ends_with("/Slow") {
                    call.read().await;
                    released.notified().await;
                    let mut answer = call.begin();
                    let _gone = answer.send_trailers(status_trailers("0"));
                    return;
                }
                call.echo().await;
            }
        })
        .await;
        let setup = start(&[&pod], Options::not_idempotent());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (slow, mut to) = client.open("/test.Service/Slow", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || pod.received() == 1).await;
        pod.go_away();
        for _ in 0..50 {
            client.unary("k", b"m").await.ok();
        }
        release.notify_one();
        Answer::read(slow).await.expect("an answer").ok();
        assert_eq!(setup.snapshot().pods[0].health, "up", "a goodbye is not a failure");
    });
}

#[test]
fn more_requests_than_a_connection_takes_get_another_or_wait() {
    run(async {
        let release = Rc::new(tokio::sync::Notify::new());
        let released = Rc::clone(&release);
        let pod = Pod::start(move |mut call: Call| {
            let released = Rc::clone(&released);
            async move {
                call.read().await;
                released.notified().await;
                let mut answer = call.begin();
                let _gone = answer.send_trailers(status_trailers("0"));
            }
        })
        .await;
        pod.set_streams_max(2);
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let mut waiting = Vec::new();
        for _ in 0..40 {
            let headers = [("x-hashroute-key", "k")];
            let (response, mut to) = client.open("/test.Service/Method", &headers).await;
            to.send_data(frame(b"m").into(), true).expect("an open stream");
            waiting.push(tokio::task::spawn_local(Answer::read(response)));
        }
        // Two streams on each of eight connections; the first connection, made before the pod's
        // limit was known, may have been given more, which its pod takes one after the other.
        until("all connections are in use", || pod.connections() > 8).await;
        until("the connections are full", || pod.received() >= 16).await;
        assert!(pod.received() <= 16, "{} streams at once", pod.received());
        for _ in 0..40 {
            release.notify_one();
            tokio::task::yield_now().await;
        }
        while waiting.iter().any(|one| !one.is_finished()) {
            release.notify_waiters();
            release.notify_one();
            tokio::task::yield_now().await;
        }
        for one in waiting {
            one.await.expect("a task").expect("an answer").ok();
        }
    });
}

#[test]
fn the_deadline_ends_a_request_that_its_pod_does_not_answer() {
    run(async {
        let mute = mute_pod().await;
        let setup = start(&[&mute], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k"), ("grpc-timeout", "60m")];
        let answer = client.call("/test.Service/Method", &headers, &frame(b"m")).await;
        answer.expect("an answer").error("4", "unknown");
        assert_eq!(mute.received(), 1);
        until("nothing is in flight", || setup.snapshot().pods[0].in_flight["grpc"] == 0).await;
    });
}

#[test]
fn a_deadline_that_is_none_is_the_callers_mistake() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k"), ("grpc-timeout", "soon")];
        let answer = client.call("/test.Service/Method", &headers, &frame(b"m")).await;
        answer.expect("an answer").error("3", "not-applied");
        assert_eq!(pod.received(), 0);
    });
}

#[test]
fn a_pod_found_down_by_its_probe_gives_idempotent_requests_to_others_at_once() {
    run(async {
        let (mute, well) = (mute_pod().await, Pod::echo().await);
        let setup = start(&[&mute, &well], Options::probing());
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || mute.received() == 1).await;
        mute.set_serving(false);
        let answer = Answer::read(response).await.expect("an answer").ok();
        assert_eq!(answer.pod(), "pod-1");
        setup.until_health("pod-0", "down").await;
        assert_eq!(setup.snapshot().pods[0].last_down_reason, "not_serving");
        mute.set_serving(true);
        setup.until_health("pod-0", "up").await;
    });
}

#[test]
fn a_pod_found_down_keeps_requests_that_may_not_be_repeated() {
    run(async {
        let release = Rc::new(tokio::sync::Notify::new());
        let released = Rc::clone(&release);
        let slow = Pod::start(move |mut call: Call| {
            let released = Rc::clone(&released);
            async move {
                call.read().await;
                released.notified().await;
                let mut answer = call.begin();
                let _gone = answer.send_trailers(status_trailers("0"));
            }
        })
        .await;
        let well = Pod::echo().await;
        let mut options = Options::probing();
        options.routes[0]["idempotent"] = json!(false);
        let setup = start(&[&slow, &well], options);
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || slow.received() == 1).await;
        slow.set_serving(false);
        setup.until_health("pod-0", "down").await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-1");
        release.notify_one();
        assert_eq!(Answer::read(response).await.expect("an answer").ok().pod(), "pod-0");
    });
}

#[test]
fn a_process_that_stands_still_is_found_down_and_its_requests_go_elsewhere() {
    run(async {
        // The kernel takes connections for it; nobody ever reads from them.
        let frozen = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = frozen.local_addr().expect("an address").to_string();
        let well = Pod::echo().await;
        let mut options = Options::probing();
        options.health["timeout_ms"] = json!(30);
        let setup = Setup::at(&[&address, &well.address], options);
        let key = setup.key_of("pod-0");
        assert_eq!(setup.client().await.unary(&key, b"m").await.ok().pod(), "pod-1");
        setup.until_health("pod-0", "down").await;
        assert_eq!(setup.snapshot().pods[0].last_down_reason, "probe_timed_out");
    });
}

#[test]
fn a_probe_that_only_connects_asks_no_more() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let mut options = Options::probing();
        options.health["probe"] = json!("connect");
        let setup = Setup::at(&[&address], options);
        setup.until_health("pod-0", "up").await;
        drop(listener);
        setup.until_health("pod-0", "down").await;
        let _again = std::net::TcpListener::bind(&address).expect("the same port");
        setup.until_health("pod-0", "up").await;
    });
}

#[test]
fn a_pod_that_comes_back_gets_its_keys_back() {
    run(async {
        let (first, second) = (Pod::echo().await, Pod::echo().await);
        let setup = start(&[&first, &second], Options::probing());
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-0");
        let address = first.address.clone();
        drop(first);
        setup.until_health("pod-0", "down").await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-1");
        let _again = Pod::start_at(&address, Call::echo).await;
        setup.until_health("pod-0", "up").await;
        until("its connection is back", || setup.snapshot().pods[0].health == "up").await;
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-0");
    });
}

#[test]
fn a_pod_of_which_every_other_is_down_too_is_tried_all_the_same() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::probing());
        let mut client = setup.client().await;
        pod.set_serving(false);
        setup.until_health("pod-0", "down").await;
        client.unary("k", b"m").await.ok();
    });
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::probing());
        let mut client = setup.client().await;
        for _ in 0..5 {
            client.unary("k", b"m").await.ok();
            pod.cut();
            setup.until_health("pod-0", "up").await;
        }
        client.unary("k", b"m").await.ok();
    });
}
