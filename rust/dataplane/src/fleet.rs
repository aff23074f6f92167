//! The live state over one ring, for one transport: who is well, who is busy, who takes the next
//! request.

mod choice;
mod live;
mod load;
mod memory;

pub use choice::{NoPod, Reason, TRIED_MAX, Tried};
pub use live::{Answer, Permit, PodStatus};
pub use load::{LoadBound, LoadBoundError};

use crate::health::{self, Cause, Event, Health, Transition};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use hashroute_core::{Pod, PodIndex, Preference, Ring, Slot};
use live::{Common, LivePod};
use memory::Memory;
use std::sync::Arc;

/// How often one request walks the preference list, losing its place to another thread each time.
pub const WALKS_MAX: usize = 64;

/// The sum of the shares of all pods that serve, roughly: each share is rounded down.
const SHARES: u128 = 1 << 31;
/// Steps by the golden ratio, which spread evenly over the slots however many are taken.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Over which transport a fleet talks to its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// gRPC; pods without a gRPC address are passed over.
    Grpc,
    /// `ZeroMQ`; pods without a `ZeroMQ` address are passed over.
    Zmq,
    /// Whatever the caller makes of a pod: every pod serves.
    Any,
}

impl Transport {
    /// The word in the status and in the metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Zmq => "zmq",
            Self::Any => "any",
        }
    }

    fn serves(self, pod: &Pod) -> bool {
        pod.state.owns_slots()
            && match self {
                Self::Grpc => pod.addresses.grpc.is_some(),
                Self::Zmq => pod.addresses.zmq.is_some(),
                Self::Any => true,
            }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// By which rules a fleet judges and loads its pods.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FleetPolicy {
    /// How much of the requests in flight one pod may have.
    pub load: LoadBound,
    /// When a pod is up.
    pub health: health::Policy,
}

/// A pod of the ring, as this fleet sees it.
#[derive(Debug)]
struct Member {
    live: Arc<LivePod>,
    /// Its fair share, out of roughly [`SHARES`]; at least 1 if it serves, else 0.
    share: u32,
}

impl Member {
    const fn serves(&self) -> bool {
        self.share > 0
    }

    fn is_up(&self) -> bool {
        self.serves() && self.live.health() == Health::Up
    }
}

/// A pod for a request.
#[derive(Debug, Clone, Copy)]
struct Choice<'a> {
    pod: PodIndex,
    member: &'a Member,
    reason: Reason,
}

/// The first pod of each kind that could be made to take a request.
#[derive(Debug, Clone, Copy, Default)]
struct Fallback<'a> {
    crowded: Option<Choice<'a>>,
    suspect: Option<Choice<'a>>,
    down: Option<Choice<'a>>,
}

/// The pods of one ring over one transport, with their health and the requests they have in flight.
///
/// [`Fleet::choose`] may be called from any thread: it takes no lock, and allocates only if the
/// owner of the slot does not take the request. When the view changes, [`Fleet::follow`] makes the
/// next fleet, and both share what is known of the pods that they have in common.
#[derive(Debug)]
pub struct Fleet {
    ring: Ring,
    transport: Transport,
    load: LoadBound,
    /// In the order of the view's pods.
    members: Box<[Member]>,
    /// Pods that left the view with requests in flight: should they come back, they are counted.
    departed: Vec<Arc<LivePod>>,
    common: Arc<Common>,
    memory: Memory,
    /// The sum of the shares of the pods that are up (low half), as it was at the change of health
    /// of this number (high half).
    shares_up: AtomicU64,
}

impl Fleet {
    /// A fleet of which nothing is known yet: every pod counts as up.
    #[must_use]
    pub fn new(ring: Ring, transport: Transport, policy: FleetPolicy) -> Self {
        Self::build(ring, transport, policy, Arc::default(), Vec::new())
    }

    /// The fleet for another ring or another policy. A pod of the same id keeps its health, its
    /// counters and its requests in flight; permits of this fleet stay valid and keep counting.
    #[must_use]
    pub fn follow(&self, ring: Ring, policy: FleetPolicy) -> Self {
        let known = self.members.iter().map(|member| &member.live).chain(&self.departed);
        let known = known.map(Arc::clone).collect();
        Self::build(ring, self.transport, policy, Arc::clone(&self.common), known)
    }

