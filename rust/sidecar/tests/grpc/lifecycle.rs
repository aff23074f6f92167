//! Start, new settings under load, drain, stop.
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use hashroute_sidecar::{ApplyError, Sidecar, StartError};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, spawn_local};

use super::support::{
    Answer, Call, Options, PATIENCE, Pod, Setup, frame, pod_json, run, start, status_trailers,
    until,
};

/// Callers that call without a pause until told to stop; each call must succeed.
struct Load {
    is_stopped: Rc<Cell<bool>>,
    answered: Rc<Cell<usize>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(setup: &Setup, callers: usize) -> Self {
        let (is_stopped, answered) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let mut tasks = Vec::new();
        for caller in 0..callers {
            let mut client = setup.client().await;
            let (is_stopped, answered) = (Rc::clone(&is_stopped), Rc::clone(&answered));
            tasks.push(spawn_local(async move {
                let mut number = caller;
                while !is_stopped.get() {
                    number += 7;
                    client.unary(&format!("key-{number}"), b"m").await.ok();
                    answered.set(answered.get() + 1);
                }
            }));
        }
        Self { is_stopped, answered, callers: tasks }
    }

    /// Waits until `count` more calls were answered.
    async fn more(&self, count: usize) {
        let wanted = self.answered.get() + count;
        until("the load goes on", || {
            assert!(!self.callers.iter().any(JoinHandle::is_finished), "a call failed");
            self.answered.get() >= wanted
        })
        .await;
    }

    async fn finish(self) {
        self.is_stopped.set(true);
        for caller in self.callers {
            caller.await.expect("every call succeeded");
        }
    }
}

#[test]
fn new_settings_under_load_fail_no_request() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await, Pod::echo().await];
        // Nothing may be repeated: a request that a change of view disturbed would show.
        let setup = start(&[&pods[0], &pods[1]], Options::not_idempotent());
        let load = Load::start(&setup, 8).await;
        load.more(200).await;
        let connections = pods[1].connections_made();
        // Join, reweight, drain, leave, come back.
        setup.apply_view(|view| view.push(pod_json("pod-2", &pods[2].address)));
        load.more(200).await;
        setup.apply_view(|view| view[2]["weight"] = json!(3.0));
        load.more(200).await;
        setup.apply_view(|view| view[0]["state"] = json!("draining"));
        load.more(200).await;
        let drained = pods[0].received();
        setup.apply_view(|view| drop(view.remove(0)));
        load.more(200).await;
        assert_eq!(pods[0].received(), drained, "a pod that left gets nothing");
        setup.apply_view(|view| view.insert(0, pod_json("pod-0", &pods[0].address)));
        load.more(400).await;
        assert!(pods[0].received() > drained && pods[2].received() > 0);
        load.finish().await;
        assert_eq!(pods[1].connections_made(), connections, "a pod that stays is not reconnected");
        let snapshot = setup.snapshot();
        assert_eq!(snapshot.epoch, 6);
        assert!(snapshot.totals.by_status.iter().all(|status| status.code == "OK"));
    });
}

#[test]
fn a_term_begins_when_a_slot_changes_hands_and_stays_otherwise() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let setup = start(&[&pods[0], &pods[1]], Options::default());
        let (stays, moves) = (setup.key_of("pod-0"), setup.key_of("pod-1"));
        let mut client = setup.client().await;
        let mut terms = async |key: &str| {
            client.unary(key, b"m").await.ok();
            let heads = pods[0].heads();
            let headers = heads.last().expect("a request").headers();
            let value = |name| headers[name].to_str().expect("text").to_owned();
            (value("x-hashroute-term"), value("x-hashroute-epoch"))
        };
        assert_eq!(terms(&stays).await, ("1".into(), "1".into()));
        setup.apply_view(|view| view[1]["state"] = json!("draining"));
        assert_eq!(terms(&stays).await, ("1".into(), "2".into()));
        assert_eq!(terms(&moves).await, ("2".into(), "2".into()));
    });
}

#[test]
fn a_draining_pod_finishes_what_it_has() {
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
        let other = Pod::echo().await;
        let setup = start(&[&slow, &other], Options::not_idempotent());
        let key = setup.key_of("pod-0");
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", key.as_str())];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || slow.received() == 1).await;
        setup.apply_view(|view| view[0]["state"] = json!("draining"));
        assert_eq!(client.unary(&key, b"m").await.ok().pod(), "pod-1");
        assert_eq!(setup.snapshot().pods[0].in_flight["grpc"], 1);
        // Even one that is gone from the view answers what it was given.
        setup.apply_view(|view| drop(view.remove(0)));
        release.notify_one();
        assert_eq!(Answer::read(response).await.expect("an answer").ok().pod(), "pod-0");
    });
}

