use super::*;
use crate::health::{Cause, ProbeFailure};
use hashroute_core::{Addresses, Epoch, Parameters, PodId, PodState, View, Weight};
use proptest::prelude::*;
use std::thread;

const NOW: Duration = Duration::from_secs(1);
const FALLS: Event = Event::ConnectionRefused;

fn pod(id: &str, weight: f64) -> Pod {
    let addresses = Addresses { grpc: Some("127.0.0.1:1".to_owned()), zmq: None };
    let weight = Weight::new(weight).unwrap();
    Pod { weight, addresses, ..Pod::new(PodId::new(id).unwrap()) }
}

/// Pods pod-0, pod-1, … of these weights, with gRPC addresses.
fn view(weights: &[f64]) -> View {
    let parameters = Parameters::new(1024, 0.05, 0).unwrap();
    let pods =
        weights.iter().enumerate().map(|(place, weight)| pod(&format!("pod-{place}"), *weight));
    View::new(Epoch::new(1), parameters, pods.collect()).unwrap()
}

fn ring(weights: &[f64]) -> Ring {
    Ring::build(view(weights)).unwrap()
}

fn policy(c: f64, floor: u32) -> FleetPolicy {
    FleetPolicy { load: LoadBound::new(c, floor).unwrap(), ..FleetPolicy::default() }
}

fn fleet(weights: &[f64], c: f64, floor: u32) -> Fleet {
    Fleet::new(ring(weights), Transport::Grpc, policy(c, floor))
}

fn choose(fleet: &Fleet, slot: u32) -> Permit {
    fleet.choose(Slot::new(slot), &Tried::none()).unwrap()
}

fn preference(fleet: &Fleet, slot: u32) -> Vec<PodIndex> {
    fleet.ring().preference(Slot::new(slot)).collect()
}

fn in_flight(fleet: &Fleet, pod: PodIndex) -> u64 {
    fleet.status(pod).unwrap().in_flight
}

fn tried(pods: &[PodIndex]) -> Tried {
    let mut tried = Tried::none();
    pods.iter().for_each(|pod| tried.insert(*pod));
    tried
}

#[test]
fn a_request_goes_to_the_owner_of_its_slot_and_is_counted_while_it_lasts() {
    let fleet = fleet(&[1.0; 4], 1.25, 16);
    for slot in 0..1024 {
        let permit = choose(&fleet, slot);
        assert_eq!(permit.pod(), fleet.ring().owner(Slot::new(slot)));
        assert_eq!((permit.reason(), in_flight(&fleet, permit.pod())), (Reason::Owner, 1));
        assert_eq!(fleet.in_flight(), 1);
    }
    assert_eq!(fleet.in_flight(), 0);
}

#[test]
fn a_pod_that_is_down_or_suspect_is_passed_over_along_the_preference_list() {
    let fleet = fleet(&[1.0; 4], 1.25, 16);
    let list = preference(&fleet, 7);
    fleet.observe(list[0], NOW, FALLS);
    for _ in 0..5 {
        fleet.observe(list[1], NOW, Event::DeadlineExceeded);
    }
    assert_eq!((fleet.health(list[0]), fleet.health(list[1])), (Health::Down, Health::Suspect));
    let permit = choose(&fleet, 7);
    assert_eq!((permit.pod(), permit.reason()), (list[2], Reason::Failover));
    assert_eq!(fleet.status(list[2]).unwrap().failovers, 1);

    fleet.observe(list[2], NOW, FALLS);
    fleet.observe(list[3], NOW, FALLS);
    let permit = choose(&fleet, 7);
    assert_eq!((permit.pod(), permit.reason()), (list[1], Reason::Failover), "better than down");

    fleet.observe(list[1], NOW, FALLS);
    let permit = choose(&fleet, 7);
    assert_eq!((permit.pod(), permit.reason()), (list[0], Reason::LastResort));

    fleet.observe(list[0], NOW, Event::ProbeSucceeded);
    assert_eq!(choose(&fleet, 7).reason(), Reason::Owner);
}

#[test]
fn a_success_between_deadlines_is_told_to_the_judge() {
    let fleet = fleet(&[1.0; 2], 1.25, 16);
    let pod = PodIndex::new(0);
    for _ in 0..10 {
        fleet.observe(pod, NOW, Event::DeadlineExceeded);
        fleet.observe(pod, NOW, Event::RequestSucceeded);
    }
    assert_eq!(fleet.health(pod), Health::Up);
}

