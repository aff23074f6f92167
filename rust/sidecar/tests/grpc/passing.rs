//! What passes through untouched: all kinds of calls, metadata, sizes, flow control.
use bytes::Bytes;
use h2::Reason;
use tokio::sync::oneshot;

use super::support::{
    Answer, Call, Client, Options, Pod, Setup, frame, run, send_all, start, status_trailers,
    unframe, until,
};

#[test]
fn a_unary_call_passes_with_its_metadata_in_order() {
    run(async {
        let (one, two) = (Pod::echo().await, Pod::echo().await);
        let setup = start(&[&one, &two], Options::default());
        let key = setup.key_of("pod-1");
        let mut client = setup.client().await;
        let headers = [
            ("x-hashroute-key", key.as_str()),
            ("x-data-bin", "AAH/"),
            ("x-many", "b"),
            ("x-many", "a"),
            ("user-agent", "test/1.0"),
            ("x-hashroute-slot", "forged"),
            ("grpc-timeout", "5S"),
        ];
        let answer = client.call("/test.Service/Method", &headers, &frame(b"hello")).await;
        let answer = answer.expect("an answer").ok();
        assert_eq!(unframe(&answer.body), b"hello");
        assert_eq!(answer.pod(), "pod-1");
        let initial: Vec<_> = answer.head.get_all("x-initial").iter().collect();
        assert_eq!(initial, ["one", "two"]);
        assert_eq!(answer.last("x-trailing-bin"), Some("AAEC"));

        assert_eq!((one.received(), two.received()), (0, 1));
        let heads = two.heads();
        let head = &heads[0];
        assert_eq!(head.uri(), "http://service.test/test.Service/Method");
        let all = |name| head.headers().get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("x-data-bin"), ["AAH/"]);
        assert_eq!(all("x-many"), ["b", "a"]);
        assert_eq!(all("user-agent"), ["test/1.0"]);
        assert_eq!(all("te"), ["trailers"]);
        assert_eq!(all("grpc-timeout"), ["5S"]);
        assert_eq!(all("x-hashroute-key"), [key.as_str()]);
        assert_eq!(all("x-hashroute-epoch"), ["1"]);
        assert_eq!(all("x-hashroute-term"), ["1"]);
        let slot = all("x-hashroute-slot");
        assert_eq!(slot.len(), 1, "a forged slot is dropped: {slot:?}");
        assert!(slot[0].to_str().is_ok_and(|slot| slot.parse::<u32>().is_ok()));
    });
}

#[test]
fn a_pod_may_be_at_a_host_name_or_at_a_unix_socket() {
    run(async {
        let by_name = Pod::echo().await;
        let path = std::env::temp_dir().join(format!("hashroute-test-{}.sock", std::process::id()));
        let by_path = Pod::echo_at_path(&path).await;
        let address = by_name.address.replace("127.0.0.1", "localhost");
        let setup = Setup::at(&[&address, &by_path.address], Options::probing());
        let mut client = setup.client().await;
        for pod in ["pod-0", "pod-1"] {
            assert_eq!(client.unary(&setup.key_of(pod), b"m").await.ok().pod(), pod);
        }
        setup.until_health("pod-1", "up").await;
        std::fs::remove_file(path).expect("the socket is there");
    });
}

#[test]
fn bodies_of_all_sizes_pass_whole() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        for size in [0_usize, 1, 16_379, 16_384, 65_535, 65_536, 200_000, 64 << 20] {
            let message: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
            let answer = client.unary("k", &message).await.ok();
            assert!(unframe(&answer.body) == message, "{size} bytes came back changed");
        }
    });
}

#[test]
fn many_calls_at_once_with_bodies_of_a_frame_and_more() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let setup = start(&[&pods[0], &pods[1]], Options::default());
        for size in [16 << 10, 64 << 10] {
            let message = vec![7; size];
            let mut calls = Vec::new();
            let mut client = setup.client().await;
            for number in 0..200 {
                let key = format!("key-{number}");
                let headers = [("x-hashroute-key", key.as_str())];
                let (response, mut to) = client.open("/test.Service/Method", &headers).await;
                let body = Bytes::from(frame(&message));
                calls.push(tokio::task::spawn_local(async move {
                    assert!(send_all(&mut to, body).await);
                    to.send_data(Bytes::new(), true).expect("an open stream");
                    Answer::read(response).await.expect("an answer").ok().body.len()
                }));
            }
            for call in calls {
                assert_eq!(call.await.expect("a whole call"), size + 5);
            }
        }
        assert_eq!(pods[0].received() + pods[1].received(), 400);
    });
}

#[test]
fn a_trailers_only_answer_stays_one() {
    run(async {
        let pod = Pod::start(|call: Call| call.refuse("5")).await;
        let setup = start(&[&pod], Options::default());
        let answer = setup.client().await.unary("k", b"m").await;
        assert_eq!(answer.status(), "5");
        assert_eq!(answer.trailers, None);
        assert_eq!(answer.pod(), "pod-0");
        assert_eq!(answer.last("x-hashroute-outcome"), None);
    });
}

#[test]
fn a_bidirectional_stream_passes_message_by_message() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (response, mut to) = client.open("/test.Service/Chat", &headers).await;
        // The head of the answer comes before anything was sent.
        let mut from = response.await.expect("a head").into_body();
        for number in 0..100_u8 {
            to.send_data(frame(&[number]).into(), false).expect("an open stream");
            let mut echoed = Vec::new();
            while echoed.len() < 6 {
                let chunk = from.data().await.expect("a message").expect("an open stream");
                from.flow_control().release_capacity(chunk.len()).expect("received bytes");
                echoed.extend_from_slice(&chunk);
            }
            assert_eq!(unframe(&echoed), [number]);
        }
        to.send_data(Bytes::new(), true).expect("an open stream");
        assert!(from.data().await.is_none());
        let trailers = from.trailers().await.expect("trailers").expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
    });
}

