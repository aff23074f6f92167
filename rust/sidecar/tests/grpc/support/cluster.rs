//! A whole cluster in this process: two pods behind the guards of their sidecars, a witness, and a
//! router, over loopback.
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hashroute_coordination::{LeaseParameters, Record};
use hashroute_core::View;
use hashroute_quorum::{Node, NodeSettings, Operator, OperatorSettings};
use hashroute_sidecar::{Settings, Sidecar};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Client, Options, Pod, settings_document, until};

/// Two services, their sidecars, a witness and a router.
pub(crate) struct Cluster {
    pub(crate) services: [Pod; 2],
    pub(crate) members: [Option<Sidecar>; 2],
    pub(crate) witness: Option<Node>,
    pub(crate) router: Sidecar,
    /// What the members were told.
    pub(crate) settings: Vec<Settings>,
    _disks: Vec<TempDir>,
}

impl Cluster {
    /// Founds a cluster and waits until both pods write; `change` may change what the sidecars are
    /// told.
    pub(crate) async fn start(
        lease: LeaseParameters,
        services: [Pod; 2],
        change: impl Fn(&mut Options),
    ) -> Self {
        let [witness, one, other] = [free_address(), free_address(), free_address()];
        let voters = [&witness, &one, &other];
        let guards = [free_address(), free_address()];
        let view = json!({
            "version": 1, "epoch": 1, "slots": 256, "epsilon": 0.05, "seed": 0,
            "pods": guards.iter().enumerate().map(|(place, address)| {
                super::pod_json(&format!("pod-{place}"), address)
            }).collect::<Vec<Value>>(),
        });
        let mut disks = Vec::new();
        let mut quorum = |listen: Option<&String>, pod: Option<&str>| {
            let data = listen.map(|_| tempfile::tempdir().expect("a directory"));
            let path = data.as_ref().map(|data| data.path().to_owned());
            disks.extend(data);
            json!({
                "cluster": "desk", "engine": "embedded", "voters": voters, "listen": listen,
                "advertise": null, "data": path, "pod": pod, "view": view,
                "lease": {
                    "ttl_us": micros(lease.ttl), "renewal_interval_us": micros(lease.renewal_interval),
                    "drift_ppm": lease.drift_ppm, "margin_us": micros(lease.margin),
                },
                "tls": null, "priority": "ordinary", "stale_after_ms": 2000,
                "stall_check_ms": 0, "force": true,
            })
        };
        let node = quorum(Some(&witness), None);
        let node = NodeSettings::from_json(&node.to_string()).expect("settings");
        let witness_node = Node::start(node).expect("a witness");
        let mut told = Vec::new();
        let mut sidecar = |listen: Option<&String>, pod: Option<(&str, &String, &Pod)>| {
            let mut options = Options::not_idempotent();
            options.routes[0]["write"] = json!(true);
            change(&mut options);
            if let Some((_, address, service)) = pod {
                options.guard = json!({
                    "grpc": {"listen": address, "service": service.address},
                    "zmq": null, "untagged": "reject",
                });
            }
            let mut document = settings_document(&view, &options);
            document["quorum"] = quorum(listen, pod.map(|(pod, ..)| pod));
            let settings = Settings::from_json(&document.to_string()).expect("settings");
            told.push(settings.clone());
            Sidecar::start(settings).expect("a sidecar")
        };
        let members = [
            sidecar(Some(&one), Some(("pod-0", &guards[0], &services[0]))),
            sidecar(Some(&other), Some(("pod-1", &guards[1], &services[1]))),
        ];
        let router = sidecar(None, None);
        found(&voters, &view, lease);
        let cluster = Self {
            services,
            members: members.map(Some),
            witness: Some(witness_node),
            router,
            settings: told,
            _disks: disks,
        };
        cluster.until_record("both pods write", |record| record.writers().len() == 2).await;
        cluster
    }

    /// Connects a client to the router.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.router.addresses().grpc.as_ref().expect("an address")).await
    }

    /// The record that the router goes by.
    pub(crate) fn record(&self) -> Record {
        self.router.node().and_then(Node::record).expect("a record")
    }

    /// Waits until the router goes by such a record.
    pub(crate) async fn until_record(&self, what: &str, holds: impl Fn(&Record) -> bool) {
        until(what, || {
            let node = self.router.node().expect("a node");
            let is_so = node.record().is_some_and(|record| holds(&record));
            is_so && self.router.snapshot().epoch == node.record().expect("a record").epoch().get()
        })
        .await;
    }

    /// A key that `pod` owns by the router's record.
    pub(crate) fn key_of(&self, pod: &str) -> String {
        let record = self.record();
        let ring = record.ring().expect("a ring");
        let index = ring.view().index_of(pod).expect("a pod of the record");
        (0..)
            .map(|number| format!("key-{number}"))
            .find(|key| ring.owner_of_key(key.as_bytes()) == index)
            .expect("every pod owns slots")
    }
}

fn found(voters: &[&String], view: &Value, lease: LeaseParameters) {
    let settings = OperatorSettings {
        etcd: None,
        cluster: "desk".to_owned(),
        voters: voters.iter().map(|voter| (*voter).clone()).collect(),
        tls: None,
        timeout: Duration::from_secs(10),
    };
    let view = View::from_json(&view.to_string()).expect("a view");
    // An operator waits for its answers, which no thread with a loop of its own may do.
    let founding = std::thread::spawn(move || {
        let operator = Operator::new(settings).expect("an operator");
        operator.found(&view, lease, &[]).expect("a cluster")
    });
    founding.join().expect("a cluster");
}

/// An address that nobody else uses, known before anybody listens there: of the many of the
/// loopback network, one by the process and a count.
fn free_address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let [_, _, high, low] = process.to_be_bytes();
    let [.., last] = count.to_be_bytes();
    format!("127.{}.{low}.{}:9010", high % 200 + 1, last % 250 + 1)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("a short time")
}