#[test]
fn a_request_never_goes_twice_to_a_pod_and_ends_when_all_were_tried() {
    let fleet = fleet(&[1.0; 3], 1.25, 16);
    let list = preference(&fleet, 7);
    fleet.observe(list[0], NOW, FALLS);
    let second = fleet.choose(Slot::new(7), &tried(&list[..1])).unwrap();
    assert_eq!((second.pod(), second.reason()), (list[1], Reason::Failover));
    assert_eq!(fleet.status(list[1]).unwrap().retries, 1);
    fleet.observe(list[2], NOW, FALLS);
    let third = fleet.choose(Slot::new(7), &tried(&list[..2])).unwrap();
    assert_eq!((third.pod(), third.reason()), (list[2], Reason::LastResort));
    let none = fleet.choose(Slot::new(7), &tried(&list)).unwrap_err();
    assert_eq!(none, NoPod::AllTried { pods: 3, transport: Transport::Grpc });
    assert_eq!(fleet.in_flight(), 2, "a refused request is not in flight");
}

#[test]
fn a_pod_without_an_address_for_the_transport_is_passed_over() {
    let mut mute = pod("mute", 100.0);
    mute.addresses.grpc = None;
    let ring = Ring::build(view(&[1.0]).with_pod(mute).unwrap()).unwrap();
    let grpc = Fleet::new(ring.clone(), Transport::Grpc, FleetPolicy::default());
    let slot = (0..1024).find(|slot| ring.owner(Slot::new(*slot)) == PodIndex::new(0)).unwrap();
    assert_eq!(choose(&grpc, slot).pod_id().as_str(), "pod-0");
    assert_eq!(choose(&grpc, slot).reason(), Reason::Failover);

    let zmq = Fleet::new(ring.clone(), Transport::Zmq, FleetPolicy::default());
    let none = zmq.choose(Slot::new(0), &Tried::none()).unwrap_err();
    assert_eq!(none, NoPod::NoneServes { transport: Transport::Zmq });
    let any = Fleet::new(ring, Transport::Any, FleetPolicy::default());
    assert_eq!(choose(&any, slot).reason(), Reason::Owner);
}

#[test]
fn a_busy_owner_spills_to_the_next_and_gets_its_slots_back_when_it_is_not() {
    // Two equal pods, c = 1 and no floor: each may have half, rounded up.
    let fleet = fleet(&[1.0; 2], 1.0, 0);
    let list = preference(&fleet, 7);
    let first = choose(&fleet, 7);
    let second = choose(&fleet, 7);
    assert_eq!((first.pod(), first.reason()), (list[0], Reason::Owner));
    assert_eq!((second.pod(), second.reason()), (list[1], Reason::Spill));
    assert_eq!(fleet.status(list[1]).unwrap().spills, 1);
    drop(first);
    assert_eq!(choose(&fleet, 7).reason(), Reason::Owner);
}

#[test]
fn a_hot_slot_goes_where_it_last_found_room_and_looks_for_a_better_pod_after_a_while() {
    // Three equal pods, c = 1, no floor; the slot's second preference is full when it first spills.
    let fleet = fleet(&[1.0; 3], 1.0, 0);
    let list = preference(&fleet, 7);
    let slot_of = |pod| (0..1024).find(|slot| fleet.ring().owner(Slot::new(*slot)) == pod).unwrap();
    let second = choose(&fleet, slot_of(list[1]));
    let mut held = vec![choose(&fleet, 7), choose(&fleet, 7)];
    assert_eq!(held.iter().map(Permit::pod).collect::<Vec<_>>(), [list[0], list[2]]);
    drop(second);
    // The second has room from now on, but the third, where there was some, is asked first.
    for _ in 0..memory::USES_MAX {
        held.pop();
        held.push(choose(&fleet, 7));
        assert_eq!(held.last().map(Permit::pod), Some(list[2]));
    }
    held.pop();
    assert_eq!(choose(&fleet, 7).pod(), list[1]);
}

