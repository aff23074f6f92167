//! In which of its visits each contender sees a given slot, for many contenders at once.

use alloc::vec::Vec;
use core::ops::Range;

use crate::contender::{Contender, Visit, Word};
use crate::logarithm::Times;

/// How many contenders are asked together.
const BLOCK: usize = 16;

/// A weight that fewer contenders have shares blocks with others.
const GROUP_MIN: usize = BLOCK / 2;

/// The way back through each contender's order of slots, laid out so that the processor can take
/// several contenders in one instruction, those of one weight together.
#[derive(Clone, Debug)]
pub(crate) struct Visitors {
    mask: u32,
    half: u32,
    groups: Vec<Group>,
    blocks: Blocks,
}

#[derive(Clone, Debug)]
struct Group {
    blocks: Range<usize>,
    /// A contender of the group, if all have its weight.
    example: Option<u16>,
}

/// Up to 2^16 slots all arithmetic may be modulo 2^16.
#[derive(Clone, Debug)]
enum Blocks {
    Narrow(Vec<Block<u16>>),
    Wide(Vec<Block<u32>>),
}

#[derive(Clone, Debug)]
struct Block<W> {
    /// By contender: the three inverse factors, and the offset.
    way_back: [[W; BLOCK]; 4],
    /// Only the first `count` contenders mean anything.
    places: [u16; BLOCK],
    count: usize,
}

/// Who asks for the visitors of a slot.
pub(crate) trait Search {
    /// A group begins, of contenders of the weight of `example` or of any weights. Returns the
    /// visit from which on none of them matters.
    fn begin(&mut self, example: Option<usize>) -> u32;

    /// Takes one visit, and returns the visit from which on none of the group matters any more.
    fn look(&mut self, place: usize, visit: u32) -> u32;
}

impl Visitors {
    /// Of all contenders.
    pub(crate) fn new(slots: u32, contenders: &[Contender]) -> Self {
        Self::of(slots, contenders, (0..=u16::MAX).zip(contenders).map(|(place, _)| place))
    }

    /// Of those at some places.
    pub(crate) fn of(
        slots: u32,
        contenders: &[Contender],
        places: impl Iterator<Item = u16>,
    ) -> Self {
        let weight = |place: &u16| contenders[usize::from(*place)].weight;
        let mut order: Vec<u16> = places.collect();
        order.sort_by_key(weight);
        let of_one_weight = order.chunk_by(|one, other| weight(one) == weight(other));
        let (together, alone): (Vec<_>, Vec<_>) =
            of_one_weight.partition(|places| places.len() >= GROUP_MIN);
        let alone = alone.concat();
        let examples = together.iter().map(|places| places.first().copied()).chain([None]);
        let places = together.iter().copied().chain([&alone[..]]);
        let mut count = 0;
        let groups = places.clone().zip(examples).map(|(places, example)| {
            let first = count;
            count += places.len().div_ceil(BLOCK);
            Group { blocks: first..count, example }
        });
        Self {
            mask: slots - 1,
            half: slots.trailing_zeros().div_ceil(2),
            groups: groups.collect(),
            blocks: if slots <= 1 << 16 {
                Blocks::Narrow(places.flat_map(|places| blocks(contenders, places)).collect())
            } else {
                Blocks::Wide(places.flat_map(|places| blocks(contenders, places)).collect())
            },
        }
    }

    /// Shows `search` the visits to `slot`, of each group those before the visit that it told.
    #[inline]
    pub(crate) fn search(&self, slot: u32, search: &mut impl Search) {
        match &self.blocks {
            Blocks::Narrow(blocks) => self.search_in(blocks, slot, search),
            Blocks::Wide(blocks) => self.search_in(blocks, slot, search),
        }
    }

    #[inline]
    fn search_in<W: Word>(&self, blocks: &[Block<W>], slot: u32, search: &mut impl Search) {
        let first = W::low(slot ^ slot.wrapping_shr(self.half));
        let (mask, half) = (W::low(self.mask), self.half);
        for group in &self.groups {
            let mut bound = search.begin(group.example.map(usize::from));
            for block in blocks.get(group.blocks.clone()).unwrap_or_default() {
                let visits = block.visits(first, mask, half);
                let least = least(&visits).into();
                if least >= bound {
                    continue;
                }
                // Nearly always only the least matters, and shows it once it is looked at.
                let near = least.saturating_add(2);
                for (visit, place) in visits.iter().zip(&block.places).take(block.count) {
                    if (*visit).into() < near.min(bound) {
                        bound = search.look(usize::from(*place), (*visit).into());
                    }
                }
                if bound <= near {
                    continue;
                }
                for (visit, place) in visits.iter().zip(&block.places).take(block.count) {
                    if (near..bound).contains(&(*visit).into()) {
                        bound = search.look(usize::from(*place), (*visit).into());
                    }
                }
            }
        }
    }

