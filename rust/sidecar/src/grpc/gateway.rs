//! What the requests of one gRPC loop share.
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use hashroute_core::{Pod, PodIndex, PodState};
use hashroute_dataplane::health::Health;
use http::HeaderValue;

use super::upstream::Upstream;
use crate::metrics::TransportMetrics;
use crate::routing::Routing;
use crate::shared::Shared;

/// The state of one gRPC loop.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) shared: Arc<Shared>,
    table: RefCell<Rc<Table>>,
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
    /// Begins to connect to the pods.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let routing = shared.routing.load_full();
        let table = RefCell::new(Rc::new(Table::new(&shared, routing, HashMap::new())));
        Self { shared, table }
    }

    /// The counters of this loop.
    pub(super) fn metrics(&self) -> &TransportMetrics {
        &self.shared.metrics.grpc
    }

    /// The present table: that of the routing state in force.
    pub(super) fn table(&self) -> Rc<Table> {
        let routing = self.shared.routing.load();
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(&routing, &table.routing) {
            let known = table.upstreams();
            *table = Rc::new(Table::new(&self.shared, Arc::clone(&routing), known));
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
                    Some(Upstream::start(Arc::clone(shared), pod.id.clone(), address.clone()))
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
