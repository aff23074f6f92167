use super::*;
use proptest::prelude::*;

const ON_TIME: Event = Event::ProbeTimedOut { prober_late: Duration::ZERO };

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A pod that has met these events, one a millisecond.
fn after(events: &[Event]) -> PodHealth {
    let mut pod = PodHealth::new(Policy::default());
    for (time, event) in (1..).zip(events) {
        pod.handle(ms(time), *event);
    }
    pod
}

#[test]
fn a_pod_of_which_nothing_is_known_is_up() {
    let pod = after(&[]);
    assert_eq!((pod.health(), pod.since(), pod.last_fall()), (Health::Up, Duration::ZERO, None));
}

#[test]
fn each_sure_sign_takes_a_pod_down_at_once_and_one_probe_brings_it_back() {
    let signs = [
        (Event::ConnectionRefused, Cause::Refused),
        (Event::ConnectionLost, Cause::ConnectionLost),
        (ON_TIME, Cause::ProbeTimedOut),
        (Event::ProbeFailed(ProbeFailure::Refused), Cause::Refused),
        (Event::ProbeFailed(ProbeFailure::Lost), Cause::ConnectionLost),
        (Event::ProbeFailed(ProbeFailure::NotServing), Cause::NotServing),
        (Event::ProbeFailed(ProbeFailure::Malformed), Cause::ProbeMalformed),
    ];
    for (event, cause) in signs {
        let mut pod = after(&[]);
        let down = Transition { from: Health::Up, to: Health::Down, cause, at: ms(10) };
        assert_eq!(pod.handle(ms(10), event), Some(down), "{event:?}");
        assert_eq!(pod.handle(ms(20), event), None, "a pod falls once");
        let back =
            Transition { from: Health::Down, to: Health::Up, cause: Cause::Recovered, at: ms(60) };
        assert_eq!(pod.handle(ms(60), Event::ProbeSucceeded), Some(back), "{event:?}");
        assert_eq!(
            pod.last_fall(),
            Some(Fall { cause, at: ms(10) }),
            "what happened is remembered"
        );
    }
}

#[test]
fn a_frozen_pod_is_down_within_300_ms_at_the_default_settings() {
    // Probes leave every 50 ms and may take 150 ms. The worst case: the pod freezes right after it
    // answered, so the next probe leaves 50 ms later and is given up 150 ms after that.
    let mut pod = after(&[Event::ProbeSucceeded]);
    pod.handle(ms(1) + ms(50) + ms(150), ON_TIME);
    assert_eq!(pod.health(), Health::Down);
}

#[test]
fn a_prober_that_was_late_itself_proves_nothing() {
    let mut pod = after(&[]);
    let late = Event::ProbeTimedOut { prober_late: ms(51) };
    assert_eq!(pod.handle(ms(900), late), None);
    assert_eq!(pod.health(), Health::Up);
    let nearly_on_time = Event::ProbeTimedOut { prober_late: ms(50) };
    assert!(pod.handle(ms(950), nearly_on_time).is_some());
}

#[test]
fn only_a_probe_brings_a_pod_back() {
    let pod = after(&[ON_TIME, Event::RequestSucceeded, Event::DeadlineExceeded]);
    assert_eq!(pod.health(), Health::Down);
}

#[test]
fn deadlines_in_a_row_make_a_pod_suspect_and_a_success_between_them_does_not() {
    let mut pod = after(&[Event::DeadlineExceeded; 4]);
    pod.handle(ms(5), Event::RequestSucceeded);
    for time in 6..10 {
        assert_eq!(pod.handle(ms(time), Event::DeadlineExceeded), None);
    }
    let suspect = pod.handle(ms(10), Event::DeadlineExceeded).unwrap();
    assert_eq!((suspect.to, suspect.cause), (Health::Suspect, Cause::DeadlinesExceeded));
    assert_eq!(pod.last_fall(), None, "suspect is not down");
}

