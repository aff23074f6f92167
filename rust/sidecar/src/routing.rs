//! What every request is routed by: one immutable value, replaced as a whole when settings are
//! applied or the quorum agrees on another record.
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{Record, Resource, Writer};
use hashroute_core::{Epoch, PodIndex, Ring, Slot};
use hashroute_dataplane::fleet::{Fleet, FleetPolicy, Transport};
use hashroute_dataplane::retry::RetryBudget;
use hashroute_dataplane::route::RouteTable;

use crate::settings::{Checked, HealthSettings, RetrySettings, Settings, ZmqSettings};

/// The routing state of one moment. A request loads it once and keeps it to its end.
#[derive(Debug)]
pub(crate) struct Routing {
    /// The ring of the present view.
    pub(crate) ring: Ring,
    /// Rules for requests.
    pub(crate) rules: Rules,
    /// The pods and the retry budget of gRPC.
    pub(crate) grpc_side: Side,
    /// The pods and the retry budget of ZeroMQ.
    pub(crate) zmq_side: Side,
    terms: TermSource,
}

/// What the settings say of requests and pods, whatever the view.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Rules for gRPC methods.
    pub(crate) routes: RouteTable,
    /// Rules for ZeroMQ requests.
    pub(crate) zmq: ZmqSettings,
    /// How pods are probed.
    pub(crate) health: HealthSettings,
    /// When and how often a request is tried again.
    pub(crate) retry: RetrySettings,
    /// For how long a write looks for a pod that accepts it.
    pub(crate) patience: Duration,
    /// How pods are judged and loaded.
    policy: FleetPolicy,
}

/// What is kept for each transport.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// The pods: their health, and what each has in flight.
    pub(crate) fleet: Arc<Fleet>,
    /// What pays for retries.
    pub(crate) budget: Arc<RetryBudget>,
}

/// Since when each slot has its owner.
#[derive(Clone, Debug)]
enum TermSource {
    /// In this sidecar's own history of views.
    Own(Terms),
    /// By the record of the quorum.
    Agreed(Record),
}

/// Who may write a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The process.
    pub(crate) writer: Writer,
    /// Its pod, in the view of the same routing state; none if that does not have it.
    pub(crate) pod: Option<PodIndex>,
    /// The fencing token.
    pub(crate) term: Epoch,
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
            terms: TermSource::Own(Terms::first(&ring)),
            grpc_side: side(Transport::Grpc),
            zmq_side: side(Transport::Zmq),
            ring,
            rules: Rules::new(settings, policy),
        }
    }

    /// The state that follows this one when `checked` is applied: pods that stay keep their health,
    /// their counters and their requests in flight; slots that stay with their pod keep their term.
    pub(crate) fn follow(&self, checked: Checked) -> Self {
        let Checked { settings, ring, policy } = checked;
        let terms = match &self.terms {
            TermSource::Own(terms) => TermSource::Own(terms.follow(&self.ring, &ring)),
            agreed @ TermSource::Agreed(_) => agreed.clone(),
        };
        self.with(ring, terms, Rules::new(settings, policy))
    }

    /// The state that follows this one when only the rules of `checked` are applied: whose view
    /// counts is the quorum's.
    pub(crate) fn follow_rules(&self, checked: Checked) -> Self {
        let rules = Rules::new(checked.settings, checked.policy);
        self.with(self.ring.clone(), self.terms.clone(), rules)
    }

    /// The state that follows this one when `record` is agreed. By a record in which no pod may own
    /// slots nobody writes; what is read goes where it went before, as that is better than nowhere.
    pub(crate) fn follow_record(&self, record: Record) -> Self {
        let ring = ring_of(&record).unwrap_or_else(|| self.ring.clone());
        self.with(ring, TermSource::Agreed(record), self.rules.clone())
    }

    fn with(&self, ring: Ring, terms: TermSource, rules: Rules) -> Self {
        let side = |side: &Side| Side {
            fleet: Arc::new(side.fleet.follow(ring.clone(), rules.policy)),
            budget: if rules.retry == self.rules.retry {
                Arc::clone(&side.budget)
            } else {
                Arc::new(budget(rules.retry))
            },
        };
        Self {
            grpc_side: side(&self.grpc_side),
            zmq_side: side(&self.zmq_side),
            ring,
            rules,
            terms,
        }
    }

    /// The epoch at which the present owner of `slot` got it: by the quorum's record, or else in
    /// this sidecar's own history of views.
    #[must_use]
    pub(crate) fn term(&self, slot: Slot) -> Epoch {
        match &self.terms {
            TermSource::Own(terms) => terms.of(slot),
            TermSource::Agreed(record) => {
                let term = record.slot_terms().get(slot.get() as usize);
                term.map_or(record.epoch(), |term| Epoch::new(*term))
            }
        }
    }

    /// The quorum's record, once there is one.
    #[must_use]
    pub(crate) fn record(&self) -> Option<&Record> {
        match &self.terms {
            TermSource::Own(_) => None,
            TermSource::Agreed(record) => Some(record),
        }
    }

    /// Who may write `resource` by the quorum's record, if anybody may.
    #[must_use]
    pub(crate) fn owner(&self, resource: &Resource) -> Option<Owner> {
        let record = self.record()?;
        let writer = record.owner(resource)?;
        let term = record.term(resource)?;
        let pod = self.ring.view().index_of(writer.pod.as_str());
        Some(Owner { writer, pod, term })
    }
}

impl Rules {
    fn new(settings: Settings, policy: FleetPolicy) -> Self {
        Self {
            routes: settings.routes,
            zmq: settings.zmq,
            health: settings.health,
            retry: settings.retry,
            patience: settings.writes.patience,
            policy,
        }
    }
}

/// The ring of the record's view; none if no pod may own slots by it. A record may share the table
/// of one before it, whose view is another in what decides nothing: an address, the epoch.
pub(crate) fn ring_of(record: &Record) -> Option<Ring> {
    let ring = record.ring()?;
    if ring.view() == record.view() {
        return Some(ring.clone());
    }
    ring.follow(record.view().clone()).ok()
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
    /// Every slot has its owner since the epoch of `ring`.
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

    /// Of one slot.
    pub(crate) fn of(&self, slot: Slot) -> Epoch {
        self.epochs[slot.get() as usize]
    }
}