#[test]
fn bad_settings_change_nothing() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let before = setup.snapshot();
        let apply = |change: fn(&mut hashroute_sidecar::Settings)| {
            let mut settings = setup.settings();
            change(&mut settings);
            let sidecar = setup.sidecar.borrow();
            sidecar.as_ref().expect("a running sidecar").apply(settings)
        };
        let fixed = apply(|settings| settings.listen.grpc = Some("127.0.0.1:1".into()));
        assert!(matches!(fixed, Err(ApplyError::Fixed { key: "listen.grpc", .. })), "{fixed:?}");
        let limits = apply(|settings| settings.limits.requests_max = 1);
        assert!(matches!(limits, Err(ApplyError::Fixed { key: "limits", .. })), "{limits:?}");
        let load = apply(|settings| settings.load.c = 0.5).expect_err("no bound below fair");
        assert_eq!(load.code(), "setting_out_of_range");
        assert!(load.to_string().contains("load.c is 0.5"), "{load}");
        let retry = apply(|settings| settings.retry.attempts_max = 0).expect_err("no attempt");
        assert!(retry.to_string().contains("retry.attempts_max"), "{retry}");
        assert_eq!(setup.snapshot().digest, before.digest);
        setup.client().await.unary("k", b"m").await.ok();
    });
}

#[test]
fn an_older_view_and_another_view_of_the_same_epoch_are_refused() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let setup = start(&[&pods[0], &pods[1]], Options::default());
        let first = setup.settings();
        setup.apply_view(|view| view[1]["weight"] = json!(2.0));
        let second = setup.settings();
        let apply =
            |settings| setup.sidecar.borrow().as_ref().expect("a running sidecar").apply(settings);
        let stale = apply(first).expect_err("an older view");
        assert_eq!(stale.code(), "stale_epoch");
        apply(second.clone()).expect("the same view again");
        let mut other = second;
        other.view =
            other.view.with_state("pod-0", hashroute_core::PodState::Draining).expect("ok");
        let epoch = hashroute_core::Epoch::new(2);
        let (parameters, pods) = (other.view.parameters(), other.view.pods().to_vec());
        other.view = hashroute_core::View::new(epoch, parameters, pods).expect("a view");
        assert_eq!(apply(other).expect_err("another view").code(), "stale_epoch");
    });
}

#[test]
fn a_port_in_use_is_said_with_its_key_and_what_to_do() {
    run(async {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        for (wrong, code) in
            [(address.as_str(), "address_in_use"), ("no-port", "address_not_usable")]
        {
            let mut settings = setup.settings();
            settings.listen.grpc = Some(wrong.to_owned());
            let error = Sidecar::start(settings).expect_err("cannot listen there");
            assert!(matches!(error, StartError::Listen { key: "listen.grpc", .. }), "{error:?}");
            assert_eq!(error.code(), code);
            let text = error.to_string();
            assert!(text.contains("listen.grpc") && text.contains(wrong), "{text}");
        }
    });
}

#[test]
fn a_stop_finishes_what_is_in_flight_and_takes_nothing_new() {
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
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || pod.received() == 1).await;
        let (stopped, answered) = tokio::join!(setup.stop(PATIENCE), async {
            client.closed().await;
            let refused = tokio::net::TcpStream::connect(&setup.address).await;
            assert!(refused.is_err(), "nobody listens any more");
            release.notify_one();
            Answer::read(response).await.expect("an answer").ok()
        });
        assert!(stopped, "all of it finished");
        assert_eq!(answered.pod(), "pod-0");
    });
}

#[test]
fn a_stop_without_grace_cuts_off_and_says_so() {
    run(async {
        let pod = Pod::start(|mut call: Call| async move {
            call.read().await;
            std::future::pending::<()>().await;
        })
        .await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || pod.received() == 1).await;
        assert!(!setup.stop(Duration::from_millis(20)).await, "it did not finish");
        assert!(Answer::read(response).await.is_err());
    });
}

#[test]
fn the_snapshot_counts_what_happened() {
    run(async {
        let pods = [Pod::echo().await, Pod::start(|call: Call| call.refuse("5")).await];
        let setup = start(&[&pods[0], &pods[1]], Options::default());
        let (well, ill) = (setup.key_of("pod-0"), setup.key_of("pod-1"));
        let mut client = setup.client().await;
        for _ in 0..3 {
            client.unary(&well, b"m").await.ok();
        }
        client.unary(&ill, b"m").await;
        until("all are counted", || setup.snapshot().totals.requests == 4).await;
        let snapshot = setup.snapshot();
        let pods = &snapshot.pods;
        assert_eq!((pods[0].requests["grpc"].ok, pods[0].requests["grpc"].error), (3, 0));
        assert_eq!((pods[1].requests["grpc"].ok, pods[1].requests["grpc"].error), (0, 1));
        assert_eq!(pods.iter().map(|pod| pod.slots).sum::<u32>(), 1024);
        assert!((pods.iter().map(|pod| pod.share).sum::<f64>() - 1.0).abs() < 1e-9);
        let statuses: Vec<_> =
            snapshot.totals.by_status.iter().map(|one| (one.code, one.count)).collect();
        assert_eq!(statuses, [("OK", 3), ("NOT_FOUND", 1)]);
        assert_eq!(snapshot.totals.connections["grpc"], 1);
        assert_eq!(snapshot.latency[0].count, 4);
        assert_eq!((snapshot.slots, snapshot.digest.len()), (1024, 16));
        let loops: Vec<_> = snapshot.loop_age_ms.keys().copied().collect();
        assert_eq!(loops, ["grpc", "probe"]);
    });
}
