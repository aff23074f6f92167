//! Whole clusters in this process, over loopback.
use std::time::{Duration, Instant};

use hashroute_coordination::{LeaseParameters, Record, Resource, VoterEntry, VoterId, WriteTag};
use hashroute_core::{Parameters, Pod, Slot, View};

use super::*;
use crate::proto;
use crate::proto::quorum_client::QuorumClient;
use crate::settings::LeaseSettings;
use crate::wire::Codec;

const CLUSTER: &str = "desk-7";

fn view() -> View {
    let pods = ["pod-a", "pod-b"].map(|name| Pod::new(PodId::new(name).unwrap()));
    View::new(Epoch::new(1), Parameters::new(1024, 0.05, 0).unwrap(), pods.to_vec()).unwrap()
}

fn settings(voters: &[&str], data: Option<&std::path::Path>, pod: Option<&str>) -> NodeSettings {
    NodeSettings {
        cluster: CLUSTER.into(),
        engine: Engine::Embedded,
        voters: voters.iter().map(|it| (*it).to_owned()).collect(),
        listen: data.map(|_| "127.0.0.1:0".into()),
        advertise: None,
        data: data.map(Into::into),
        pod: pod.map(str::to_owned),
        view: view(),
        lease: LeaseSettings {
            ttl_us: 300_000,
            renewal_interval_us: 50_000,
            drift_ppm: 1000,
            margin_us: 10_000,
        },
        tls: None,
        priority: Priority::Ordinary,
        stale_after: Duration::from_secs(1),
        stall_check: Duration::ZERO,
        force: true,
    }
}

fn found(addresses: &[&str]) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut clients = Vec::new();
        let mut entries = Vec::new();
        for address in addresses {
            let mut client = QuorumClient::connect(format!("http://{address}")).await.unwrap();
            let answer = client.describe(proto::DescribeRequest {}).await.unwrap().into_inner();
            let id = u128::from_be_bytes(answer.voter_id.try_into().unwrap());
            entries.push(VoterEntry { id: VoterId(id), address: (*address).to_owned() });
            clients.push(client);
        }
        let blank = hashroute_coordination::ClusterId(0);
        let lease = LeaseParameters::DEFAULT;
        let record = Record::first(blank, lease, entries.clone(), &view()).unwrap();
        let codec = Codec::new(CLUSTER.into());
        let id = crate::wire::cluster_id(
            CLUSTER,
            &proto::Record { cluster_id: vec![], ..codec.record_out(&record) },
        );
        let record = Record::first(id, lease, entries, &view()).unwrap();
        for client in &mut clients {
            let request = proto::FoundRequest {
                version: proto::Version::Version1.into(),
                record: Some(codec.record_out(&record)),
            };
            client.found(request).await.unwrap();
        }
    });
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}

fn admits(node: &Node, slot: u32) -> bool {
    let Some(record) = node.record() else { return false };
    let resource = Resource::Slot(Slot::new(slot));
    let tag = WriteTag { epoch: record.epoch(), term: record.term(&resource).unwrap() };
    node.guard().unwrap().admit(&resource, Some(tag)).is_ok()
}

#[test]
fn thin() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let witness = Node::start(settings(&["127.0.0.1:1"], Some(dirs[0].path()), None)).unwrap();
    let address = witness.address().unwrap().to_owned();
    let a = Node::start(settings(&[&address], Some(dirs[1].path()), Some("pod-a"))).unwrap();
    let b = Node::start(settings(&[&address], Some(dirs[2].path()), Some("pod-b"))).unwrap();
    found(&[&address, a.address().unwrap(), b.address().unwrap()]);
    let began = Instant::now();
    wait("both join", || (0..1024).all(|slot| admits(&a, slot) != admits(&b, slot)));
    println!("joined after {:?}", began.elapsed());
    println!("{:#?}", a.snapshot());
    drop(a);
    let began = Instant::now();
    wait("b owns all", || (0..1024).all(|slot| admits(&b, slot)));
    println!("new writer after {:?}", began.elapsed());
    assert!(b.stop(Duration::from_secs(1)));
    println!("stopped after {:?}", began.elapsed());
    drop(witness);
}