    fn build(
        ring: Ring,
        transport: Transport,
        policy: FleetPolicy,
        common: Arc<Common>,
        mut known: Vec<Arc<LivePod>>,
    ) -> Self {
        let pods = ring.view().pods();
        let serving = pods.iter().filter(|pod| transport.serves(pod));
        let weights: u128 = serving.map(|pod| u128::from(pod.weight.millionths())).sum();
        let mut member = |pod: &Pod| {
            let same = known.iter().position(|live| *live.id() == pod.id);
            let live = match same {
                Some(place) => known.swap_remove(place),
                None => Arc::new(LivePod::new(pod.id.clone(), policy.health, Arc::clone(&common))),
            };
            live.set_policy(policy.health);
            let share = if transport.serves(pod) { share(pod, weights) } else { 0 };
            Member { live, share }
        };
        let members = pods.iter().map(&mut member).collect();
        known.retain(|live| live.in_flight() > 0);
        let fleet = Self {
            ring,
            transport,
            load: policy.load,
            members,
            departed: known,
            common,
            memory: Memory::new(),
            shares_up: AtomicU64::new(0),
        };
        fleet.count_shares_up(fleet.common.health_changes());
        fleet
    }

    /// Chooses the pod for a request of `slot` that has not been to the pods in `tried`, and counts
    /// the request in flight there until the permit is dropped.
    ///
    /// Along the slot's preference list, the first pod that is up and within its load bound. With
    /// none, in this order: an up pod beyond its bound, a suspect pod, a pod that is down. A slot
    /// whose owner is up and full first asks the pod where it last found room, for a number of
    /// requests in a row: a hot slot then neither walks its list for each request nor is scattered
    /// over all pods that have room for a moment.
    ///
    /// The bounds of all up pods together hold more than what is in flight, so one of them always
    /// has room, and none is taken past its bound: its count goes up only if it is still the one
    /// that was compared. The exceptions are a retry whose other pods are all full, since the
    /// alternative is to refuse it, and the loss of [`WALKS_MAX`] races in a row.
    ///
    /// # Errors
    ///
    /// [`NoPod`] if all pods that serve the transport were tried, or there are none.
    pub fn choose(&self, slot: Slot, tried: &Tried) -> Result<Permit, NoPod> {
        let total = self.common.arrive();
        let owner = self.ring.owner(slot);
        let choice = match self.member(owner) {
            Some(member) if self.takes(owner, member, tried, total) => {
                Some(Choice { pod: owner, member, reason: Reason::Owner })
            }
            Some(member) if tried.is_empty() && member.is_up() => self.spill(slot),
            _ => self.walk(slot, tried),
        };
        let Some(Choice { pod, member, reason }) = choice else {
            self.common.depart();
            return Err(self.no_pod());
        };
        member.live.count_choice(reason, !tried.is_empty());
        Ok(Permit::new(Arc::clone(&member.live), pod, reason))
    }

    /// Takes this very pod for a write, whatever its health and its load, and counts the request in
    /// flight there: what has one writer goes nowhere else. `None` if the view does not have the
    /// pod.
    #[must_use]
    pub fn take(&self, pod: PodIndex) -> Option<Permit> {
        let member = self.member(pod)?;
        self.common.arrive();
        member.live.enter();
        Some(Permit::new(Arc::clone(&member.live), pod, Reason::Owner))
    }

    /// Whether a pod is down because it leaves probes unanswered, or says that it does not serve:
    /// what is sent to it may stay there for ever. (One that refuses connections, or lost them,
    /// takes the next request or refuses it at once.) Takes the lock of the pod's judgement if the
    /// pod is down.
    #[must_use]
    pub fn is_silent(&self, pod: PodIndex) -> bool {
        let Some(member) = self.member(pod) else { return true };
        if member.live.health() != Health::Down {
            return false;
        }
        let cause = member.live.status().last_fall.map(|fall| fall.cause);
        matches!(cause, Some(Cause::ProbeTimedOut | Cause::ProbeMalformed | Cause::NotServing))
    }

