//! The ring: the table of a view, ready to look keys up.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::assignment::{Assignment, assign};
use crate::capacity;
use crate::contender::{Contender, contenders, contenders_after};
use crate::error::ViewError;
use crate::follow::follow;
use crate::hash::{Fnv1a, hash_key};
use crate::heirs::Heirs;
use crate::held::Held;
use crate::id::{PodIndex, Slot};
use crate::logarithm::Logarithm;
use crate::view::{Parameters, View};
use crate::visitors::Visitors;

/// The owners of all slots of one view: immutable, and cheap to clone.
///
/// The table is a pure function of the view's pods that may own slots (ids, weights) and of its
/// parameters: not of history, order, process, platform or language.
#[derive(Clone)]
pub struct Ring {
    /// All that a lookup reads: kept here to save it a hop.
    owners: Arc<[u16]>,
    /// How many of the [`HIGH_BITS`] of a hash do not belong to the slot.
    spare_bits: u32,
    parts: Arc<Parts>,
}

/// What everything but a lookup reads.
pub(crate) struct Parts {
    pub(crate) view: View,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) logarithm: Logarithm,
    /// By pod of the view, as are the lists after it: the place of the first pod of its zone.
    pub(crate) zones: Vec<u16>,
    pub(crate) counts: Vec<u32>,
    pub(crate) capacities: Vec<u32>,
    pub(crate) bounds: Vec<u32>,
    /// By zone as in `zones`: how many slots its pods own together.
    pub(crate) zone_counts: Vec<u32>,
    /// By slot: in which of its visits its owner sees it.
    pub(crate) held: Held,
    /// How many zones the contenders are in.
    pub(crate) zones_in_use: usize,
    /// The sum of their weights.
    pub(crate) weights: u64,
    /// By contender, as are the lists after it: it owns no slot that it visits later than this,
    /// and if it is full, this is the visit of its latest slot.
    pub(crate) latest: Vec<u32>,
    /// The visits before this one are those to slots that it would take now: all if
    /// it has room, those before its latest slot's if it is full.
    pub(crate) reaches: Vec<u32>,
    pub(crate) visitors: Visitors,
    pub(crate) heirs: Heirs,
    /// 0 until somebody asks: it takes as long as the rest of a build.
    digest: AtomicU64,
}

impl Ring {
    /// Builds the table of `view`. Cost: a few milliseconds for 65,536 slots and any pods.
    ///
    /// # Errors
    ///
    /// [`ViewError::NoEligiblePod`] if every pod is draining or down.
    pub fn build(view: View) -> Result<Self, ViewError> {
        let race = Entrants::new(&view, contenders(&view))?;
        let logarithm = Logarithm::new(view.parameters().slots());
        let assignment = race.assign(&logarithm);
        Ok(race.ring(view, logarithm, assignment))
    }

    /// The ring of `view`, made from this one: the very ring that [`Ring::build`] would make, in
    /// a fraction of the time if few pods join, leave or change weight. Where the tables agree
    /// they are shared. A view with other parameters, or many changes, is built anew.
    ///
    /// # Errors
    ///
    /// [`ViewError::NoEligiblePod`] if every pod is draining or down.
    pub fn follow(&self, view: View) -> Result<Self, ViewError> {
        if view.parameters() != self.view().parameters() {
            return Self::build(view);
        }
        let (contenders, origins) = contenders_after(&view, self.view(), &self.parts.contenders);
        let race = Entrants::new(&view, contenders)?;
        let logarithm = self.parts.logarithm.clone();
        let assignment = follow(self, &race.contenders, &origins, &race.capacities, &race.visitors)
            .unwrap_or_else(|| race.assign(&logarithm));
        let mut ring = race.ring(view, logarithm, assignment);
        if ring.owners == self.owners {
            ring.owners = Arc::clone(&self.owners);
        }
        Ok(ring)
    }

