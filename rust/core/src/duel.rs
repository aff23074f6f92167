//! Who of two visitors of a slot was earlier, told from the numbers of their visits.
//!
//! Times cost two reads of a large table and a wide multiplication each, and nearly always the
//! numbers of the visits are far enough apart to do without.

use crate::contender::Contender;
use crate::logarithm::Times;

/// What a visit is worth against one of a contender of a certain weight.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// It loses against one whose number can be no more than by the doubt above a least below this.
    loses_below: u32,
    /// It wins against one of this number and above.
    wins_from: u32,
}

impl Rule {
    /// Only times tell.
    const UNKNOWN: Self = Self { loses_below: 0, wins_from: u32::MAX };

    /// Against one of the same weight; `is_told` is whether numbers tell at all.
    #[inline]
    pub(crate) fn of_equals(is_told: bool, visit: u32, doubt: u32) -> Self {
        if is_told {
            Self {
                loses_below: visit.saturating_sub(doubt.wrapping_add(1)),
                wins_from: visit.wrapping_add(2),
            }
        } else {
            Self::UNKNOWN
        }
    }

    /// Whether the visit is certainly after one whose number is at least this.
    #[inline]
    pub(crate) fn loses_to(self, least: u32) -> bool {
        least < self.loses_below
    }

    /// Whether the visit is certainly before one whose number is at least this.
    #[inline]
    pub(crate) fn beats(self, least: u32) -> bool {
        least >= self.wins_from
    }
}

/// What the visits in one block of one contender's are worth against those of others.
pub(crate) struct Duels<'a> {
    times: Times<'a>,
    pod: &'a Contender,
    is_told: bool,
    doubt: u32,
    /// A visit of the block, and the first after the block.
    visit: u32,
    block_end: u32,
    /// The last other weight that was asked for, and the rule against it.
    other: (u64, Rule),
}

impl<'a> Duels<'a> {
    /// Against contenders the numbers of whose visits are known up to this doubt.
    pub(crate) fn new(times: Times<'a>, pod: &'a Contender, doubt: u32) -> Self {
        let is_told = pod.is_told_by_visits(times);
        Self { times, pod, is_told, doubt, visit: 0, block_end: 0, other: (0, Rule::UNKNOWN) }
    }

    /// Begins with the visits from this one to the end of its block, and returns that end.
    pub(crate) fn begin(&mut self, visit: u32) -> u32 {
        if visit >= self.block_end {
            self.visit = visit;
            self.block_end = self.times.block_end(visit);
            self.other = (0, Rule::UNKNOWN);
        }
        self.block_end
    }

    /// Whose visits these are.
    pub(crate) fn pod(&self) -> &'a Contender {
        self.pod
    }

    /// The rule for a visit of the block against one of another contender.
    #[inline]
    pub(crate) fn rule(&mut self, visit: u32, other: &Contender) -> Rule {
        if other.weight == self.pod.weight {
            return Rule::of_equals(self.is_told, visit, self.doubt);
        }
        if other.weight != self.other.0 {
            self.other = (other.weight, self.against(other));
        }
        self.other.1
    }

    #[cold]
    fn against(&self, other: &Contender) -> Rule {
        let (before, after) = self.pod.time_around(self.times, self.visit);
        let loses_below = self.times.blocks_before(|tau| other.paced(tau) < before);
        Rule {
            loses_below: loses_below.saturating_sub(self.doubt),
            wins_from: self.times.blocks_not_after(|tau| other.paced(tau) <= after),
        }
    }
}
