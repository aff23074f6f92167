//! What a voter answers to callers that are not what they should be: over loopback, in the words of
//! the wire.
use std::future::Future;
use std::time::{Duration, Instant};

use hashroute_coordination::LeaseParameters;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_stream::{Stream, StreamExt};
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::proto::attend_request::Message as Said;
use crate::proto::attend_response::Message as Heard;
use crate::proto::quorum_client::QuorumClient;
use crate::testing::{CLUSTER, first};
use crate::{Engine, LeaseSettings, Node, NodeSettings, Operator, OperatorSettings, Priority};

/// A voter that is its own cluster, and a caller that says whatever it likes.
struct Trial {
    node: Node,
    runtime: Runtime,
    _directory: TempDir,
}

fn settings(directory: &TempDir) -> NodeSettings {
    NodeSettings {
        cluster: CLUSTER.into(),
        engine: Engine::Embedded,
        voters: vec!["127.0.0.1:1".into()],
        listen: Some("127.0.0.1:0".into()),
        advertise: None,
        data: Some(directory.path().into()),
        pod: None,
        view: first().view().clone(),
        lease: LeaseSettings {
            ttl_us: 300_000,
            renewal_interval_us: 50_000,
            drift_ppm: 1_000,
            margin_us: 10_000,
        },
        tls: None,
        priority: Priority::Ordinary,
        stale_after: Duration::from_secs(1),
        stall_check: Duration::ZERO,
        force: true,
    }
}

impl Trial {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(settings(&directory)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { node, runtime, _directory: directory }
    }

    fn founded() -> Self {
        let trial = Self::new();
        let voters = vec![trial.node.address().unwrap().to_owned()];
        let timeout = Duration::from_secs(10);
        let settings =
            OperatorSettings { cluster: CLUSTER.into(), voters, etcd: None, tls: None, timeout };
        let operator = Operator::new(settings).unwrap();
        operator.found(first().view(), LeaseParameters::DEFAULT, &[]).unwrap();
        trial
    }

    /// Runs a call of one caller.
    fn call<T, F: Future<Output = T>>(&self, call: impl FnOnce(QuorumClient<Channel>) -> F) -> T {
        let address = format!("http://{}", self.node.address().unwrap());
        self.runtime.block_on(async {
            let client = QuorumClient::connect(address).await.unwrap();
            timeout(Duration::from_secs(20), call(client)).await.unwrap()
        })
    }

    /// What becomes of a conversation in which this is said, and nothing more.
    fn conversation(&self, said: Vec<Said>) -> Status {
        self.call(|mut client| async move {
            let answers = match client.attend(requests(said)).await {
                Ok(response) => response.into_inner(),
                Err(status) => return status,
            };
            end_of(answers).await
        })
    }

    fn voter_id(&self) -> Vec<u8> {
        let id = self.node.snapshot().voter.unwrap().id;
        u128::from_str_radix(&id, 16).unwrap().to_be_bytes().to_vec()
    }

    /// The voter does its work: whoever was refused did it no harm.
    fn assert_well(&self) {
        let hello = self.hello();
        self.call(|mut client| async move {
            let mut answers = client.attend(requests(vec![hello])).await.unwrap().into_inner();
            let first = answers.next().await.unwrap().unwrap();
            assert!(matches!(first.message, Some(Heard::Welcome(_))), "{first:?}");
        });
    }

    fn hello(&self) -> Said {
        Said::Hello(proto::Hello {
            version: proto::Version::Version1.into(),
            cluster: CLUSTER.into(),
            cluster_id: Vec::new(),
            voter_id: self.voter_id(),
            writer: writer("a", 1),
        })
    }

    fn hello_but(&self, change: impl FnOnce(&mut proto::Hello)) -> Said {
        let Said::Hello(mut hello) = self.hello() else { unreachable!("it is one") };
        change(&mut hello);
        Said::Hello(hello)
    }
}

fn writer(pod: &str, incarnation: u64) -> Option<proto::Writer> {
    Some(proto::Writer { pod: pod.into(), incarnation })
}

/// The requests, and then silence.
fn requests(said: Vec<Said>) -> impl Stream<Item = proto::AttendRequest> {
    let said = said.into_iter().map(|message| proto::AttendRequest { message: Some(message) });
    tokio_stream::iter(said).chain(tokio_stream::pending())
}

/// Why the voter ended the conversation.
async fn end_of(mut answers: Streaming<proto::AttendResponse>) -> Status {
    loop {
        match answers.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("the voter ended it without a reason"),
            Err(status) => return status,
        }
    }
}

#[track_caller]
fn assert_refused(status: &Status, code: Code, words: &str) {
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{status:?}");
}