#[test]
fn a_suspect_pod_is_cleared_by_a_success_or_tried_again_after_its_hold() {
    let suspect = after(&[Event::DeadlineExceeded; 5]);
    let mut pod = suspect.clone();
    assert!(pod.handle(ms(6), Event::RequestSucceeded).is_some());
    assert_eq!(pod.health(), Health::Up);

    let mut pod = suspect.clone();
    assert_eq!(pod.handle(ms(1004), Event::ProbeSucceeded), None, "it still hangs, probably");
    assert!(pod.handle(ms(1005), Event::ProbeSucceeded).is_some());

    let mut pod = suspect;
    assert_eq!(pod.handle(ms(6), ON_TIME).unwrap().from, Health::Suspect);
}

#[test]
fn a_flapping_pod_proves_itself_before_it_is_up_again() {
    let mut pod = PodHealth::new(Policy::default());
    for second in 1..3 {
        pod.handle(ms(1000 * second), Event::ConnectionLost);
        assert!(pod.handle(ms(1000 * second + 50), Event::ProbeSucceeded).is_some());
    }
    pod.handle(ms(3000), Event::ConnectionLost);
    for probe in 1..5 {
        assert_eq!(pod.handle(ms(3000 + 50 * probe), Event::ProbeSucceeded), None);
    }
    pod.handle(ms(3210), Event::ConnectionRefused);
    for probe in 1..5 {
        assert_eq!(pod.handle(ms(3210 + 50 * probe), Event::ProbeSucceeded), None, "in a row");
    }
    assert!(pod.handle(ms(3460), Event::ProbeSucceeded).is_some(), "the hold has an end");
}

#[test]
fn falls_are_forgiven_after_the_window() {
    let mut pod = PodHealth::new(Policy::default());
    for time in [0, 100, 20_000] {
        pod.handle(ms(time), Event::ConnectionLost);
        assert!(pod.handle(ms(time + 50), Event::ProbeSucceeded).is_some(), "{time}");
    }
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::ProbeSucceeded),
        Just(Event::ProbeFailed(ProbeFailure::NotServing)),
        (0_u64..100).prop_map(|late| Event::ProbeTimedOut { prober_late: ms(late) }),
        Just(Event::ConnectionRefused),
        Just(Event::ConnectionLost),
        Just(Event::RequestSucceeded),
        Just(Event::DeadlineExceeded),
    ]
}

proptest! {
    #[test]
    fn every_change_is_told_and_is_one(history in prop::collection::vec((0_u64..3000, events()), 0..200)) {
        let mut pod = PodHealth::new(Policy::default());
        let mut now = Duration::ZERO;
        for (step, event) in history {
            now += ms(step);
            let before = pod.health();
            match pod.handle(now, event) {
                None => prop_assert_eq!(pod.health(), before),
                Some(Transition { from, to, at, .. }) => {
                    prop_assert_eq!((from, to, at), (before, pod.health(), now));
                    prop_assert_ne!(from, to);
                    prop_assert_eq!(pod.since(), now);
                }
            }
            prop_assert!(pod.is_settled() <= (pod.health() == Health::Up));
        }
    }

    #[test]
    fn whatever_happened_five_probes_in_a_row_bring_a_pod_back(
        history in prop::collection::vec((0_u64..3000, events()), 0..100),
    ) {
        let mut pod = PodHealth::new(Policy::default());
        let mut now = Duration::ZERO;
        for (step, event) in history {
            now += ms(step);
            pod.handle(now, event);
        }
        prop_assume!(pod.health() != Health::Suspect);
        for _ in 0..5 {
            now += ms(50);
            pod.handle(now, Event::ProbeSucceeded);
        }
        prop_assert_eq!(pod.health(), Health::Up);
    }

    #[test]
    fn a_settled_pod_learns_nothing_from_a_success(
        history in prop::collection::vec((0_u64..3000, events()), 0..100),
    ) {
        let mut pod = PodHealth::new(Policy::default());
        let mut now = Duration::ZERO;
        for (step, event) in history {
            now += ms(step);
            pod.handle(now, event);
            if pod.is_settled() {
                let before = format!("{pod:?}");
                prop_assert_eq!(pod.handle(now, Event::RequestSucceeded), None);
                prop_assert_eq!(format!("{:?}", pod), before);
            }
        }
    }
}
