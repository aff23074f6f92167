//! The ring beside its floors (the hash alone, the hash and one load) and beside a plain Maglev
//! table, all in one run. `cargo bench -p hashroute-core`.
#![allow(missing_docs, reason = "criterion's macros write functions without")]
#![allow(clippy::unwrap_used, reason = "a benchmark of constant input fails by panicking")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, Slot, View, Weight, hash_key};

const PODS: [u32; 4] = [2, 16, 128, 1000];
const KEYS: u64 = 4096;

fn view(pods: u32) -> View {
    let pods = (0..pods).map(|number| Pod::new(PodId::new(&pod_name(number)).unwrap())).collect();
    View::new(Epoch::new(1), Parameters::default(), pods).unwrap()
}

fn pod_name(number: u32) -> String {
    format!("pod-{number:04}")
}

fn ring(pods: u32) -> Ring {
    Ring::build(view(pods)).unwrap()
}

/// Keys of 16 bytes.
fn keys() -> Vec<[u8; 16]> {
    (0..KEYS)
        .map(|number| {
            let mut key = [0; 16];
            key[..8].copy_from_slice(&number.to_le_bytes());
            key[8..].copy_from_slice(b"_orders_");
            key
        })
        .collect()
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(KEYS));
    let keys = keys();
    group.bench_function("hash alone", |bencher| {
        bencher.iter(|| keys.iter().fold(0, |sum, key| sum ^ hash_key(black_box(key))));
    });
    let table = vec![7_u16; 1 << 16];
    group.bench_function("hash and one load", |bencher| {
        bencher.iter(|| {
            let load = |key: &[u8; 16]| table[(hash_key(black_box(key)) >> 48) as usize];
            keys.iter().fold(0, |sum, key| sum ^ load(key))
        });
    });
    for pods in PODS {
        let ring = ring(pods);
        group.bench_function(BenchmarkId::new("owner", pods), |bencher| {
            bencher.iter(|| {
                let owner = |key: &[u8; 16]| ring.owner_of_key(black_box(key)).get();
                keys.iter().fold(0, |sum, key| sum ^ owner(key))
            });
        });
        let maglev = Maglev::build(pods);
        group.bench_function(BenchmarkId::new("maglev", pods), |bencher| {
            bencher.iter(|| {
                let owner = |key: &[u8; 16]| maglev.owner(hash_key(black_box(key)));
                keys.iter().fold(0, |sum, key| sum ^ owner(key))
            });
        });
    }
    group.finish();
}

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    for pods in PODS {
        let view = view(pods);
        group.bench_function(BenchmarkId::new("ring", pods), |bencher| {
            bencher.iter(|| Ring::build(black_box(view.clone())).unwrap());
        });
        group.bench_function(BenchmarkId::new("maglev", pods), |bencher| {
            bencher.iter(|| Maglev::build(black_box(pods)));
        });
    }
    group.finish();
}

/// One pod joins, leaves or gets another weight; beside it, what [`build`] measures.
fn follow(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one change");
    for pods in PODS {
        let ring = ring(pods);
        let heavier = Weight::new(1.5).unwrap();
        let changes = [
            ("join", ring.view().with_pod(Pod::new(PodId::new("one-more").unwrap())).unwrap()),
            ("leave", ring.view().without_pod("pod-0001").unwrap()),
            ("reweight", ring.view().with_weight("pod-0001", heavier).unwrap()),
        ];
        for (name, view) in changes {
            group.bench_function(BenchmarkId::new(name, pods), |bencher| {
                bencher.iter(|| ring.follow(black_box(view.clone())).unwrap());
            });
        }
        group.bench_function(BenchmarkId::new("maglev", pods), |bencher| {
            bencher.iter(|| Maglev::build(black_box(pods)));
        });
    }
    group.finish();
}

fn preference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("first three preferences");
    for pods in PODS {
        let ring = ring(pods);
        let mut slot = 0;
        group.bench_function(BenchmarkId::from_parameter(pods), |bencher| {
            bencher.iter(|| {
                slot += 1;
                ring.preference(Slot::new(slot)).take(3).map(|pod| pod.get()).sum::<u16>()
            });
        });
    }
    group.finish();
}

fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan of one join");
    for pods in PODS {
        let (before, after) = (ring(pods), ring(pods + 1));
        group.bench_function(BenchmarkId::from_parameter(pods), |bencher| {
            bencher.iter(|| before.plan(black_box(&after), Some(256)).unwrap());
        });
    }
    group.finish();
}

/// The published algorithm without weights, as plainly as it can be written: every pod in turn
/// takes the next free place of its own permutation. Eisenbud et al., NSDI 2016, section 3.4.
struct Maglev {
    table: Vec<u16>,
}

impl Maglev {
    const PLACES: u32 = 65_537;

    fn build(pods: u32) -> Self {
        let places = Self::PLACES as usize;
        let within = |hash: u64, places: usize| usize::try_from(hash % places as u64).unwrap();
        let mut walks: Vec<(usize, usize)> = (0..pods)
            .map(|pod| {
                let hash = hash_key(pod_name(pod).as_bytes());
                let skip = within(hash_key(&hash.to_le_bytes()), places - 1) + 1;
                (within(hash, places), skip)
            })
            .collect();
        let mut table = vec![u16::MAX; places];
        let mut free = table.len();
        loop {
            for (pod, (place, skip)) in (0_u16..).zip(&mut walks) {
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

    fn owner(&self, hash: u64) -> u16 {
        let place = usize::try_from(hash % u64::from(Self::PLACES)).unwrap_or_default();
        self.table[place]
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000));
    targets = lookup, build, follow, preference, plan
}
criterion_main!(benches);