#[test]
fn a_remembered_pod_that_is_down_or_full_is_passed_over() {
    let fleet = fleet(&[1.0; 3], 1.0, 0);
    let list = preference(&fleet, 7);
    let held: Vec<_> = (0..3).map(|_| choose(&fleet, 7)).collect();
    assert_eq!(held.iter().map(Permit::pod).collect::<Vec<_>>(), list);
    // The third is remembered and takes the fifth request; the sixth finds it full.
    let more: Vec<_> = (0..3).map(|_| choose(&fleet, 7)).collect();
    let order = [list[0], list[2], list[1]];
    assert_eq!(more.iter().map(Permit::pod).collect::<Vec<_>>(), order);
    drop(more);
    // Now the second is remembered, and falls.
    fleet.observe(list[1], NOW, FALLS);
    let elsewhere: Vec<_> = (0..4).map(|_| choose(&fleet, 7)).collect();
    assert!(elsewhere.iter().all(|permit| permit.pod() != list[1]));
}

#[test]
fn below_the_floor_nothing_spills() {
    let fleet = fleet(&[1.0; 10], 1.0, 16);
    let permits: Vec<_> = (0..16).map(|_| choose(&fleet, 7)).collect();
    assert!(permits.iter().all(|permit| permit.reason() == Reason::Owner));
    assert_eq!(choose(&fleet, 7).reason(), Reason::Spill);
}

#[test]
fn a_retry_is_forced_on_a_busy_pod_rather_than_refused() {
    let fleet = fleet(&[1.0; 2], 1.0, 0);
    let list = preference(&fleet, 7);
    let full = choose(&fleet, 7);
    let permit = fleet.choose(Slot::new(7), &tried(&list[1..])).unwrap();
    assert_eq!((permit.pod(), permit.reason()), (full.pod(), Reason::Owner));
}

#[test]
fn the_weight_of_a_pod_that_is_down_is_shared_by_the_others() {
    let fleet = fleet(&[1.0; 4], 1.0, 0);
    let list = preference(&fleet, 7);
    fleet.observe(list[0], NOW, FALLS);
    fleet.observe(list[1], NOW, FALLS);
    // Two pods are up, so each may have half of what is in flight.
    let permits: Vec<_> = (0..20).map(|_| choose(&fleet, 7)).collect();
    assert_eq!([in_flight(&fleet, list[2]), in_flight(&fleet, list[3])], [10, 10]);
    drop(permits);
}

#[test]
fn a_fleet_that_follows_keeps_what_is_known_of_its_pods() {
    let before = fleet(&[1.0; 3], 1.25, 16);
    let slot = (0..1024).find(|slot| choose(&before, *slot).pod() == PodIndex::new(1)).unwrap();
    let permit = choose(&before, slot);
    before.observe(PodIndex::new(2), NOW, Event::ProbeFailed(ProbeFailure::NotServing));
    let view = before.ring().view().without_pod("pod-0").unwrap();
    let after = before.follow(Ring::build(view).unwrap(), policy(1.25, 16));
    assert_eq!(in_flight(&after, PodIndex::new(0)), 1, "pod-1 has moved to the first place");
    let fallen = after.status(PodIndex::new(1)).unwrap();
    assert_eq!((fallen.health, fallen.last_fall.unwrap().cause), (Health::Down, Cause::NotServing));

    permit.observe(NOW, FALLS);
    assert_eq!(after.health(PodIndex::new(0)), Health::Down, "told by a permit of the old view");
    permit.finish(Answer::Error);
    assert_eq!((after.in_flight(), in_flight(&after, PodIndex::new(0))), (0, 0));
    assert_eq!(after.status(PodIndex::new(0)).unwrap().requests_error, 1);
}

#[test]
fn a_pod_that_leaves_and_comes_back_still_has_its_requests_in_flight() {
    let one = fleet(&[1.0; 2], 1.25, 16);
    let slot = (0..1024).find(|slot| choose(&one, *slot).pod() == PodIndex::new(1)).unwrap();
    let permit = choose(&one, slot);
    let without = one.ring().view().without_pod("pod-1").unwrap();
    let two = one.follow(Ring::build(without.clone()).unwrap(), policy(1.25, 16));
    assert_eq!(two.in_flight(), 1, "it is still counted");
    let with = without.with_pod(pod("pod-1", 1.0)).unwrap();
    let three = two.follow(Ring::build(with).unwrap(), policy(1.25, 16));
    assert_eq!(in_flight(&three, PodIndex::new(1)), 1);
    drop(permit);
    assert_eq!((in_flight(&three, PodIndex::new(1)), three.in_flight()), (0, 0));
}

