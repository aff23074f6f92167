//! Who of two visitors of a slot was earlier, told from the numbers of their visits.
//!
//! Times cost two reads of a large table and a wide multiplication each, and nearly always the
//! numbers of the visits are far enough apart to do without.

use alloc::vec::Vec;

use crate::contender::{Contender, Visit};
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

/// The weights that occur among some contenders.
pub(crate) struct Weights<'a> {
    /// A contender of each weight, and whether there are more.
    examples: Vec<(&'a Contender, bool)>,
    /// Whether these are all weights.
    are_all: bool,
}

impl<'a> Weights<'a> {
    /// Of more weights than this no list is made.
    const COUNT_MAX: usize = 8;

    pub(crate) fn of(contenders: &[&'a Contender]) -> Self {
        let mut weights = Self { examples: Vec::new(), are_all: true };
        for contender in contenders {
            let same = |example: &(&Contender, bool)| example.0.weight == contender.weight;
            if let Some(known) = weights.examples.iter().position(same) {
                weights.examples[known].1 = true;
            } else if weights.examples.len() < Self::COUNT_MAX {
                weights.examples.push((contender, false));
            } else {
                weights.are_all = false;
                break;
            }
        }
        weights
    }
}

/// What the visits in one block of one contender's are worth against those of others.
pub(crate) struct Duels<'a> {
    times: Times<'a>,
    pod: &'a Contender,
    weights: &'a Weights<'a>,
    is_told: bool,
    doubt: u32,
    block_end: u32,
    /// Against each other weight; only the first `count` mean anything.
    rules: [(u64, Rule); Weights::COUNT_MAX],
    count: usize,
}

impl<'a> Duels<'a> {
    /// Of this one of contenders of these weights, the numbers of whose visits are known up to
    /// this doubt.
    pub(crate) fn new(
        times: Times<'a>,
        pod: &'a Contender,
        weights: &'a Weights<'a>,
        doubt: u32,
    ) -> Self {
        let rules = [(0, Rule::UNKNOWN); Weights::COUNT_MAX];
        let is_told = pod.is_told_by_visits(times);
        Self { times, pod, weights, is_told, doubt, block_end: 0, rules, count: 0 }
    }

    /// Begins with the visits from this one to the end of its block, and returns that end.
    pub(crate) fn begin(&mut self, visit: u32) -> u32 {
        if visit >= self.block_end {
            self.block_end = self.times.block_end(visit);
            let others = self.weights.examples.iter().map(|(example, _)| *example);
            let others = others.filter(|example| example.weight != self.pod.weight);
            self.count = 0;
            for (example, rule) in others.zip(&mut self.rules) {
                let (before, after) = self.pod.time_around(self.times, visit);
                let loses_below = self.times.blocks_before(|tau| example.paced(tau) < before);
                let loses_below = loses_below.saturating_sub(self.doubt);
                let wins_from = self.times.blocks_not_after(|tau| example.paced(tau) <= after);
                *rule = (example.weight, Rule { loses_below, wins_from });
                self.count += 1;
            }
        }
        self.block_end
    }

    /// The visits of the block from this one on lose against all whose number is at least one
    /// below the result.
    pub(crate) fn floor(&self, visit: u32) -> u32 {
        if !self.weights.are_all {
            return 0;
        }
        let equals =
            |(example, more): &(&Contender, bool)| *more && example.weight == self.pod.weight;
        let against_equals = Rule::of_equals(self.is_told, visit, self.doubt).loses_below;
        let equals = self.weights.examples.iter().any(equals).then_some(against_equals);
        let others = self.rules[..self.count].iter().map(|(_, rule)| rule.loses_below);
        others.chain(equals).min().unwrap_or_default()
    }

    /// A visit of this contender.
    pub(crate) fn visit(&self, number: u32) -> Visit<'a> {
        Visit { by: self.pod, number }
    }

    /// The rule for a visit of the block against one of another contender.
    #[inline]
    pub(crate) fn rule(&self, visit: u32, other: &Contender) -> Rule {
        if other.weight == self.pod.weight {
            return Rule::of_equals(self.is_told, visit, self.doubt);
        }
        let known = self.rules[..self.count].iter().find(|(weight, _)| *weight == other.weight);
        known.map_or(Rule::UNKNOWN, |(_, rule)| *rule)
    }
}
