//! The ring beside its floors (the hash alone, the hash and one load) and beside a plain Maglev
//! table, all in one run. `cargo bench -p hashroute-core`.
#![allow(missing_docs, reason = "criterion's macros write functions without")]
#![allow(clippy::unwrap_used, reason = "a benchmark of constant input fails by panicking")]

mod peers;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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

/// The pods of [`view`], for a peer: all of one weight.
fn maglev(pods: u32) -> peers::Maglev {
    let names: Vec<String> = (0..pods).map(pod_name).collect();
    let pods: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    peers::Maglev::build(&pods)
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
        let maglev = maglev(pods);
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
        let names: Vec<String> = (0..pods).map(pod_name).collect();
        let names: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        group.bench_function(BenchmarkId::new("maglev", pods), |bencher| {
            bencher.iter(|| peers::Maglev::build(black_box(&names)));
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
        let names: Vec<String> = (0..pods).map(pod_name).collect();
        let names: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
        group.bench_function(BenchmarkId::new("maglev", pods), |bencher| {
            bencher.iter(|| peers::Maglev::build(black_box(&names)));
        });
    }
    group.finish();
}

fn preference(criterion: &mut Criterion) {
    for (name, count) in [("three", 3), ("eight", 8), ("sixteen", 16)] {
        let mut group = criterion.benchmark_group(format!("first {name} preferences"));
        for pods in PODS {
            let ring = ring(pods);
            // Slots as keys come: in no order, each asked for more than once.
            let slots: Vec<Slot> = (0..KEYS).map(|key| ring.slot(&key.to_le_bytes())).collect();
            let list = |ring: &Ring, slot: &Slot| {
                ring.preference(*slot).take(count).fold(0, |sum, pod| sum ^ pod.get())
            };
            let mut slot = slots.iter().cycle();
            group.bench_function(BenchmarkId::new("again", pods), |bencher| {
                bencher.iter(|| slot.next().map(|slot| list(&ring, slot)));
            });
            let view = ring.view();
            let fresh = || (Ring::build(view.clone()).unwrap(), slots.iter().take(64));
            group.bench_function(
                BenchmarkId::new("64 slots for the first time", pods),
                |bencher| {
                    bencher.iter_batched(
                        fresh,
                        |(ring, slots)| (slots.fold(0, |sum, slot| sum ^ list(&ring, slot)), ring),
                        BatchSize::PerIteration,
                    );
                },
            );
        }
        group.finish();
    }
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000));
    targets = lookup, build, follow, preference, plan
}
criterion_main!(benches);