#[test]
fn the_bounds_of_a_new_fleet_know_of_a_fall_told_to_the_old_one() {
    let before = fleet(&[1.0; 2], 1.0, 0);
    let after = before.follow(ring(&[1.0; 2]), policy(1.0, 0));
    let list = preference(&after, 7);
    before.observe(list[1], NOW, FALLS);
    let permits: Vec<_> = (0..10).map(|_| choose(&after, 7)).collect();
    assert!(permits.iter().all(|permit| permit.reason() == Reason::Owner), "it has all to itself");
}

#[test]
fn a_draining_pod_takes_nothing_new_and_finishes_what_it_has() {
    let before = fleet(&[1.0; 2], 1.25, 16);
    let slot = (0..1024).find(|slot| choose(&before, *slot).pod() == PodIndex::new(1)).unwrap();
    let permit = choose(&before, slot);
    let view = before.ring().view().with_state("pod-1", PodState::Draining).unwrap();
    let after = before.follow(Ring::build(view).unwrap(), policy(1.25, 16));
    assert_eq!(choose(&after, slot).pod(), PodIndex::new(0));
    assert_eq!(in_flight(&after, PodIndex::new(1)), 1);
    permit.finish(Answer::Ok);
    let status = after.status(PodIndex::new(1)).unwrap();
    assert_eq!((status.in_flight, status.requests_ok), (0, 1));
}

#[test]
fn requests_without_a_key_are_spread_by_weight() {
    let fleet = fleet(&[1.0, 3.0], 1.25, 16);
    let light = (0..1000).filter(|_| fleet.ring().owner(fleet.any_slot()) == PodIndex::new(0));
    let light = light.count();
    assert!((230..=270).contains(&light), "{light} of 1000 where 250 are fair");
}

#[test]
fn a_pod_of_no_view_is_nobodys_concern() {
    let fleet = fleet(&[1.0; 2], 1.25, 16);
    let stranger = PodIndex::new(9);
    assert_eq!(fleet.observe(stranger, NOW, FALLS), None);
    assert_eq!((fleet.health(stranger), fleet.status(stranger)), (Health::Down, None));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is shared by threads is tested with threads")]
fn no_pod_exceeds_its_bound_under_threads() {
    const THREADS: u64 = 4;
    const HELD: u64 = 8;
    let fleet = fleet(&[1.0; 4], 1.0, 2);
    // At most this many are ever in flight, so no bound at any admission is above a quarter of it.
    let bound = (THREADS * (HELD + 1)).div_ceil(4);
    let list = preference(&fleet, 7);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                for _ in 0..20_000 {
                    held.push_back(choose(&fleet, 7));
                    assert!(list.iter().all(|pod| in_flight(&fleet, *pod) <= bound));
                    if held.len() as u64 > HELD {
                        held.pop_front();
                    }
                }
            });
        }
    });
    assert_eq!(fleet.in_flight(), 0);
    assert!(list.iter().all(|pod| in_flight(&fleet, *pod) == 0));
}

#[derive(Debug, Clone)]
enum Step {
    Choose { slot: u32 },
    End { which: usize },
    Tell { pod: u16, event: Event },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let event = prop_oneof![
        3 => Just(Event::ProbeSucceeded),
        2 => Just(FALLS),
        1 => Just(Event::DeadlineExceeded),
    ];
    let step = prop_oneof![
        6 => (0_u32..8).prop_map(|slot| Step::Choose { slot }),
        3 => (0_usize..64).prop_map(|which| Step::End { which }),
        1 => (0_u16..4, event).prop_map(|(pod, event)| Step::Tell { pod, event }),
    ];
    prop::collection::vec(step, 0..200)
}

/// For a slot, the pod where it last found room, and how often it may still be used.
type Remembered = std::collections::BTreeMap<u32, (PodIndex, u64)>;

