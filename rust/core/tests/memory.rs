//! What a ring takes, counted where it is allocated.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, Slot, View};

/// The allocator of the system, with a count of the bytes that are in use.
struct Counted;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: both calls go to the allocator of the system with the same arguments.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

fn view(pods: u32) -> View {
    let pods = (0..pods).map(|number| Pod::new(PodId::new(&format!("pod-{number:04}")).unwrap()));
    View::new(Epoch::new(1), Parameters::default(), pods.collect()).unwrap()
}

fn ask_everything(ring: &Ring) {
    for slot in (0..ring.view().parameters().slots()).map(Slot::new) {
        assert!(ring.preference(slot).nth(2).is_some());
    }
    assert_ne!(ring.digest(), 0);
}

/// One test, since the count is of the whole process.
#[test]
fn a_ring_of_65536_slots_and_16_pods_is_within_one_mebibyte() {
    // Whatever is allocated once for the process is there before the count.
    ask_everything(&Ring::build(view(3)).unwrap());

    let before = in_use();
    let ring = Ring::build(view(16)).unwrap();
    let unasked = in_use() - before;
    assert!(unasked <= 300 << 10, "{unasked} bytes before a preference list was asked for");
    ask_everything(&ring);
    let all = in_use() - before;
    assert!(all <= 1 << 20, "{all} bytes with the heirs of all slots");

    // A clone shares everything with its ring, and asks for nothing of its own.
    let clone = ring.clone();
    ask_everything(&clone);
    assert_eq!(in_use() - before, all);

    // So does the table of a view that differs in nothing that the table depends on.
    let same = ring.view().with_state("pod-0003", hashroute_core::PodState::Joining).unwrap();
    let followed = ring.follow(same).unwrap();
    assert!(std::ptr::eq(ring.owners(), followed.owners()));
    drop((ring, clone, followed));
    assert_eq!(in_use(), before, "all of it is given back");
}
