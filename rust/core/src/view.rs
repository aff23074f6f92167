//! A view: who the pods are and by which rules slots are shared, at one epoch.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::ViewError;
use crate::id::{Epoch, PodIndex};
use crate::pod::{Pod, PodState};
use crate::weight::{Weight, from_millionths, to_millionths};

/// The rules by which the pods of a view share its slots. All of them enter the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parameters {
    slots: u32,
    epsilon_millionths: u64,
    seed: u64,
}

impl Parameters {
    /// The fewest slots.
    pub const SLOTS_MIN: u32 = 2;
    /// The most slots.
    pub const SLOTS_MAX: u32 = 1 << 24;
    /// The largest epsilon.
    pub const EPSILON_MAX: f64 = 10.0;

    /// Checks the rules: `slots` a power of two from 2 to 2^24, `epsilon` from 0 to 10 (rounded to
    /// millionths, halves to even), and any `seed`, which enters the hash of pod ids only.
    ///
    /// # Errors
    ///
    /// [`ViewError::SlotsNotPowerOfTwo`], [`ViewError::SlotsOutOfRange`],
    /// [`ViewError::EpsilonNotFinite`], [`ViewError::EpsilonOutOfRange`].
    pub fn new(slots: u64, epsilon: f64, seed: u64) -> Result<Self, ViewError> {
        if !slots.is_power_of_two() {
            return Err(ViewError::SlotsNotPowerOfTwo { slots });
        }
        let slots = u32::try_from(slots)
            .ok()
            .filter(|slots| (Self::SLOTS_MIN..=Self::SLOTS_MAX).contains(slots))
            .ok_or(ViewError::SlotsOutOfRange { slots })?;
        if !epsilon.is_finite() {
            return Err(ViewError::EpsilonNotFinite { epsilon });
        }
        if !(0.0..=Self::EPSILON_MAX).contains(&epsilon) {
            return Err(ViewError::EpsilonOutOfRange { epsilon });
        }
        let epsilon_millionths =
            to_millionths(epsilon).ok_or(ViewError::EpsilonOutOfRange { epsilon })?;
        Ok(Self { slots, epsilon_millionths, seed })
    }

    /// M, the number of slots.
    #[must_use]
    pub const fn slots(self) -> u32 {
        self.slots
    }

    /// By how much a pod may exceed its fair share of the slots: 0.05 is five percent.
    #[must_use]
    pub fn epsilon(self) -> f64 {
        from_millionths(self.epsilon_millionths)
    }

    /// Epsilon in millionths.
    #[must_use]
    pub const fn epsilon_millionths(self) -> u64 {
        self.epsilon_millionths
    }

    /// What enters the hash of pod ids, to lay the same pods out differently. Keys never see it.
    #[must_use]
    pub const fn seed(self) -> u64 {
        self.seed
    }
}

impl Default for Parameters {
    /// 65,536 slots (good for 256 pods), five percent, seed 0.
    fn default() -> Self {
        Self { slots: 65_536, epsilon_millionths: 50_000, seed: 0 }
    }
}

/// An immutable list of pods, sorted by id, with the rules and the epoch. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    epoch: Epoch,
    parameters: Parameters,
    pods: Arc<[Pod]>,
}

impl View {
    /// The most pods: one number of a `u16` stays free to mean nobody.
    pub const PODS_MAX: usize = 65_535;

