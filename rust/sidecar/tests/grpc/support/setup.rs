//! A sidecar before the pods of a test.
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use hashroute_core::{Ring, View};
use hashroute_sidecar::{Settings, Sidecar, Snapshot};
use serde_json::{Value, json};

use super::{Client, FakeQuorum, Pod, until};

/// What a test wants otherwise than usual.
pub(crate) struct Options {
    pub(crate) routes: Value,
    pub(crate) retry: Value,
    pub(crate) limits: Value,
    pub(crate) health: Value,
    pub(crate) load: Value,
    pub(crate) guard: Value,
    pub(crate) patience_ms: u64,
    pub(crate) quorum: Option<Arc<FakeQuorum>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            routes: json!([{
                "match": "/test.Service/*",
                "key": [{"metadata": "x-hashroute-key"}],
                "on_missing": "reject",
                "idempotent": true,
            }]),
            retry: json!({
                "attempts_max": 3,
                "budget_ratio": 0.2,
                "budget_reserve": 256,
                "buffer_bytes": 65536,
            }),
            limits: json!({
                "connections_max": 4096,
                "requests_max": 16384,
                "header_list_bytes": 65536,
                "handshake_timeout_ms": 10000,
                "keepalive_ms": 10000,
                "stream_window_bytes": 65536,
            }),
            // Far apart, so that a test hears of a probe only if it asks for that.
            health: json!({
                "interval_ms": 3_600_000,
                "timeout_ms": 5000,
                "probe": "grpc",
                "service": "",
            }),
            load: json!({"c": 1.25, "floor": 16}),
            guard: json!(null),
            // Longer than a test may take, so that no write ends by itself.
            patience_ms: 60_000,
            quorum: None,
        }
    }
}

impl Options {
    /// The usual, but nothing may be sent twice.
    pub(crate) fn not_idempotent() -> Self {
        let mut options = Self::default();
        options.routes[0]["idempotent"] = json!(false);
        options
    }

    /// A router in a quorum: all requests of the usual route write the slot of their key.
    pub(crate) fn writing(quorum: &Arc<FakeQuorum>) -> Self {
        let mut options = Self::not_idempotent();
        options.routes[0]["write"] = json!(true);
        options.quorum = Some(Arc::clone(quorum));
        options
    }

    /// The usual, but pods are probed all the time.
    pub(crate) fn probing() -> Self {
        let mut options = Self::default();
        options.health["interval_ms"] = json!(10);
        options
    }
}

/// A running sidecar and what it was told.
pub(crate) struct Setup {
    pub(crate) sidecar: RefCell<Option<Sidecar>>,
    pub(crate) address: String,
    options: Options,
    view: RefCell<Value>,
}

/// Starts a sidecar before these pods, called `pod-0`, `pod-1` and so on.
pub(crate) fn start(pods: &[&Pod], options: Options) -> Setup {
    let addresses: Vec<&str> = pods.iter().map(|pod| pod.address.as_str()).collect();
    Setup::at(&addresses, options)
}

impl Setup {
    /// Starts a sidecar before pods at these addresses.
    pub(crate) fn at(pods: &[&str], options: Options) -> Self {
        let pods: Vec<Value> = pods
            .iter()
            .enumerate()
            .map(|(number, address)| pod_json(&format!("pod-{number}"), address))
            .collect();
        let view = json!({
            "version": 1, "epoch": 1, "slots": 1024, "epsilon": 0.05, "seed": 0, "pods": pods,
        });
        let settings = settings(&view, &options);
        let sidecar = match &options.quorum {
            Some(quorum) => Sidecar::start_with(settings, Arc::clone(quorum) as _),
            None => Sidecar::start(settings),
        };
        let sidecar = sidecar.expect("the sidecar starts");
        let address = sidecar.addresses().grpc.clone().expect("a gRPC address");
        Self { sidecar: RefCell::new(Some(sidecar)), address, options, view: RefCell::new(view) }
    }

    /// Connects a client.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address).await
    }

    /// The figures of the sidecar.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.sidecar.borrow().as_ref().expect("a running sidecar").snapshot()
    }

    /// Waits until the sidecar judges `pod` so.
    pub(crate) async fn until_health(&self, pod: &str, health: &str) {
        until(&format!("{pod} is {health}"), || {
            self.snapshot().pods.iter().any(|one| one.id == pod && one.health == health)
        })
        .await;
    }

    /// A key that `pod` owns.
    pub(crate) fn key_of(&self, pod: &str) -> String {
        let view = View::from_json(&self.view.borrow().to_string()).expect("a view");
        let ring = Ring::build(view).expect("a ring");
        let index = ring.view().index_of(pod).expect("a pod of the view");
        (0..)
            .map(|number| format!("key-{number}"))
            .find(|key| ring.owner_of_key(key.as_bytes()) == index)
            .expect("every pod owns slots")
    }

    /// Applies a changed view, under the next epoch.
    pub(crate) fn apply_view(&self, change: impl FnOnce(&mut Vec<Value>)) {
        let mut view = self.view.borrow_mut();
        let epoch = view["epoch"].as_u64().expect("an epoch");
        view["epoch"] = json!(epoch + 1);
        change(view["pods"].as_array_mut().expect("pods"));
        let settings = settings(&view, &self.options);
        let sidecar = self.sidecar.borrow();
        sidecar.as_ref().expect("a running sidecar").apply(settings).expect("good settings");
    }

    /// The settings in force, for a test that changes them.
    pub(crate) fn settings(&self) -> Settings {
        settings(&self.view.borrow(), &self.options)
    }

    /// Stops the sidecar on a thread of its own, so that the pods of this one can go on.
    pub(crate) async fn stop(&self, grace: Duration) -> bool {
        let sidecar = self.sidecar.borrow_mut().take().expect("a running sidecar");
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(sidecar.stop(grace)));
        receiver.await.expect("stop returns")
    }
}

/// A pod of a view.
pub(crate) fn pod_json(id: &str, address: &str) -> Value {
    json!({
        "id": id, "weight": 1.0, "zone": null, "state": "active",
        "addresses": {"grpc": address, "zmq": null},
    })
}

fn settings(view: &Value, options: &Options) -> Settings {
    let document = settings_document(view, options);
    Settings::from_json(&document.to_string()).expect("settings of the right shape")
}

/// The document that a sidecar is told.
pub(crate) fn settings_document(view: &Value, options: &Options) -> Value {
    json!({
        "view": view,
        "listen": {"grpc": "127.0.0.1:0", "zmq": null},
        "routes": options.routes,
        "zmq": {
            "key_frame": 0, "idempotent": true, "envelope": "delimited",
            "request_timeout_ms": 30000, "message_bytes_max": 67_108_864, "on_missing": "reject",
        },
        "health": options.health,
        "load": options.load,
        "retry": options.retry,
        "limits": options.limits,
        "guard": options.guard,
        "writes": {"patience_ms": options.patience_ms},
    })
}
