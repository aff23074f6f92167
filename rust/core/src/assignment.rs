//! The table: which contender gets which slot.

use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::contender::Contender;
use crate::logarithm::Times;

/// The places in `contenders` of the owners of all slots.
pub(crate) fn assign(
    slots: u32,
    times: Times<'_>,
    contenders: &[Contender],
    capacities: &[u32],
) -> Vec<u16> {
    let mut owners = vec![u16::MAX; slots as usize];
    let mut room = capacities.to_vec();
    let mut visits: BinaryHeap<Reverse<(u64, u16, u32)>> = (0_u16..)
        .zip(contenders)
        .map(|(place, contender)| Reverse((contender.time(times, 0), place, 0)))
        .collect();
    let mut free = slots;
    while free > 0 {
        let Some(Reverse((_, place, visit))) = visits.pop() else { break };
        let contender = &contenders[usize::from(place)];
        if room[usize::from(place)] == 0 {
            continue;
        }
        let owner = &mut owners[contender.permutation.slot(visit) as usize];
        if *owner == u16::MAX {
            *owner = place;
            room[usize::from(place)] -= 1;
            free -= 1;
        }
        if visit + 1 < slots {
            visits.push(Reverse((contender.time(times, visit + 1), place, visit + 1)));
        }
    }
    owners
}