    /// The first visit to `slot` of those that are `allowed`, by place and number of the visit.
    #[inline]
    pub(crate) fn first<'a>(
        &self,
        slot: u32,
        times: Times<'a>,
        contender: impl Fn(usize) -> &'a Contender,
        allowed: impl Fn(usize, u32) -> bool,
    ) -> Option<(usize, u32)> {
        let mut search = First {
            times,
            contender,
            allowed,
            is_told: false,
            first: None,
            of_group: None,
            time: 0,
        };
        self.search(slot, &mut search);
        search.end_group();
        search.first.map(|(place, visit)| (place, visit.number))
    }
}

fn blocks<W: Word>(contenders: &[Contender], places: &[u16]) -> impl Iterator<Item = Block<W>> {
    places.chunks(BLOCK).map(|chunk| {
        let mut block =
            Block { way_back: [[W::ZERO; BLOCK]; 4], places: [0; BLOCK], count: chunk.len() };
        for (lane, place) in chunk.iter().enumerate() {
            let way_back = contenders[usize::from(*place)].permutation.way_back();
            for (numbers, number) in block.way_back.iter_mut().zip(way_back) {
                numbers[lane] = W::low(number);
            }
            block.places[lane] = *place;
        }
        block
    })
}

impl<W: Word> Block<W> {
    /// As [`crate::contender::Permutation::visit`], from the slot after its first shift.
    #[inline]
    fn visits(&self, first: W, mask: W, half: u32) -> [W; BLOCK] {
        let [m1, m2, m3, offset] = &self.way_back;
        let mut visits = [W::ZERO; BLOCK];
        for lane in 0..BLOCK {
            let x = first.mul(m3[lane]).and(mask);
            let x = x.xor(x.shift(half)).mul(m2[lane]).and(mask);
            visits[lane] = x.xor(x.shift(half)).sub(offset[lane]).mul(m1[lane]).and(mask);
        }
        visits[self.count.min(BLOCK)..].fill(W::MAX);
        visits
    }
}

#[inline]
fn least<W: Word>(visits: &[W; BLOCK]) -> W {
    visits.iter().copied().fold(visits[0], Ord::min)
}

/// See [`Visitors::first`].
struct First<'a, C, A> {
    times: Times<'a>,
    contender: C,
    allowed: A,
    /// Whether the visits of this group tell who is earlier.
    is_told: bool,
    /// Of all groups before this one.
    first: Option<(usize, Visit<'a>)>,
    of_group: Option<(usize, Visit<'a>)>,
    /// The time of the latter, where the times must tell.
    time: u64,
}

impl<'a, C: Fn(usize) -> &'a Contender, A> First<'a, C, A> {
    #[inline]
    fn offer(&mut self, place: usize, visit: Visit<'a>) {
        let is_later =
            !self.is_told && visit.by.time_around(self.times, visit.number).0 > self.time;
        if !is_later && self.of_group.is_none_or(|(_, first)| visit.is_before(first, self.times)) {
            self.of_group = Some((place, visit));
            if !self.is_told {
                self.time = visit.order(self.times).0;
            }
        }
    }

    fn end_group(&mut self) {
        if let Some((place, visit)) = self.of_group.take()
            && self.first.is_none_or(|(_, first)| visit.is_before(first, self.times))
        {
            self.first = Some((place, visit));
        }
    }
}

impl<'a, C, A> Search for First<'a, C, A>
where
    C: Fn(usize) -> &'a Contender,
    A: Fn(usize, u32) -> bool,
{
    #[inline]
    fn begin(&mut self, example: Option<usize>) -> u32 {
        self.end_group();
        self.is_told =
            example.is_some_and(|place| (self.contender)(place).is_told_by_visits(self.times));
        self.time = u64::MAX;
        u32::MAX
    }

    #[inline]
    fn look(&mut self, place: usize, number: u32) -> u32 {
        if (self.allowed)(place, number) {
            self.offer(place, Visit { by: (self.contender)(place), number });
        }
        match self.of_group {
            // A later visit of a neighbouring number may be the earlier one.
            Some((_, first)) if self.is_told => first.number + 2,
            _ => u32::MAX,
        }
    }
}
