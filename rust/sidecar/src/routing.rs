//! What every request is routed by: one immutable value, replaced as a whole when settings are
//! applied.
use std::sync::Arc;

use hashroute_coordination::Record;
use hashroute_core::{Epoch, PodIndex, Ring, Slot};
use hashroute_dataplane::fleet::{Fleet, Transport};
use hashroute_dataplane::retry::RetryBudget;
use hashroute_dataplane::route::RouteTable;

use crate::settings::{Checked, HealthSettings, RetrySettings, ZmqSettings};

/// The routing state of one moment. A request loads it once and keeps it to its end.
#[derive(Debug)]
pub(crate) struct Routing {
    /// The ring of the present view.
    pub(crate) ring: Ring,
    /// Rules for gRPC methods.
    pub(crate) routes: RouteTable,
    /// Rules for ZeroMQ requests.
    pub(crate) zmq: ZmqSettings,
    /// How pods are probed.
    pub(crate) health: HealthSettings,
    /// When and how often a request is tried again.
    pub(crate) retry: RetrySettings,
    /// The pods and the retry budget of gRPC.
    pub(crate) grpc_side: Side,
    /// The pods and the retry budget of ZeroMQ.
    pub(crate) zmq_side: Side,
    terms: Terms,
}

/// What is kept for each transport.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// The pods: their health, and what each has in flight.
    pub(crate) fleet: Arc<Fleet>,
    /// What pays for retries.
    pub(crate) budget: Arc<RetryBudget>,
}

impl Routing {
    /// The state of a sidecar that starts with `checked`.
    pub(crate) fn new(checked: Checked) -> Self {
        let Checked { settings, ring, policy } = checked;
        let side = |transport| Side {
            fleet: Arc::new(Fleet::new(ring.clone(), transport, policy)),
            budget: Arc::new(budget(settings.retry)),
        };
        Self {
            terms: Terms::first(&ring),
            grpc_side: side(Transport::Grpc),
            zmq_side: side(Transport::Zmq),
            ring,
            routes: settings.routes,
            zmq: settings.zmq,
            health: settings.health,
            retry: settings.retry,
        }
    }

    /// The state that follows this one when `checked` is applied: pods that stay keep their health,
    /// their counters and their requests in flight; slots that stay with their pod keep their term.
    pub(crate) fn follow(&self, checked: Checked) -> Self {
        let Checked { settings, ring, policy } = checked;
        let side = |side: &Side| Side {
            fleet: Arc::new(side.fleet.follow(ring.clone(), policy)),
            budget: if settings.retry == self.retry {
                Arc::clone(&side.budget)
            } else {
                Arc::new(budget(settings.retry))
            },
        };
        Self {
            terms: self.terms.follow(&self.ring, &ring),
            grpc_side: side(&self.grpc_side),
            zmq_side: side(&self.zmq_side),
            ring,
            routes: settings.routes,
            zmq: settings.zmq,
            health: settings.health,
            retry: settings.retry,
        }
    }

    /// The epoch at which the present owner of `slot` got it, in this sidecar's own history of
    /// views.
    #[must_use]
    pub(crate) fn term(&self, slot: Slot) -> Epoch {
        self.terms.of(slot)
    }
}

pub(crate) fn budget(retry: RetrySettings) -> RetryBudget {
    RetryBudget::new(retry.budget_ratio, retry.budget_reserve)
}

/// For each slot the epoch at which its present owner got it.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    epochs: Vec<Epoch>,
}

impl Terms {
    pub(crate) fn first(ring: &Ring) -> Self {
        Self { epochs: vec![ring.view().epoch(); ring.owners().len()] }
    }

    /// The terms that a quorum agreed on.
    pub(crate) fn of_record(record: &Record) -> Self {
        Self { epochs: record.slot_terms().iter().copied().map(Epoch::new).collect() }
    }

    /// A slot keeps its term while its owner stays, whatever else changes. A view with another
    /// number of slots is another mapping: every term begins with it.
    pub(crate) fn follow(&self, from: &Ring, to: &Ring) -> Self {
        let mut next = Self::first(to);
        if from.owners().len() != to.owners().len() {
            return next;
        }
        let before: Vec<Option<PodIndex>> =
            to.view().pods().iter().map(|pod| from.view().index_of(pod.id.as_str())).collect();
        let owners = from.owners().iter().zip(to.owners());
        for ((term, kept), (old, new)) in next.epochs.iter_mut().zip(&self.epochs).zip(owners) {
            if before[usize::from(*new)] == Some(PodIndex::new(*old)) {
                *term = *kept;
            }
        }
        next
    }

    pub(crate) fn of(&self, slot: Slot) -> Epoch {
        self.epochs[slot.get() as usize]
    }
}