#[test]
fn a_pod_may_answer_before_it_has_the_whole_request() {
    run(async {
        let pod = Pod::start(|mut call: Call| async move {
            let mut answer = call.begin();
            answer.send_data(frame(b"early").into(), false).expect("an open stream");
            answer.send_trailers(status_trailers("0")).expect("an open stream");
        })
        .await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (response, mut to) = client.open("/test.Service/Upload", &headers).await;
        to.send_data(frame(b"first of many").into(), false).expect("an open stream");
        let answer = Answer::read(response).await.expect("an answer").ok();
        assert_eq!(unframe(&answer.body), b"early");
        // The stream ends for the client too: it need not send the rest.
        let reset = std::future::poll_fn(|cx| to.poll_reset(cx)).await.expect("a reset");
        assert_eq!(reset, Reason::NO_ERROR);
        client.unary("k", b"the connection goes on").await.ok();
    });
}

#[test]
fn a_caller_that_cancels_cancels_at_the_pod() {
    run(async {
        let (sender, seen) = oneshot::channel();
        let sender = std::cell::Cell::new(Some(sender));
        let pod = Pod::start(move |mut call: Call| {
            let sender = sender.take();
            async move {
                let mut answer = call.begin();
                answer.send_data(frame(b"begun").into(), false).expect("an open stream");
                let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
                let _gone = sender.expect("one call").send(reason.ok());
            }
        })
        .await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (response, mut to) = client.open("/test.Service/Watch", &headers).await;
        let mut from = response.await.expect("a head").into_body();
        from.data().await.expect("a message").expect("an open stream");
        to.send_reset(Reason::CANCEL);
        assert_eq!(seen.await.expect("the pod saw the end"), Some(Reason::CANCEL));
        until("the cancelled call is counted", || {
            let totals = setup.snapshot().totals;
            totals.requests_in_flight["grpc"] == 0
                && totals.by_status.iter().any(|status| status.code == "CANCELLED")
        })
        .await;
    });
}

#[test]
fn a_caller_that_vanishes_cancels_at_the_pod() {
    run(async {
        let (sender, seen) = oneshot::channel();
        let sender = std::cell::Cell::new(Some(sender));
        let pod = Pod::start(move |mut call: Call| {
            let sender = sender.take();
            async move {
                // Nothing was answered yet, and the request is complete: only a reset can tell.
                call.read().await;
                let reason = std::future::poll_fn(|cx| call.respond.poll_reset(cx)).await;
                let _gone = sender.expect("one call").send(reason.ok());
            }
        })
        .await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (_response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(frame(b"m").into(), true).expect("an open stream");
        until("the pod has the request", || pod.received() == 1).await;
        client.cut();
        assert_eq!(seen.await.expect("the pod saw the end"), Some(Reason::CANCEL));
    });
}

#[test]
fn a_pod_that_breaks_an_answer_off_does_so_for_the_caller() {
    run(async {
        let pod = Pod::start(|mut call: Call| async move {
            let mut answer = call.begin();
            answer.send_data(frame(b"half").into(), false).expect("an open stream");
            call.read().await;
            answer.send_reset(Reason::INTERNAL_ERROR);
        })
        .await;
        let setup = start(&[&pod], Options::default());
        let mut client = setup.client().await;
        let headers = [("x-hashroute-key", "k")];
        let (response, mut to) = client.open("/test.Service/Watch", &headers).await;
        let mut from = response.await.expect("a head").into_body();
        from.data().await.expect("a message").expect("an open stream");
        to.send_data(Bytes::new(), true).expect("an open stream");
        let error = from.data().await.expect("an end").expect_err("a reset");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    });
}

#[test]
fn one_slow_stream_stops_neither_the_others_nor_fills_the_memory() {
    run(async {
        // Sends without an end what the client of this stream does not read.
        let sent = std::rc::Rc::new(std::cell::Cell::new(0_usize));
        let counter = std::rc::Rc::clone(&sent);
        let pod = Pod::start(move |mut call: Call| {
            let counter = std::rc::Rc::clone(&counter);
            async move {
                if !call.head.uri().path().ends_with("/Flood") {
                    return call.echo().await;
                }
                let mut answer = call.begin();
                let chunk = Bytes::from(vec![1; 16 << 10]);
                while send_all(&mut answer, chunk.clone()).await {
                    counter.set(counter.get() + chunk.len());
                }
            }
        })
        .await;
        let setup = start(&[&pod], Options::default());
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(65_535).initial_connection_window_size(1 << 24);
        let mut client = Client::with(&setup.address, &builder).await;
        let headers = [("x-hashroute-key", "k")];
        let mut unread = Vec::new();
        for _ in 0..4 {
            let (response, to) = client.open("/test.Service/Flood", &headers).await;
            unread.push((response.await.expect("a head"), to));
        }
        for _ in 0..300 {
            client.unary("k", &[0; 1000]).await.ok();
        }
        // Per stream: the client's window, what h2 holds for it, one frame in hand, the window
        // towards the pod, and what the pod's side holds.
        let bound = 4 * 5 * 65_536;
        assert!(sent.get() < bound, "{} bytes were taken from the pod", sent.get());
    });
}
