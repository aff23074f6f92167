//! Where the key of a request is found, and what happens without one.
use bytes::Bytes;
use serde_json::json;

use super::support::{Answer, Options, Pod, frame, run, start, until};

fn routed_by(sources: serde_json::Value, on_missing: &str) -> Options {
    let mut options = Options::default();
    options.routes[0]["key"] = sources;
    options.routes[0]["on_missing"] = json!(on_missing);
    options
}

#[test]
fn a_field_of_the_first_message_is_a_key() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await, Pod::echo().await];
        let setup = start(
            &[&pods[0], &pods[1], &pods[2]],
            routed_by(json!([{"metadata": "x-key"}, {"field": [2]}]), "reject"),
        );
        let mut client = setup.client().await;
        for pod in ["pod-0", "pod-1", "pod-2"] {
            let key = setup.key_of(pod);
            // Field 1 is a varint that has to be passed over, field 2 the key, field 3 is long.
            let mut message = vec![0x08, 0x96, 0x01, 0x12, key.len() as u8];
            message.extend_from_slice(key.as_bytes());
            message.extend_from_slice(&[0x1a, 0x80, 0x80, 0x04]);
            message.extend(vec![9; 65_536]);
            let body = frame(&message);
            let answer = client.call("/test.Service/Method", &[], &body).await.expect("an answer");
            assert_eq!(answer.pod(), pod);
            assert!(answer.ok().body == body);
        }
    });
}

#[test]
fn a_key_that_arrives_byte_by_byte_is_found_and_nothing_is_lost() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let setup = start(&[&pods[0], &pods[1]], routed_by(json!([{"field": [1]}]), "reject"));
        let key = setup.key_of("pod-1");
        let mut message = vec![0x0a, key.len() as u8];
        message.extend_from_slice(key.as_bytes());
        let body = frame(&message);
        let mut client = setup.client().await;
        let (response, mut to) = client.open("/test.Service/Method", &[]).await;
        for byte in &body {
            to.send_data(Bytes::copy_from_slice(&[*byte]), false).expect("an open stream");
            tokio::task::yield_now().await;
        }
        to.send_data(Bytes::new(), true).expect("an open stream");
        let answer = Answer::read(response).await.expect("an answer").ok();
        assert_eq!((answer.pod(), &answer.body), ("pod-1", &body));
    });
}

#[test]
fn a_request_without_a_key_is_refused_and_told_what_was_looked_for() {
    run(async {
        let pod = Pod::echo().await;
        let sources = json!([{"metadata": "x-key"}, {"field": [5, 2]}]);
        let setup = start(&[&pod], routed_by(sources, "reject"));
        let mut client = setup.client().await;
        let bodies: [&[u8]; 5] = [b"", &[0], &[0, 0, 0, 0, 9, 1], b"garbage", &frame(&[8, 1])];
        for body in bodies {
            let answer = client.call("/test.Service/Method", &[], body).await.expect("an answer");
            let text = answer.error("3", "not-applied");
            assert!(text.contains("metadata:x-key") && text.contains("field:5.2"), "{text}");
        }
        assert_eq!(pod.received(), 0);
    });
}

#[test]
fn a_request_without_a_key_goes_to_any_pod_if_the_route_says_so() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let setup = start(&[&pods[0], &pods[1]], routed_by(json!([{"metadata": "x-key"}]), "any"));
        let mut client = setup.client().await;
        for _ in 0..64 {
            client.call("/test.Service/Method", &[], &frame(b"m")).await.expect("an answer").ok();
        }
        assert!(pods[0].received() > 16 && pods[1].received() > 16);
    });
}

#[test]
fn a_path_without_a_route_follows_the_key_header() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await];
        let setup = start(&[&pods[0], &pods[1]], Options::default());
        let key = setup.key_of("pod-1");
        let mut client = setup.client().await;
        for path in ["/", "/other.Service/Method", "/strange/path/of/many/parts?query=1"] {
            let headers = [("x-hashroute-key", key.as_str())];
            let answer = client.call(path, &headers, &frame(b"m")).await.expect("an answer").ok();
            assert_eq!(answer.pod(), "pod-1");
        }
        client.call("/", &[], &frame(b"m")).await.expect("an answer").ok();
        let heads = pods[1].heads();
        let paths: Vec<_> = heads.iter().filter_map(|head| head.uri().path_and_query()).collect();
        assert!(paths.iter().any(|path| *path == "/strange/path/of/many/parts?query=1"));
    });
}

#[test]
fn the_path_or_the_peer_may_be_the_key() {
    run(async {
        let pods = [Pod::echo().await, Pod::echo().await, Pod::echo().await];
        let pods = [&pods[0], &pods[1], &pods[2]];
        for source in ["path", "peer"] {
            let setup = start(&pods, routed_by(json!([source]), "reject"));
            let mut answered = Vec::new();
            for _ in 0..8 {
                // A new connection each time: the peer's port changes, its address does not.
                let mut client = setup.client().await;
                let answer = client.call("/test.Service/Method", &[], &frame(b"m")).await;
                answered.push(answer.expect("an answer").ok().pod().to_owned());
            }
            answered.dedup();
            assert_eq!(answered.len(), 1, "one key by {source}, one pod");
        }
    });
}

#[test]
fn a_key_that_never_comes_ends_with_the_deadline() {
    run(async {
        let pod = Pod::echo().await;
        let setup = start(&[&pod], routed_by(json!([{"field": [1]}]), "reject"));
        let mut client = setup.client().await;
        let headers = [("grpc-timeout", "50m")];
        let (response, mut to) = client.open("/test.Service/Method", &headers).await;
        to.send_data(Bytes::from_static(&[0, 0, 0, 0, 100, 0x0a]), false).expect("a stream");
        let answer = Answer::read(response).await.expect("an answer");
        answer.error("4", "not-applied");
        until("nothing is in hand", || setup.snapshot().totals.requests_in_flight["grpc"] == 0)
            .await;
    });
}