#[test]
fn who_is_of_another_version_cluster_or_founding_or_means_another_voter_is_told_so() {
    let trial = Trial::founded();
    let refused = |change: &dyn Fn(&mut proto::Hello)| {
        trial.conversation(vec![trial.hello_but(|hello| change(hello))])
    };
    let status = refused(&|hello| hello.version = 2);
    assert_refused(&status, Code::FailedPrecondition, "run the same release");
    let status = refused(&|hello| hello.cluster = "desk-8".into());
    assert_refused(&status, Code::FailedPrecondition, "quorum.cluster");
    let status = refused(&|hello| hello.cluster_id = vec![7; 16]);
    assert_refused(&status, Code::FailedPrecondition, "old data directory");
    let status = refused(&|hello| hello.voter_id = vec![7; 16]);
    assert_refused(&status, Code::FailedPrecondition, "replace-voter");
    let status = refused(&|hello| hello.writer = None);
    assert_refused(&status, Code::InvalidArgument, "writer");
    let status = refused(&|hello| hello.writer = writer("", 1));
    assert_refused(&status, Code::InvalidArgument, "");
    let status = trial.call(|mut client| async move {
        let router = proto::FollowRequest { version: 1, cluster: "x".into(), ..Default::default() };
        client.follow(router).await.unwrap_err()
    });
    assert_refused(&status, Code::FailedPrecondition, "quorum.cluster");
    trial.assert_well();
}

#[test]
fn what_is_no_conversation_ends_and_harms_nobody() {
    let trial = Trial::founded();
    let renew = |writer| Said::Renew(proto::Renew { epoch: 1, writer, sequence: 1 });
    let status = trial.conversation(vec![renew(writer("a", 1))]);
    assert_refused(&status, Code::InvalidArgument, "Hello");
    let status = trial.conversation(vec![trial.hello(), trial.hello()]);
    assert_refused(&status, Code::InvalidArgument, "second Hello");
    let status = trial.conversation(vec![trial.hello(), renew(None)]);
    assert_refused(&status, Code::InvalidArgument, "");
    let record = Some(proto::Record { cluster: CLUSTER.into(), ..Default::default() });
    let status = trial.conversation(vec![trial.hello(), Said::Install(proto::Install { record })]);
    assert_refused(&status, Code::InvalidArgument, "");
    let nothing = proto::ToPeer { pod: "b".into(), message: None };
    let status = trial.conversation(vec![trial.hello(), Said::ToPeer(nothing)]);
    assert_refused(&status, Code::InvalidArgument, "passed on");
    trial.assert_well();
}

#[test]
fn a_member_cannot_speak_for_another() {
    let trial = Trial::founded();
    for forged in [
        Said::Renew(proto::Renew { epoch: 1, writer: writer("b", 1), sequence: 1 }),
        Said::Renew(proto::Renew { epoch: 1, writer: writer("a", 2), sequence: 1 }),
        Said::Probe(proto::Probe { epoch: 1, writer: writer("b", 1), sequence: 1 }),
        Said::Renounce(proto::Renounce { writer: writer("b", 1) }),
    ] {
        let status = trial.conversation(vec![trial.hello(), forged]);
        assert_refused(&status, Code::InvalidArgument, "speaks for itself");
    }
    trial.assert_well();
}

#[test]
fn a_message_longer_than_any_that_makes_sense_is_refused() {
    let trial = Trial::founded();
    let large = proto::PeerMessage {
        message: Some(proto::peer_message::Message::Install(proto::Install {
            record: Some(proto::Record {
                cluster: "x".repeat(MESSAGE_BYTES_MAX),
                ..Default::default()
            }),
        })),
    };
    let large = proto::ToPeer { pod: "b".into(), message: Some(large) };
    let status = trial.conversation(vec![trial.hello(), Said::ToPeer(large)]);
    assert_refused(&status, Code::OutOfRange, "too large");
    trial.assert_well();
}

#[test]
fn a_member_that_reads_nothing_loses_its_conversation_and_no_memory_is_spent_on_it() {
    let trial = Trial::founded();
    let (hello, node) = (trial.hello(), &trial.node);
    trial.call(|mut client| async move {
        // Nothing is read of this: flow control stops the voter after some kilobytes.
        let probe = Said::Probe(proto::Probe { epoch: 1, writer: writer("a", 1), sequence: 1 });
        let flood = std::iter::once(hello).chain(std::iter::repeat_n(probe, 50_000)).collect();
        let answers = client.attend(requests(flood)).await.unwrap().into_inner();
        let until = Instant::now() + Duration::from_secs(20);
        while !node.snapshot().voter.unwrap().attending.is_empty() {
            assert!(Instant::now() < until, "the conversation goes on");
            tokio::task::yield_now().await;
        }
        let status = end_of(answers).await;
        assert_refused(&status, Code::ResourceExhausted, "does not read");
    });
    trial.assert_well();
}

#[test]
fn a_later_conversation_of_a_pod_takes_the_place_of_the_one_before() {
    let trial = Trial::founded();
    let hello = trial.hello();
    let newer = trial.hello_but(|hello| hello.writer = writer("a", 2));
    let status = trial.call(|mut client| async move {
        let before = client.attend(requests(vec![hello])).await.unwrap().into_inner();
        let _after = client.attend(requests(vec![newer])).await.unwrap().into_inner();
        end_of(before).await
    });
    assert_refused(&status, Code::Aborted, "stop one of them");
    assert!(trial.node.snapshot().warnings.iter().any(|warning| warning.contains("as pod a")));
}

