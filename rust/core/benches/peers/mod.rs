//! The published algorithms that the ring is measured beside, as plainly as they can be written.

use hashroute_core::hash_key;

/// The table of Eisenbud et al., NSDI 2016, section 3.4: every pod in turn takes the next free
/// place of its own permutation, as many at a turn as it weighs.
pub(crate) struct Maglev {
    table: Vec<u16>,
}

impl Maglev {
    const PLACES: u32 = 65_537;

    /// The table of these pods: ids and weights.
    pub(crate) fn build(pods: &[(&str, u32)]) -> Self {
        let places = Self::PLACES as usize;
        let mut walks: Vec<(usize, usize, u32)> = pods
            .iter()
            .map(|(id, weight)| {
                let hash = hash_key(id.as_bytes());
                let skip = within(hash_key(&hash.to_le_bytes()), places - 1) + 1;
                (within(hash, places), skip, *weight)
            })
            .collect();
        let mut table = vec![u16::MAX; places];
        let mut free = table.len();
        loop {
            for (pod, (place, skip, weight)) in (0_u16..).zip(&mut walks) {
                for _ in 0..*weight {
                    while table[*place] != u16::MAX {
                        *place += *skip;
                        if *place >= places {
                            *place -= places;
                        }
                    }
                    table[*place] = pod;
                    free -= 1;
                    if free == 0 {
                        return Self { table };
                    }
                }
            }
        }
    }

    #[allow(dead_code, reason = "the benchmark looks keys up, the example of movement does not")]
    pub(crate) fn owner(&self, hash: u64) -> u16 {
        let place = usize::try_from(hash % u64::from(Self::PLACES)).unwrap_or_default();
        self.table[place]
    }

    #[allow(dead_code, reason = "the example of movement compares tables, the benchmark does not")]
    pub(crate) fn into_table(self) -> Vec<u16> {
        self.table
    }
}

/// Consistent hashing on a ring of 160 points for each unit of weight, as ketama has it.
#[allow(dead_code, reason = "the benchmark times only what is built as fast")]
pub(crate) struct Points {
    points: Vec<(u64, u16)>,
}

#[allow(dead_code, reason = "the benchmark times only what is built as fast")]
impl Points {
    const A_POD: u32 = 160;

    pub(crate) fn build(pods: &[(&str, u32)]) -> Self {
        let mut points = Vec::new();
        for (pod, (id, weight)) in (0_u16..).zip(pods) {
            for point in 0..weight * Self::A_POD {
                points.push((hash_key(format!("{id}-{point}").as_bytes()), pod));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    /// The owners of as many evenly spaced hashes.
    pub(crate) fn into_table(self, places: u32) -> Vec<u16> {
        let width = u64::MAX / u64::from(places);
        let owner = |place: u32| {
            let hash = width * u64::from(place) + width / 2;
            let next = self.points.partition_point(|(point, _)| *point < hash);
            self.points[next % self.points.len()].1
        };
        (0..places).map(owner).collect()
    }
}

fn within(hash: u64, places: usize) -> usize {
    usize::try_from(hash % places as u64).unwrap_or_default()
}
