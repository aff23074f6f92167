//! What the requests of one gRPC loop share.
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use hashroute_core::{Pod, PodIndex, PodState};
use hashroute_dataplane::health::Health;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::Role;
use super::upstream::Upstream;
use crate::metrics::TransportMetrics;
use crate::quorum::WriteGuard;
use crate::routing::Routing;
use crate::settings::Untagged;
use crate::shared::Shared;

/// The state of one gRPC loop.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) shared: Arc<Shared>,
    /// What stands between the callers and the own service; none for a router.
    pub(super) door: Option<Door>,
    table: RefCell<Rc<Table>>,
    /// Wakes writes that wait for another record.
    changed: Notify,
}

/// A guard and the service behind it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) guard: Arc<dyn WriteGuard>,
    pub(super) untagged: Untagged,
    pub(super) service: Rc<Upstream>,
}

/// A routing state with the connections to its pods.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) routing: Arc<Routing>,
    /// The epoch, as it travels.
    pub(super) epoch: HeaderValue,
    /// In the order of the view's pods.
    pods: Vec<TablePod>,
}

#[derive(Debug)]
struct TablePod {
    /// None for a pod without a gRPC address, or one that the view knows to be dead.
    upstream: Option<Rc<Upstream>>,
    /// The id, as it travels.
    header: HeaderValue,
}

impl Gateway {
    /// Begins to connect to the pods, or to the service behind the guard.
    pub(super) fn new(shared: Arc<Shared>, role: Role) -> Self {
        let routing = shared.routing.load_full();
        let (door, table) = match role {
            Role::Router => (None, Table::new(&shared, routing, HashMap::new())),
            Role::Guard { guard, untagged, service } => {
                let service = Upstream::start(Arc::clone(&shared), None, service);
                (Some(Door { guard, untagged, service }), Table::without_pods(routing))
            }
        };
        Self { shared, door, table: RefCell::new(Rc::new(table)), changed: Notify::new() }
    }

    /// The counters of this loop.
    pub(super) fn metrics(&self) -> &TransportMetrics {
        match &self.door {
            None => &self.shared.metrics.grpc,
            Some(_) => &self.shared.metrics.guard.grpc,
        }
    }

    /// Returns once another routing state is in force than when this was called.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Wakes the writes that wait for another routing state.
    pub(super) fn announce_change(&self) {
        self.changed.notify_waiters();
    }

    /// The present table: that of the routing state in force.
    pub(super) fn table(&self) -> Rc<Table> {
        let routing = self.shared.routing.load();
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(&routing, &table.routing) {
            let routing = Arc::clone(&routing);
            *table = Rc::new(match &self.door {
                None => Table::new(&self.shared, routing, table.upstreams()),
                Some(_) => Table::without_pods(routing),
            });
        }
        Rc::clone(&table)
    }

    /// Wakes the requests that wait for pods that are down.
    pub(super) fn announce_downs(&self) {
        let table = self.table();
        let fleet = &table.routing.grpc_side.fleet;
        for (pod, index) in table.pods.iter().zip(0..) {
            if let Some(upstream) = &pod.upstream
                && fleet.health(PodIndex::new(index)) == Health::Down
            {
                upstream.announce_down();
            }
        }
    }
}

impl Table {
    /// Takes over the connections of `known` pods that stay where they are; retires the others.
    fn new(
        shared: &Arc<Shared>,
        routing: Arc<Routing>,
        mut known: HashMap<String, Rc<Upstream>>,
    ) -> Self {
        let view = routing.ring.view();
        let mut connect = |pod: &Pod| {
            let address = pod.addresses.grpc.as_ref().filter(|_| pod.state != PodState::Down)?;
            match known.remove(pod.id.as_str()) {
                Some(upstream) if upstream.address() == address => Some(upstream),
                moved => {
                    if let Some(moved) = moved {
                        moved.retire();
                    }
                    Some(Upstream::start(Arc::clone(shared), Some(pod.id.clone()), address.clone()))
                }
            }
        };
        let pods = view
            .pods()
            .iter()
            .map(|pod| TablePod { upstream: connect(pod), header: header(pod.id.as_str()) });
        let pods = pods.collect();
        for upstream in known.into_values() {
            upstream.retire();
        }
        Self { epoch: HeaderValue::from(view.epoch().get()), pods, routing }
    }

    /// For a guard, which talks to no pod.
    fn without_pods(routing: Arc<Routing>) -> Self {
        let epoch = HeaderValue::from(routing.ring.view().epoch().get());
        Self { epoch, pods: Vec::new(), routing }
    }

    fn upstreams(&self) -> HashMap<String, Rc<Upstream>> {
        let pods = self.routing.ring.view().pods().iter().zip(&self.pods);
        pods.filter_map(|(pod, entry)| {
            Some((pod.id.as_str().to_owned(), Rc::clone(entry.upstream.as_ref()?)))
        })
        .collect()
    }

    /// The way to a pod of this table's view.
    pub(super) fn upstream(&self, pod: PodIndex) -> Option<&Upstream> {
        self.pods.get(pod.as_usize())?.upstream.as_deref()
    }

    /// The value of `x-hashroute-pod` for a pod of this table's view.
    pub(super) fn pod_header(&self, pod: PodIndex) -> &HeaderValue {
        &self.pods[pod.as_usize()].header
    }
}

/// An id as a header value. One with control characters, which no header may have, is written
/// without them.
fn header(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).unwrap_or_else(|_| {
        let printable: String = id.chars().filter(|letter| !letter.is_control()).collect();
        HeaderValue::from_str(&printable).unwrap_or(HeaderValue::from_static("?"))
    })
}