    /// Checks the pods and sorts them by id. The order in which they are given means nothing.
    ///
    /// # Errors
    ///
    /// [`ViewError::Empty`], [`ViewError::TooManyPods`], [`ViewError::DuplicatePod`],
    /// [`ViewError::MorePodsThanSlots`].
    pub fn new(
        epoch: Epoch,
        parameters: Parameters,
        mut pods: Vec<Pod>,
    ) -> Result<Self, ViewError> {
        if pods.is_empty() {
            return Err(ViewError::Empty);
        }
        if pods.len() > Self::PODS_MAX {
            return Err(ViewError::TooManyPods { pods: pods.len(), pods_max: Self::PODS_MAX });
        }
        pods.sort_unstable_by(|one, other| one.id.cmp(&other.id));
        if let Some(twin) = pods.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(ViewError::DuplicatePod { id: twin[0].id.to_string() });
        }
        let owners = pods.iter().filter(|pod| pod.state.owns_slots()).count();
        if owners > parameters.slots as usize {
            return Err(ViewError::MorePodsThanSlots { pods: owners, slots: parameters.slots });
        }
        Ok(Self { epoch, parameters, pods: Arc::from(pods) })
    }

    /// The number of this view.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The rules of this view.
    #[must_use]
    pub fn parameters(&self) -> Parameters {
        self.parameters
    }

    /// All pods, sorted by id: the place in this list is the pod's [`PodIndex`].
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The pod at this place, or `None` if the index comes from another view.
    #[must_use]
    pub fn pod(&self, index: PodIndex) -> Option<&Pod> {
        self.pods.get(index.as_usize())
    }

    /// The place of the pod of this id. Cost: O(log pods).
    #[must_use]
    pub fn index_of(&self, id: &str) -> Option<PodIndex> {
        let place = self.pods.binary_search_by(|pod| pod.id.as_str().cmp(id)).ok()?;
        u16::try_from(place).ok().map(PodIndex::new)
    }

    /// The next view, with one pod more.
    ///
    /// # Errors
    ///
    /// [`ViewError::DuplicatePod`] if the id is taken, and what [`View::new`] refuses.
    pub fn with_pod(&self, pod: Pod) -> Result<Self, ViewError> {
        let mut pods = self.pods.to_vec();
        pods.push(pod);
        self.next(pods)
    }

    /// The next view, without the pod of this id.
    ///
    /// # Errors
    ///
    /// [`ViewError::UnknownPod`], and [`ViewError::Empty`] if it was the last one.
    pub fn without_pod(&self, id: &str) -> Result<Self, ViewError> {
        let index = self.require(id)?;
        let mut pods = self.pods.to_vec();
        pods.remove(index);
        self.next(pods)
    }

    /// The next view, in which the pod of this id has another weight.
    ///
    /// # Errors
    ///
    /// [`ViewError::UnknownPod`].
    pub fn with_weight(&self, id: &str, weight: Weight) -> Result<Self, ViewError> {
        self.with_change(id, |pod| pod.weight = weight)
    }

    /// The next view, in which the pod of this id is in another state.
    ///
    /// # Errors
    ///
    /// [`ViewError::UnknownPod`], and [`ViewError::MorePodsThanSlots`] if one owner is too many.
    pub fn with_state(&self, id: &str, state: PodState) -> Result<Self, ViewError> {
        self.with_change(id, |pod| pod.state = state)
    }

    fn with_change(&self, id: &str, change: impl FnOnce(&mut Pod)) -> Result<Self, ViewError> {
        let index = self.require(id)?;
        let mut pods = self.pods.to_vec();
        change(&mut pods[index]);
        self.next(pods)
    }

    fn next(&self, pods: Vec<Pod>) -> Result<Self, ViewError> {
        Self::new(self.epoch.next()?, self.parameters, pods)
    }

    fn require(&self, id: &str) -> Result<usize, ViewError> {
        self.index_of(id)
            .map(PodIndex::as_usize)
            .ok_or_else(|| ViewError::UnknownPod { id: id.to_string() })
    }
}