#[test]
fn what_one_member_says_to_another_is_passed_on_as_it_is() {
    let trial = Trial::founded();
    let other = trial.hello_but(|hello| hello.writer = writer("b", 9));
    let ready = proto::Ready {
        ballot: Some(proto::Ballot { round: 3, proposer: 4 }),
        epoch: 2,
        writer: writer("a", 1),
    };
    let message = proto::PeerMessage { message: Some(proto::peer_message::Message::Ready(ready)) };
    let said = proto::ToPeer { pod: "b".into(), message: Some(message.clone()) };
    let said = vec![trial.hello(), Said::ToPeer(said)];
    let heard = trial.call(|mut client| async move {
        let mut to = client.attend(requests(vec![other])).await.unwrap().into_inner();
        let _from = client.attend(requests(said)).await.unwrap().into_inner();
        loop {
            let answer = to.message().await.unwrap().unwrap();
            if let Some(Heard::FromPeer(heard)) = answer.message {
                return heard;
            }
        }
    });
    assert_eq!(heard, proto::FromPeer { pod: "a".into(), message: Some(message) });
}

#[test]
fn a_voter_without_a_record_asks_for_it_and_is_founded_once() {
    let trial = Trial::new();
    let probe = Said::Probe(proto::Probe { epoch: 1, writer: writer("a", 1), sequence: 5 });
    let said = vec![trial.hello(), probe];
    let refusal = trial.call(|mut client| async move {
        let mut answers = client.attend(requests(said)).await.unwrap().into_inner();
        loop {
            let answer = answers.message().await.unwrap().unwrap();
            match answer.message {
                Some(Heard::Welcome(welcome)) => assert_eq!(welcome.record, None),
                Some(Heard::Refused(refused)) => return refused,
                Some(other) => panic!("{other:?}"),
                None => {}
            }
        }
    });
    assert_eq!((refusal.refusal(), refusal.sequence), (proto::Refusal::Ahead, 5));
    let change = proto::MakeChangeRequest { version: 1, cluster: CLUSTER.into(), change: None };
    let status =
        trial.call(|mut client| async move { client.make_change(change).await.unwrap_err() });
    assert_refused(&status, Code::FailedPrecondition, "quorum init");
    let codec = crate::wire::Codec::new(CLUSTER.into());
    let found = |record| proto::FoundRequest { version: 1, record: Some(record) };
    let refused = |request: proto::FoundRequest| {
        trial.call(|mut client| async move { client.found(request).await.unwrap_err() })
    };
    let foreign = codec.record_out(&first());
    let status = refused(found(foreign.clone()));
    assert_refused(&status, Code::InvalidArgument, "cluster's id");
    let id = crate::wire::cluster_id(CLUSTER, &foreign);
    let named = proto::Record { cluster_id: id.0.to_be_bytes().to_vec(), ..foreign };
    let status = refused(found(named));
    assert_refused(&status, Code::FailedPrecondition, "does not name this voter");
    let status = refused(proto::FoundRequest { version: 9, record: None });
    assert_refused(&status, Code::FailedPrecondition, "same release");
    assert_eq!(trial.node.record(), None);
}

#[test]
fn a_voter_of_one_founding_takes_no_other() {
    let trial = Trial::founded();
    let record = trial.node.record().unwrap();
    let codec = crate::wire::Codec::new(CLUSTER.into());
    let lease = LeaseParameters::TIGHT;
    let first = |id| {
        let voters = record.voters().to_vec();
        hashroute_coordination::Record::first(id, lease, voters, first().view()).unwrap()
    };
    let unnamed = codec.record_out(&first(record.cluster()));
    let other = codec.record_out(&first(crate::wire::cluster_id(CLUSTER, &unnamed)));
    let request = proto::FoundRequest { version: 1, record: Some(other) };
    let status = trial.call(|mut client| async move { client.found(request).await.unwrap_err() });
    assert_refused(&status, Code::FailedPrecondition, "another founding");
    assert_eq!(trial.node.record(), Some(record));
}

#[test]
fn a_change_that_nobody_can_make_is_unavailable_and_one_that_makes_no_sense_is_invalid() {
    let trial = Trial::founded();
    let ask = |change| {
        let change = Some(proto::RecordChange { change });
        let request = proto::MakeChangeRequest { version: 1, cluster: CLUSTER.into(), change };
        trial.call(|mut client| async move { client.make_change(request).await.unwrap_err() })
    };
    let drain = |pod: &str| {
        let drain = proto::DrainMember { pod: pod.into() };
        Some(proto::record_change::Change::Drain(drain))
    };
    let status = ask(drain("a"));
    assert_refused(&status, Code::Unavailable, "ask another voter");
    let status = ask(None);
    assert_refused(&status, Code::InvalidArgument, "");
    let status = ask(drain(""));
    assert_refused(&status, Code::InvalidArgument, "");
}
