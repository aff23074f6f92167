//! The path of a request whose key is in its metadata and whose owner is well allocates nothing.

use hashroute_core::{Epoch, Parameters, Pod, PodId, Ring, View};
use hashroute_dataplane::fleet::{Answer, Fleet, FleetPolicy, Transport, Tried};
use hashroute_dataplane::grpc::format_timeout;
use hashroute_dataplane::health::Event;
use hashroute_dataplane::key::{Body, KeyLookup, KeySearch, RequestHead};
use hashroute_dataplane::retry::{Attempts, RetryBudget};
use hashroute_dataplane::route::RouteTable;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// the counter is a constant-initialised cell of the thread, so counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer is the system's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Head;

impl RequestHead for Head {
    fn path(&self) -> &[u8] {
        b"/shop.Orders/Place"
    }

    fn metadata(&self, name: &str) -> Option<&[u8]> {
        (name == "x-hashroute-key").then_some(&b"EURUSD"[..])
    }

    fn peer(&self) -> &[u8] {
        b"10.0.0.7"
    }
}

#[test]
fn a_request_to_a_healthy_owner_allocates_nothing() {
    let pods = ["pod-a", "pod-b", "pod-c"].map(|id| Pod::new(PodId::new(id).unwrap()));
    let view = View::new(Epoch::new(1), Parameters::default(), pods.to_vec()).unwrap();
    let ring = Ring::build(view).unwrap();
    let fleet = Fleet::new(ring, Transport::Any, FleetPolicy::default());
    let routes = RouteTable::new(Vec::new());
    let budget = RetryBudget::new(0.2, 256);

    let before = ALLOCATIONS.get();
    let route = routes.find(Head.path());
    let lookup = KeySearch::new(&route.sources).advance(&Head, Body::Unread);
    let KeyLookup::Found(key) = lookup else { unreachable!("the key is in the metadata") };
    budget.deposit();
    let attempts = Attempts::new(route.idempotent, 3);
    let permit = fleet.choose(fleet.ring().slot(key.as_bytes()), &Tried::none()).unwrap();
    let timeout = format_timeout(Duration::from_millis(150));
    permit.observe(Duration::from_secs(1), Event::RequestSucceeded);
    permit.finish(Answer::Ok);
    let after = ALLOCATIONS.get();

    assert_eq!(after - before, 0, "{attempts:?} {timeout:?}");
    assert!(before > 0, "the counter counts");
}