/// A pod of the weight and id, for tests.
#[cfg(test)]
pub(crate) fn pod(id: &str, weight: f64) -> Pod {
    Pod { weight: Weight::new(weight).unwrap(), ..Pod::new(crate::id::PodId::new(id).unwrap()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec;

    fn view(pods: Vec<Pod>) -> Result<View, ViewError> {
        View::new(Epoch::new(1), Parameters::default(), pods)
    }

    #[test]
    fn pods_are_sorted_and_found_by_id() {
        let view = view(vec![pod("b", 1.0), pod("c", 1.0), pod("a", 1.0)]).unwrap();
        let ids: Vec<&str> = view.pods().iter().map(|pod| pod.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let index = view.index_of("c").unwrap();
        assert_eq!(index, PodIndex::new(2));
        assert_eq!(view.pod(index).unwrap().id.as_str(), "c");
        assert_eq!(view.index_of("d"), None);
        assert_eq!(view.pod(PodIndex::new(3)), None);
    }

    #[test]
    fn a_view_that_cannot_be_is_refused() {
        assert_eq!(view(vec![]), Err(ViewError::Empty));
        let twins = view(vec![pod("a", 1.0), pod("b", 1.0), pod("a", 2.0)]);
        assert_eq!(twins, Err(ViewError::DuplicatePod { id: "a".to_string() }));
        let crowd = (0..65_536).map(|number| pod(&format!("{number}"), 1.0)).collect();
        assert_eq!(view(crowd), Err(ViewError::TooManyPods { pods: 65_536, pods_max: 65_535 }));
    }

    #[test]
    fn only_pods_that_may_own_slots_need_one() {
        let parameters = Parameters::new(2, 0.0, 0).unwrap();
        let pods = || vec![pod("a", 1.0), pod("b", 1.0), pod("c", 1.0)];
        let refused = View::new(Epoch::new(1), parameters, pods());
        assert_eq!(refused, Err(ViewError::MorePodsThanSlots { pods: 3, slots: 2 }));
        let mut two = pods();
        two[0].state = PodState::Draining;
        let view = View::new(Epoch::new(1), parameters, two).unwrap();
        let refused = view.with_state("a", PodState::Active);
        assert_eq!(refused, Err(ViewError::MorePodsThanSlots { pods: 3, slots: 2 }));
    }

    #[test]
    fn parameters_outside_their_range_are_refused() {
        for slots in [0, 3, 65_537, u64::MAX] {
            let refused = Parameters::new(slots, 0.05, 0);
            assert_eq!(refused, Err(ViewError::SlotsNotPowerOfTwo { slots }));
        }
        for slots in [1, 1 << 25, 1 << 40] {
            assert_eq!(Parameters::new(slots, 0.05, 0), Err(ViewError::SlotsOutOfRange { slots }));
        }
        for epsilon in [f64::NAN, f64::INFINITY] {
            let refused = Parameters::new(64, epsilon, 0).unwrap_err();
            assert_eq!(refused.code(), "epsilon_not_finite");
        }
        for epsilon in [-0.1, 10.1] {
            let refused = Parameters::new(64, epsilon, 0);
            assert_eq!(refused, Err(ViewError::EpsilonOutOfRange { epsilon }));
        }
        for slots in [2, 1 << 24] {
            assert_eq!(u64::from(Parameters::new(slots, 10.0, 7).unwrap().slots()), slots);
        }
    }

    #[test]
    fn every_change_makes_the_next_view_and_leaves_this_one() {
        let one = view(vec![pod("a", 1.0)]).unwrap();
        let two = one.with_pod(pod("b", 2.0)).unwrap();
        assert_eq!((one.pods().len(), two.pods().len()), (1, 2));
        assert_eq!(two.epoch(), Epoch::new(2));
        let heavier = two.with_weight("a", Weight::new(3.0).unwrap()).unwrap();
        assert_eq!(heavier.pods()[0].weight.millionths(), 3_000_000);
        let drained = heavier.with_state("b", PodState::Draining).unwrap();
        assert_eq!(drained.pods()[1].state, PodState::Draining);
        assert_eq!(drained.without_pod("b").unwrap().epoch(), Epoch::new(5));
    }

    #[test]
    fn a_change_that_makes_no_sense_is_refused() {
        let view = view(vec![pod("a", 1.0)]).unwrap();
        let unknown = Err(ViewError::UnknownPod { id: "b".to_string() });
        assert_eq!(view.without_pod("b"), unknown);
        assert_eq!(view.with_state("b", PodState::Down), unknown);
        assert_eq!(view.with_weight("b", Weight::ONE), unknown);
        let taken = view.with_pod(pod("a", 1.0));
        assert_eq!(taken, Err(ViewError::DuplicatePod { id: "a".to_string() }));
        assert_eq!(view.without_pod("a"), Err(ViewError::Empty));
        let last = View::new(Epoch::new(u64::MAX), Parameters::default(), vec![pod("a", 1.0)]);
        let exhausted = last.unwrap().with_weight("a", Weight::ONE);
        assert_eq!(exhausted, Err(ViewError::EpochExhausted));
    }
}
