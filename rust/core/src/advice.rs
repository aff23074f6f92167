//! What is allowed in a view, but not wise.

use alloc::vec::Vec;
use core::fmt;

use crate::capacity::capacities;
use crate::contender::contenders;
use crate::id::PodId;
use crate::view::{Parameters, View};

/// Slots for each pod below which a change moves noticeably more than it must.
const SLOTS_PER_POD_MIN: u64 = 256;

/// Something about a view that its owner would want to know. Never an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// Few slots for so many pods: each change moves more slots than it would with a finer table.
    FewSlots {
        /// The slots of the view.
        slots: u32,
        /// The pods that may own slots.
        pods: usize,
        /// The number of slots that would do.
        slots_wanted: u32,
    },
    /// A pod's fair share is less than one slot, and its capacity came out as none at all.
    NoCapacity {
        /// The pod that will own nothing.
        pod: PodId,
    },
}

impl View {
    /// What is not wise about this view, and what would help; empty if all is well.
    #[must_use]
    pub fn advice(&self) -> Vec<Advice> {
        let contenders = contenders(self);
        let slots = self.parameters().slots();
        let pods = contenders.len();
        let mut advice = Vec::new();
        let wanted = (SLOTS_PER_POD_MIN * pods as u64)
            .next_power_of_two()
            .min(u64::from(Parameters::SLOTS_MAX));
        if let Ok(slots_wanted) = u32::try_from(wanted)
            && slots < slots_wanted
        {
            advice.push(Advice::FewSlots { slots, pods, slots_wanted });
        }
        let without = capacities(self.parameters(), &contenders)
            .into_iter()
            .zip(&contenders)
            .filter(|(capacity, _)| *capacity == 0)
            .filter_map(|(_, contender)| self.pod(contender.pod))
            .map(|pod| Advice::NoCapacity { pod: pod.id.clone() });
        advice.extend(without);
        advice
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FewSlots { slots, pods, slots_wanted } => write!(
                out,
                "{slots} slots are few for {pods} pods: a change will move more than it must; \
                 {slots_wanted} slots would do, but changing the number moves nearly every key \
                 once, so choose the moment"
            ),
            Self::NoCapacity { pod } => write!(
                out,
                "the fair share of pod {:?} is less than one slot, and it will own none: \
                 give it more weight, or the view more slots",
                pod.as_str()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Epoch;
    use crate::view::pod;
    use std::format;
    use std::string::ToString;

    fn view(slots: u64, weights: &[f64]) -> View {
        let pods = (0..).zip(weights).map(|(n, weight): (u32, _)| pod(&format!("p{n}"), *weight));
        let parameters = Parameters::new(slots, 0.05, 0).unwrap();
        View::new(Epoch::new(1), parameters, pods.collect()).unwrap()
    }

    #[test]
    fn a_view_with_enough_slots_needs_no_advice() {
        assert_eq!(view(1024, &[1.0; 4]).advice(), []);
        assert_eq!(View::advice(&view(65_536, &[1.0; 256])), []);
    }

    #[test]
    fn few_slots_are_pointed_out_with_the_number_that_would_do() {
        let advice = view(1024, &[1.0; 5]).advice();
        assert_eq!(advice, [Advice::FewSlots { slots: 1024, pods: 5, slots_wanted: 2048 }]);
        assert!(advice[0].to_string().contains("2048 slots would do"));
    }

    #[test]
    fn a_pod_without_capacity_is_named() {
        let advice = view(1024, &[1e-6, 1.0]).advice();
        assert_eq!(advice, [Advice::NoCapacity { pod: PodId::new("p0").unwrap() }]);
        assert!(advice[0].to_string().contains("\"p0\""));
    }
}
