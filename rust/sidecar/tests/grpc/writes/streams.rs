//! Writes of more than one message: what is still at hand is sent again.
use super::*;

#[test]
fn a_stream_of_messages_is_sent_again_as_long_as_it_is_at_hand() {
    run(async {
        let desk = Desk::new(Pod::refusing(&["behind"]).await, Pod::echo().await, |options| {
            options.retry["buffer_bytes"] = json!(1000);
        })
        .await;
        let key = desk.quorum.key_of("pod-0");
        let headers = [("x-hashroute-key", key.as_str())];
        let mut client = desk.setup.client().await;
        let (response, mut to) = client.open(METHOD, &headers).await;
        for _ in 0..3 {
            to.send_data(frame(&[1; 100]).into(), false).expect("an open stream");
        }
        until("it was sent again", || desk.pods[0].received() == 2).await;
        to.send_data(frame(&[2; 5000]).into(), true).expect("an open stream");
        let answer = Answer::read(response).await.expect("an answer").ok();
        assert_eq!(answer.body.len(), 3 * 105 + 5005);
    });
}

#[test]
fn a_stream_that_is_not_at_hand_any_more_is_refused_and_says_that_nothing_was_applied() {
    run(async {
        let refuse = Rc::new(Notify::new());
        let told = Rc::clone(&refuse);
        let late = Pod::start(move |mut call: Call| {
            let told = Rc::clone(&told);
            async move {
                // It reads what comes, so that the router has passed it on.
                let mut bytes = 0;
                while bytes < 2000 {
                    let Some(Ok(chunk)) = call.body.data().await else { return };
                    bytes += chunk.len();
                    let _gone = call.body.flow_control().release_capacity(chunk.len());
                }
                told.notified().await;
                call.refuse_write("moving", None);
            }
        })
        .await;
        let desk = Desk::new(late, Pod::echo().await, |options| {
            options.retry["buffer_bytes"] = json!(1000);
        })
        .await;
        let key = desk.quorum.key_of("pod-0");
        let headers = [("x-hashroute-key", key.as_str())];
        let mut client = desk.setup.client().await;
        let (response, mut to) = client.open(METHOD, &headers).await;
        to.send_data(Bytes::from(frame(&[1; 2000])), false).expect("an open stream");
        until("the pod has it", || desk.pods[0].received() == 1).await;
        refuse.notify_one();
        let answer = Answer::read(response).await.expect("an answer");
        let text = answer.error("14", "not-applied");
        assert!(text.contains("retry.buffer_bytes"), "{text}");
        assert_eq!(answer.last("x-hashroute-refusal"), Some("moving"));
        assert_eq!(desk.received(), [1, 0]);
    });
}