/// The slow obvious twin of [`Fleet::choose`]: counts everything anew, and divides.
fn twin(
    remembered: &mut Remembered,
    fleet: &Fleet,
    weights: &[u64; 4],
    held: &[Permit],
    slot: u32,
    c: u64,
    floor: u64,
) -> PodIndex {
    let total = held.len() as u64 + 1;
    let is = |health| move |pod: &PodIndex| fleet.health(*pod) == health;
    let list = preference(fleet, slot);
    let weights_up: u64 =
        list.iter().copied().filter(is(Health::Up)).map(|pod| weights[pod.as_usize()]).sum();
    let within = |pod: &PodIndex| {
        let fair = (c * total * weights[pod.as_usize()]).div_ceil(weights_up * 100);
        let here = held.iter().filter(|permit| permit.pod() == *pod).count() as u64;
        here < fair.max(floor)
    };
    let up = || list.iter().copied().filter(is(Health::Up));
    assert!(up().next().is_none() || up().any(|pod| within(&pod)), "the bounds hold all");
    let with_room = up().find(within);
    if fleet.health(list[0]) == Health::Up && with_room != Some(list[0]) {
        if let Some((pod, uses)) = remembered.get_mut(&slot)
            && *uses > 0
        {
            *uses -= 1;
            if fleet.health(*pod) == Health::Up && within(pod) {
                return *pod;
            }
        }
        remembered.extend(with_room.map(|pod| (slot, (pod, memory::USES_MAX))));
    }
    with_room.or_else(|| list.iter().copied().find(is(Health::Suspect))).unwrap_or(list[0])
}

proptest! {
    #[test]
    fn a_choice_agrees_with_its_slow_twin_and_with_p3(
        steps in steps(), c in 100_u64..200, floor in 0_u32..6,
    ) {
        #[expect(clippy::cast_precision_loss, reason = "below 200")]
        let fleet = fleet(&[1.0, 1.0, 2.0, 4.0], c as f64 / 100.0, floor);
        let mut held: Vec<Permit> = Vec::new();
        let mut remembered = Remembered::new();
        for step in steps {
            match step {
                Step::Choose { slot } => {
                    let expected =
                        twin(&mut remembered, &fleet, &[1, 1, 2, 4], &held, slot, c, floor.into());
                    let permit = choose(&fleet, slot);
                    prop_assert_eq!(permit.pod(), expected);
                    held.push(permit);
                }
                Step::End { which } => {
                    let place = which % held.len().max(1);
                    held.drain(place..held.len().min(place + 1));
                }
                Step::Tell { pod, event } => {
                    fleet.observe(PodIndex::new(pod), NOW, event);
                }
            }
            prop_assert_eq!(fleet.in_flight(), held.len() as u64);
        }
    }
}

#[test]
fn a_write_takes_its_owner_whatever_that_is_and_is_counted_there() {
    let fleet = fleet(&[1.0; 3], 1.0, 0);
    let owner = preference(&fleet, 7)[0];
    fleet.observe(owner, NOW, FALLS);
    let permits: Vec<Permit> = (0..50).map(|_| fleet.take(owner).unwrap()).collect();
    assert!(permits.iter().all(|permit| permit.pod() == owner));
    assert_eq!((in_flight(&fleet, owner), fleet.in_flight()), (50, 50));
    drop(permits);
    assert_eq!((in_flight(&fleet, owner), fleet.in_flight()), (0, 0));
    assert!(fleet.take(PodIndex::new(3)).is_none());
}

#[test]
fn a_pod_is_silent_if_it_leaves_probes_unanswered_or_does_not_serve() {
    let late = Event::ProbeTimedOut { prober_late: Duration::ZERO };
    for (event, is_silent) in [
        (late, true),
        (Event::ProbeFailed(ProbeFailure::NotServing), true),
        (Event::ProbeFailed(ProbeFailure::Malformed), true),
        (Event::ProbeFailed(ProbeFailure::Refused), false),
        (Event::ConnectionLost, false),
        (FALLS, false),
    ] {
        let fleet = fleet(&[1.0; 2], 1.25, 16);
        let pod = PodIndex::new(1);
        assert!(!fleet.is_silent(pod));
        fleet.observe(pod, NOW, event);
        assert_eq!(fleet.health(pod), Health::Down);
        assert_eq!(fleet.is_silent(pod), is_silent, "{event:?}");
        fleet.observe(pod, NOW, Event::ProbeSucceeded);
        assert!(!fleet.is_silent(pod), "it has recovered");
    }
}