    /// The view of this ring.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.parts.view
    }

    /// The slot of a key of any bytes. The same in every view of as many slots.
    #[inline]
    #[must_use]
    pub fn slot(&self, key: &[u8]) -> Slot {
        self.slot_of_hash(hash_key(key))
    }

    /// The slot of a key whose [`hash_key`] is `hash`: its high bits.
    #[inline]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "24 bits are left")]
    pub fn slot_of_hash(&self, hash: u64) -> Slot {
        // The first shift is the same for all rings: then the compiler leaves out what the end of
        // the hash does to lower bits.
        Slot::new(((hash >> (u64::BITS - HIGH_BITS)) as u32).wrapping_shr(self.spare_bits))
    }

    /// The pod that owns `slot`, taken modulo the number of slots. One load, no lock.
    #[inline]
    #[must_use]
    pub fn owner(&self, slot: Slot) -> PodIndex {
        // The number of slots is a power of two, so this is in range and no branch can panic.
        let place = slot.get() as usize & self.owners.len().wrapping_sub(1);
        PodIndex::new(self.owners.get(place).copied().unwrap_or_default())
    }

    /// The pod that owns the slot of `key`.
    #[inline]
    #[must_use]
    pub fn owner_of_key(&self, key: &[u8]) -> PodIndex {
        // The slot of a key is always in range, which saves what `owner` does to other slots.
        let slot = self.slot(key).get() as usize;
        PodIndex::new(self.owners.get(slot).copied().unwrap_or_default())
    }

    /// The owners of all slots, as places in the view's pods.
    #[must_use]
    pub fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// One word that differs between two tables, whatever way the ids of their pods are numbered:
    /// FNV-1a over the hashes of the owners' ids, slot by slot.
    ///
    /// Cost: about a millisecond for 65,536 slots the first time, then one load.
    #[must_use]
    pub fn digest(&self) -> u64 {
        // Two threads that both find 0 compute the same word, so the order of memory is no matter.
        let known = self.parts.digest.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let mut hash_of = vec![0; self.parts.view.pods().len()];
        for contender in &self.parts.contenders {
            hash_of[contender.pod.as_usize()] = contender.hash;
        }
        let mut digest = Fnv1a::new();
        for owner in self.owners() {
            digest.write_u64(hash_of[usize::from(*owner)]);
        }
        let digest = digest.finish();
        self.parts.digest.store(digest, Ordering::Relaxed);
        digest
    }

    /// How many slots each pod owns, in the order of the view's pods.
    #[must_use]
    pub fn slot_counts(&self) -> &[u32] {
        &self.parts.counts
    }

    /// The part of all slots that each pod owns, in the order of the view's pods. They sum to 1.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let slots = f64::from(self.parts.view.parameters().slots());
        self.parts.counts.iter().map(|count| f64::from(*count) / slots).collect()
    }

    /// The part of all slots that would be fair, by weight: what the load bounds are taken from.
    /// 0 for a pod that may not own slots.
    #[must_use]
    pub fn fair_shares(&self) -> Vec<f64> {
        let contenders = &self.parts.contenders;
        let sum: f64 = contenders.iter().map(weight_of).sum();
        let mut shares = vec![0.0; self.parts.view.pods().len()];
        for contender in contenders {
            shares[contender.pod.as_usize()] = weight_of(contender) / sum;
        }
        shares
    }

    /// The most slots that each pod may own in this table, in the order of the view's pods: the
    /// load bound, rounded up or down by the hash of the pod's id.
    #[must_use]
    pub fn capacities(&self) -> &[u32] {
        &self.parts.capacities
    }

    /// (1 + epsilon) times each pod's fair share of the slots, rounded up: what no table of this
    /// view exceeds, steps of a plan included.
    #[must_use]
    pub fn bounds(&self) -> &[u32] {
        &self.parts.bounds
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
    }
}

/// As many bits of a hash as the largest number of slots has.
const HIGH_BITS: u32 = Parameters::SLOTS_MAX.trailing_zeros();

/// The pods of a view that may own slots, and how many each may own.
struct Entrants {
    contenders: Vec<Contender>,
    capacities: Vec<u32>,
    visitors: Visitors,
}

impl Entrants {
    fn new(view: &View, contenders: Vec<Contender>) -> Result<Self, ViewError> {
        let parameters = view.parameters();
        if contenders.is_empty() {
            return Err(ViewError::NoEligiblePod { pods: view.pods().len() });
        }
        let capacities = capacity::capacities(parameters, &contenders);
        let visitors = Visitors::new(parameters.slots(), &contenders);
        Ok(Self { contenders, capacities, visitors })
    }