    /// Chooses a pod for a request whose owner is full: the one where the slot last found room, or
    /// the first with room.
    fn spill(&self, slot: Slot) -> Option<Choice<'_>> {
        if let Some(pod) = self.memory.take(slot)
            && let Some(member) = self.member(pod)
            && member.is_up()
            && self.admits(member, self.common.in_flight())
        {
            return Some(Choice { pod, member, reason: Reason::Spill });
        }
        let choice = self.walk(slot, &Tried::none())?;
        if choice.reason == Reason::Spill {
            self.memory.keep(slot, choice.pod);
        }
        Some(choice)
    }

    /// Walks the preference list for a pod that takes the request, or else for the best one on
    /// which to force it. Counts it there.
    fn walk(&self, slot: Slot, tried: &Tried) -> Option<Choice<'_>> {
        let list = self.ring.preference(slot);
        // While the list is walked, other threads' requests come and go, and the free place with
        // them: that none was found then only means to look again.
        let walks = if tried.is_empty() { WALKS_MAX } else { 1 };
        let mut best = None;
        for _ in 0..walks {
            match self.pass(list.clone(), tried) {
                Ok(choice) => return Some(choice),
                Err(fallback) => {
                    best = fallback.crowded.or(fallback.suspect).or(fallback.down);
                    if fallback.crowded.is_none() {
                        break;
                    }
                }
            }
        }
        best.inspect(|choice| choice.member.live.enter())
    }

    /// Goes through the preference list once. Counts the request if a pod takes it.
    fn pass<'a>(&'a self, list: Preference<'_>, tried: &Tried) -> Result<Choice<'a>, Fallback<'a>> {
        let total = self.common.in_flight();
        let mut fallback = Fallback::default();
        for (place, pod) in list.enumerate() {
            let Some(member) = self.member(pod) else { continue };
            if !member.serves() || tried.contains(pod) {
                continue;
            }
            let reason = match (place, fallback.crowded) {
                (0, _) => Reason::Owner,
                (_, Some(_)) => Reason::Spill,
                (_, None) => Reason::Failover,
            };
            let choice = Choice { pod, member, reason };
            match member.live.health() {
                Health::Up if self.admits(member, total) => return Ok(choice),
                Health::Up => fallback.crowded = fallback.crowded.or(Some(choice)),
                Health::Suspect => fallback.suspect = fallback.suspect.or(Some(choice)),
                Health::Down => {
                    let choice = Choice { reason: Reason::LastResort, ..choice };
                    fallback.down = fallback.down.or(Some(choice));
                }
            }
        }
        Err(fallback)
    }

    /// Whether the pod takes the request, as the first choice; counts it if so.
    fn takes(&self, pod: PodIndex, member: &Member, tried: &Tried, total: u64) -> bool {
        member.is_up() && !tried.contains(pod) && self.admits(member, total)
    }

    /// Whether the pod may have one request more, of `total`; counts it if so.
    fn admits(&self, member: &Member, total: u64) -> bool {
        let shares_up = self.shares_up();
        member.live.enter_if(|in_flight| {
            self.load.admits(in_flight, total, u64::from(member.share), u64::from(shares_up))
        })
    }

    /// The sum of the shares of the pods that are up.
    fn shares_up(&self) -> u32 {
        let changes = self.common.health_changes();
        let [counted_at, shares] = halves(self.shares_up.load(Ordering::Relaxed));
        if counted_at == changes { shares } else { self.count_shares_up(changes) }
    }

    /// Counts the shares anew. A count that another thread overwrites with an older one is told by
    /// its number, and made again.
    fn count_shares_up(&self, changes: u32) -> u32 {
        let up = self.members.iter().filter(|member| member.live.health() == Health::Up);
        let shares = up.map(|member| member.share).fold(0, u32::saturating_add);
        self.shares_up.store((u64::from(changes) << 32) | u64::from(shares), Ordering::Relaxed);
        shares
    }

    fn no_pod(&self) -> NoPod {
        let pods = self.members.iter().filter(|member| member.serves()).count();
        let transport = self.transport;
        if pods == 0 {
            NoPod::NoneServes { transport }
        } else {
            NoPod::AllTried { pods, transport }
        }
    }

    /// A slot for a request without a key: each call another, spread evenly over all slots.
    #[must_use]
    pub fn any_slot(&self) -> Slot {
        self.ring.slot_of_hash(self.common.turn().wrapping_mul(GOLDEN))
    }

    /// Tells what happened at a pod; returns the change of health, if it was one. (To be told by a
    /// request that holds a permit, see [`Permit::observe`].)
    ///
    /// Takes the lock of this pod's judgement, except for the success of a request at a pod that is
    /// up, which is one load. A pod that this view does not have is nobody's concern: `None`.
    pub fn observe(&self, pod: PodIndex, now: Duration, event: Event) -> Option<Transition> {
        self.member(pod)?.live.observe(now, event)
    }

    /// The health of a pod; of one that this view does not have, down.
    #[must_use]
    pub fn health(&self, pod: PodIndex) -> Health {
        self.member(pod).map_or(Health::Down, |member| member.live.health())
    }

    /// What is known of a pod; `None` if this view does not have it.
    #[must_use]
    pub fn status(&self, pod: PodIndex) -> Option<PodStatus> {
        Some(self.member(pod)?.live.status())
    }

    /// How many requests are in flight, over all pods, also those that left.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.common.in_flight()
    }

    /// The ring by which this fleet chooses.
    #[must_use]
    pub const fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The transport of this fleet.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    fn member(&self, pod: PodIndex) -> Option<&Member> {
        self.members.get(pod.as_usize())
    }
}

fn share(pod: &Pod, weights: u128) -> u32 {
    let part = u128::from(pod.weight.millionths()).saturating_mul(SHARES);
    u32::try_from(part.checked_div(weights).unwrap_or_default()).unwrap_or(u32::MAX).max(1)
}

/// The high and the low half of a word.
fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

#[cfg(test)]
mod tests;
