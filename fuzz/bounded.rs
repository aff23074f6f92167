//! Runs the body of a fuzz target on a bounded number of mutated seeds: the same inputs each time,
//! and with any compiler. `tools/fuzz.sh` searches further.

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};

/// Inputs a target. Each takes some microseconds.
const CASES: u32 = 3_000;

/// One change to a seed: cut it off, or put a byte in the place of another or before it.
#[derive(Debug, Clone)]
enum Edit {
    Cut(usize),
    Replace(usize, u8),
    Insert(usize, u8),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let byte =
        || prop_oneof![any::<u8>(), prop::sample::select(vec![0, 1, 2, 8, 0x7f, 0x80, 0xff])];
    let edit = prop_oneof![
        1 => any::<usize>().prop_map(Edit::Cut),
        4 => (any::<usize>(), byte()).prop_map(|(place, byte)| Edit::Replace(place, byte)),
        4 => (any::<usize>(), byte()).prop_map(|(place, byte)| Edit::Insert(place, byte)),
    ];
    prop::collection::vec(edit, 0..8)
}

fn apply(seed: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut data = seed.to_vec();
    for edit in edits {
        let length = data.len();
        match edit {
            Edit::Cut(place) => data.truncate(place % (length + 1)),
            Edit::Insert(place, byte) => data.insert(place % (length + 1), *byte),
            Edit::Replace(place, byte) if length > 0 => data[place % length] = *byte,
            Edit::Replace(..) => {}
        }
    }
    data
}

/// Runs `body` on its seeds, on changed seeds, and on noise.
pub(crate) fn run(body: fn(&[u8]), seeds: &[&'static [u8]]) {
    seeds.iter().for_each(|seed| body(seed));
    let config = ProptestConfig {
        cases: CASES,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let changed = (prop::sample::select(seeds.to_vec()), edits())
        .prop_map(|(seed, edits)| apply(seed, &edits));
    let noise = prop::collection::vec(any::<u8>(), 0..64);
    let input = prop_oneof![4 => changed, 1 => noise];
    let result = TestRunner::new(config).run(&input, |data| {
        body(&data);
        Ok(())
    });
    assert_eq!(result.err().map(|failure| failure.to_string()), None);
}