    fn assign(&self, logarithm: &Logarithm) -> Assignment {
        assign(logarithm.slots(), logarithm.times(), &self.contenders, &self.capacities)
    }

    /// The ring of this assignment, with everything by pod of the view.
    fn ring(self, view: View, logarithm: Logarithm, assignment: Assignment) -> Ring {
        let Self { contenders, capacities, visitors } = self;
        let slots = view.parameters().slots();
        let by_pod = |values: &[u32]| {
            let mut spread = vec![0; view.pods().len()];
            for (contender, value) in contenders.iter().zip(values) {
                spread[contender.pod.as_usize()] = *value;
            }
            spread
        };
        let bounds = capacity::bounds(view.parameters(), &contenders);
        let reaches = assignment.reaches(slots, &capacities);
        let owners = if contenders.len() == view.pods().len() {
            Arc::from(assignment.owners)
        } else {
            let pods: Vec<u16> = contenders.iter().map(|contender| contender.pod.get()).collect();
            assignment.owners.iter().map(|place| pods[usize::from(*place)]).collect()
        };
        let counts = by_pod(&assignment.counts);
        let zones = zones(&view);
        let parts = Parts {
            zone_counts: zone_counts(&zones, &counts),
            zones_in_use: zones_in_use(&zones, &contenders),
            weights: contenders.iter().map(|contender| contender.weight).sum(),
            zones,
            counts,
            capacities: by_pod(&capacities),
            bounds: by_pod(&bounds),
            held: assignment.held,
            latest: assignment.latest,
            reaches,
            visitors,
            heirs: Heirs::new(slots, view.pods().len(), contenders.len()),
            digest: AtomicU64::new(0),
            view,
            contenders,
            logarithm,
        };
        Ring { owners, spare_bits: HIGH_BITS - slots.trailing_zeros(), parts: Arc::new(parts) }
    }
}

impl fmt::Debug for Ring {
    /// The view and the digest, which say all: the table itself would fill pages.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = format_args!("{:016x}", self.digest());
        out.debug_struct("Ring").field("view", self.view()).field("digest", &digest).finish()
    }
}

/// A number for the zone of each pod: the place of its first pod. A pod without zone is alone.
fn zones(view: &View) -> Vec<u16> {
    let mut first_of = BTreeMap::new();
    (0..=u16::MAX)
        .zip(view.pods())
        .map(|(place, pod)| match &pod.zone {
            None => place,
            Some(zone) => *first_of.entry(zone).or_insert(place),
        })
        .collect()
}

/// See [`Parts::zone_counts`].
fn zone_counts(zones: &[u16], counts: &[u32]) -> Vec<u32> {
    let mut sums = vec![0; zones.len()];
    for (zone, count) in zones.iter().zip(counts) {
        sums[usize::from(*zone)] += *count;
    }
    sums
}

fn zones_in_use(zones: &[u16], contenders: &[Contender]) -> usize {
    let mut used = vec![false; zones.len()];
    for contender in contenders {
        used[usize::from(zones[contender.pod.as_usize()])] = true;
    }
    used.into_iter().filter(|used| *used).count()
}

#[allow(clippy::cast_precision_loss, reason = "weights stay below 2^53 millionths")]
fn weight_of(contender: &Contender) -> f64 {
    contender.weight as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::pod::PodState;
    use crate::view::{Parameters, pod};

    fn ring(bits: u32, epsilon: f64, weights: &[f64]) -> Ring {
        let parameters = Parameters::new(1 << bits, epsilon, 0).unwrap();
        let pods = weights
            .iter()
            .enumerate()
            .map(|(number, weight)| pod(&std::format!("pod-{number:04}"), *weight))
            .collect();
        Ring::build(View::new(Epoch::new(1), parameters, pods).unwrap()).unwrap()
    }

    /// The digest, and the owners of slots 0, 1, 2, 3, M/2 and M - 1.
    fn summary(ring: &Ring) -> (u64, [u16; 6]) {
        let owners = ring.owners();
        let ends = [0, 1, 2, 3, owners.len() / 2, owners.len() - 1];
        (ring.digest(), ends.map(|slot| owners[slot]))
    }

    #[test]
    fn the_mapping_is_the_specified_one() {
        let cycle =
            |weights: &[f64], pods| weights.iter().copied().cycle().take(pods).collect::<Vec<_>>();
        let cases = [
            (6, 0.05, vec![1.0], 0xf26e_16a0_0d0a_4b25, [0, 0, 0, 0, 0, 0]),
            (6, 0.05, vec![1.0; 3], 0xe194_fb0f_b82b_63bb, [2, 2, 1, 0, 0, 1]),
            (6, 0.0, vec![1.0; 40], 0x6e88_a061_7d35_f155, [17, 16, 32, 19, 22, 1]),
            (10, 0.05, vec![0.1, 1.0, 2.5], 0xa175_07d4_6a6b_021b, [1, 2, 2, 2, 2, 1]),
            (12, 0.02, cycle(&[1.0, 2.0, 4.0], 16), 0xcf84_751c_9ee5_29a8, [5, 1, 10, 13, 13, 11]),
            (14, 0.1, vec![1.0; 16], 0x1772_a0a7_b622_d5d5, [5, 13, 7, 2, 0, 12]),
            (16, 0.05, vec![1.0; 2], 0x36ba_be39_9d0b_c071, [1, 1, 1, 0, 0, 1]),
            (16, 0.05, vec![1.0; 16], 0x829c_4316_3165_ca2d, [9, 11, 1, 2, 14, 1]),
            (16, 0.05, vec![1.0; 128], 0x5a31_d29a_9877_920b, [17, 61, 1, 26, 83, 97]),
            (16, 0.05, vec![1.0; 1000], 0x558f_81e1_432d_8b71, [969, 281, 612, 387, 206, 370]),
            (
                16,
                0.05,
                cycle(&[1.0, 2.0, 4.0], 1000),
                0x129e_ae05_7330_8211,
                [449, 281, 612, 635, 206, 370],
            ),
        ];
        for (bits, epsilon, weights, digest, owners) in cases {
            assert_eq!(summary(&ring(bits, epsilon, &weights)), (digest, owners), "{weights:?}");
        }
    }

    #[test]
    fn as_many_pods_as_a_view_can_hold_make_a_ring() {
        let full = ring(16, 0.05, &vec![1.0; View::PODS_MAX]);
        assert_eq!(full.slot_counts().iter().sum::<u32>(), 1 << 16);
        assert_eq!(full.preference(Slot::new(0)).count(), View::PODS_MAX);
        let without = Ring::build(full.view().without_pod("pod-0000").unwrap()).unwrap();
        let plan = full.plan(&without, None).unwrap();
        assert_eq!(plan.pods().len(), View::PODS_MAX);
    }

    #[test]
    fn a_view_in_which_nobody_may_own_slots_has_no_ring() {
        let view = ring(6, 0.05, &[1.0]).view().with_state("pod-0000", PodState::Draining).unwrap();
        assert_eq!(Ring::build(view).unwrap_err(), ViewError::NoEligiblePod { pods: 1 });
    }

    #[test]
    fn a_key_is_in_the_slot_of_its_high_bits() {
        let ring = ring(6, 0.05, &[1.0; 3]);
        for key in [&b""[..], b"AAPL", &[0xFF; 1 << 20]] {
            let slot = ring.slot(key);
            assert_eq!(u64::from(slot.get()), hash_key(key) >> 58);
            assert_eq!(ring.owner_of_key(key).get(), ring.owners()[slot.get() as usize]);
        }
        // A slot of a finer ring is taken modulo the number of slots.
        assert_eq!(ring.owner(Slot::new(64 + 5)), ring.owner(Slot::new(5)));
    }

    #[test]
    fn fair_shares_go_by_weight_and_skip_pods_that_own_nothing() {
        let view = ring(10, 0.05, &[1.0, 2.0, 1.0]).view().clone();
        let drained = view.with_state("pod-0000", PodState::Draining).unwrap();
        let ring = Ring::build(drained).unwrap();
        let expected = [0.0, 2.0 / 3.0, 1.0 / 3.0];
        for (share, expected) in ring.fair_shares().iter().zip(expected) {
            assert!((share - expected).abs() < 1e-12);
        }
        assert_eq!(ring.capacities()[0], 0);
    }
}
