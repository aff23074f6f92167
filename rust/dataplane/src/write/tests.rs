use super::*;
use proptest::prelude::*;

const WHOLE: Progress = Progress { response_started: false, replayable: true };
const PATIENCE: Duration = Duration::from_secs(2);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number)
}

fn policy(idempotent: bool) -> WritePolicy {
    WritePolicy { idempotent, patience: PATIENCE, attempts_max: 3 }
}

/// A write that was sent by the record of epoch 7.
fn sent(idempotent: bool) -> Write {
    let mut write = Write::new(ms(0), policy(idempotent));
    let step = write.handle(ms(0), Event::Sending { record: epoch(7) });
    assert_eq!(step, Step::Stay { until: None });
    write
}

fn refused(refusal: Refusal, seen: Option<u64>) -> Event<'static> {
    let refused = Refused { refusal, epoch: seen.map(Epoch::new) };
    Event::Refused { refused, progress: WHOLE }
}

fn gave_up(why: Why, outcome: Outcome, refusal: Option<Refusal>) -> Step {
    Step::Fail(GaveUp { outcome, refusal, why })
}

#[test]
fn a_pod_that_is_not_the_owner_is_asked_again_only_by_a_newer_record() {
    for refusal in [Refusal::NotOwner, Refusal::StaleTerm] {
        let mut write = sent(false);
        let wait = Step::Wait { until: PATIENCE, record: epoch(8) };
        assert_eq!(write.handle(ms(1), refused(refusal, Some(3))), wait);
        assert_eq!(write.handle(ms(2), Event::Installed { record: epoch(7) }), wait);
        assert_eq!(write.handle(ms(3), Event::Waited), wait, "not before the time has come");
        assert_eq!(write.handle(ms(4), Event::Installed { record: epoch(8) }), Step::Send);
    }
}

#[test]
fn a_record_older_than_the_one_that_the_pod_goes_by_is_not_worth_an_attempt() {
    let mut write = sent(false);
    let wait = Step::Wait { until: PATIENCE, record: epoch(9) };
    assert_eq!(write.handle(ms(1), refused(Refusal::NotOwner, Some(9))), wait);
    assert_eq!(write.handle(ms(1), Event::Installed { record: epoch(8) }), wait);
    assert_eq!(write.handle(ms(1), Event::Installed { record: epoch(9) }), Step::Send);
}

#[test]
fn what_passes_is_tried_again_after_pauses_that_double_up_to_a_bound() {
    let mut write = sent(false);
    let mut now = ms(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let step = write.handle(now, refused(Refusal::NoLease, None));
        let Step::Wait { until, record } = step else { panic!("{step:?}") };
        assert_eq!(record, epoch(8), "a newer record ends the pause");
        pauses.push((until - now).as_millis());
        now = until;
        assert_eq!(write.handle(now, Event::Waited), Step::Send);
        write.handle(now, Event::Sending { record: epoch(7) });
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 32, 32]);
}

#[test]
fn a_newer_record_makes_the_next_pause_short_again() {
    let mut write = sent(false);
    for _ in 0..5 {
        write.handle(ms(0), refused(Refusal::Moving, None));
    }
    assert_eq!(write.handle(ms(50), Event::Installed { record: epoch(8) }), Step::Send);
    write.handle(ms(50), Event::Sending { record: epoch(8) });
    let wait = Step::Wait { until: ms(51), record: epoch(9) };
    assert_eq!(write.handle(ms(50), refused(Refusal::Behind, Some(7))), wait);
}

#[test]
fn when_patience_is_over_nothing_was_applied_and_the_last_refusal_is_told() {
    for refusal in [Refusal::NotOwner, Refusal::NoLease] {
        let mut write = sent(false);
        write.handle(ms(1), refused(refusal, None));
        let mut now = ms(1);
        loop {
            now += ms(7);
            let step = write.handle(now, Event::Waited);
            let over = gave_up(Why::PatienceOver, Outcome::NotApplied, Some(refusal));
            match step {
                Step::Send => {
                    assert!(now < PATIENCE);
                    write.handle(now, Event::Sending { record: epoch(7) });
                    if write.handle(now, refused(refusal, None)) == over {
                        break;
                    }
                }
                Step::Wait { .. } => assert!(now < PATIENCE),
                Step::Stay { .. } | Step::Fail(_) => {
                    assert_eq!(step, over);
                    break;
                }
            }
        }
        assert!(now >= PATIENCE, "{now:?}");
    }
}

#[test]
fn an_untagged_write_fails_at_once() {
    let mut write = sent(true);
    let over = gave_up(Why::Final, Outcome::NotApplied, Some(Refusal::Untagged));
    assert_eq!(write.handle(ms(1), refused(Refusal::Untagged, Some(7))), over);
}

#[test]
fn a_request_that_is_not_at_hand_any_more_is_not_sent_again_and_says_what_is_certain() {
    let progress = Progress { replayable: false, ..WHOLE };
    let mut write = sent(false);
    let refused = Refused { refusal: Refusal::Moving, epoch: None };
    let over = gave_up(Why::NotReplayable, Outcome::NotApplied, Some(Refusal::Moving));
    assert_eq!(write.handle(ms(1), Event::Refused { refused, progress }), over);
    let budget = RetryBudget::new(0.0, 10);
    let mut write = sent(true);
    let event = Event::Failed { failure: Failure::NotSent, progress, budget: &budget };
    let over = gave_up(Why::NotReplayable, Outcome::NotApplied, None);
    assert_eq!(write.handle(ms(1), event), over);
}

#[test]
fn what_certainly_was_not_sent_is_sent_again_to_the_same_owner() {
    let budget = RetryBudget::new(0.0, 0);
    for failure in
        [Failure::Refused, Failure::NotSent, Failure::RefusedStream, Failure::GoAwayBeyond]
    {
        let mut write = sent(false);
        let event = Event::Failed { failure, progress: WHOLE, budget: &budget };
        let wait = Step::Wait { until: ms(1), record: epoch(8) };
        assert_eq!(write.handle(ms(0), event), wait, "{failure:?}");
        assert_eq!(write.handle(ms(1), Event::Waited), Step::Send);
    }
}

#[test]
fn what_may_have_been_applied_is_unknown_unless_its_route_is_idempotent() {
    let budget = RetryBudget::new(0.0, 10);
    for failure in [Failure::Lost, Failure::Reset] {
        let event = Event::Failed { failure, progress: WHOLE, budget: &budget };
        let over = gave_up(Why::MayBeApplied, Outcome::Unknown, None);
        assert_eq!(sent(false).handle(ms(1), event), over);
        assert!(matches!(sent(true).handle(ms(1), event), Step::Wait { .. }));
    }
}

#[test]
fn an_idempotent_write_that_was_lost_stays_unknown_whatever_comes_after() {
    let budget = RetryBudget::new(0.0, 10);
    let mut write = sent(true);
    let lost = Event::Failed { failure: Failure::Lost, progress: WHOLE, budget: &budget };
    write.handle(ms(1), lost);
    write.handle(ms(2), Event::Waited);
    write.handle(ms(2), Event::Sending { record: epoch(8) });
    let over = gave_up(Why::Final, Outcome::Unknown, Some(Refusal::Untagged));
    assert_eq!(write.handle(ms(3), refused(Refusal::Untagged, None)), over);
    assert_eq!(write.outcome(false), Outcome::Unknown);
}

#[test]
fn repeats_that_may_do_work_twice_end_with_the_attempts_and_with_the_budget() {
    let lost = |budget| Event::Failed { failure: Failure::Lost, progress: WHOLE, budget };
    let over = gave_up(Why::MayBeApplied, Outcome::Unknown, None);
    let budget = RetryBudget::new(0.0, 10);
    let mut write = sent(true);
    for _ in 0..2 {
        assert!(matches!(write.handle(ms(1), lost(&budget)), Step::Wait { .. }));
    }
    assert_eq!(write.handle(ms(1), lost(&budget)), over);
    assert_eq!(sent(true).handle(ms(1), lost(&RetryBudget::new(0.0, 0))), over);
}

#[test]
fn without_an_owner_the_write_waits_for_a_record() {
    let mut write = Write::new(ms(0), policy(false));
    let wait = Step::Wait { until: PATIENCE, record: epoch(0) };
    assert_eq!(write.handle(ms(0), Event::NoOwner { record: None }), wait);
    assert_eq!(write.handle(ms(5), Event::Installed { record: epoch(1) }), Step::Send);
    let wait = Step::Wait { until: PATIENCE, record: epoch(2) };
    assert_eq!(write.handle(ms(5), Event::NoOwner { record: Some(epoch(1)) }), wait);
    let over = gave_up(Why::PatienceOver, Outcome::NotApplied, None);
    assert_eq!(write.handle(PATIENCE, Event::Waited), over);
}

#[test]
fn an_owner_that_does_not_answer_is_looked_at_again_and_gets_nothing_meanwhile() {
    let mut write = Write::new(ms(0), policy(false));
    let wait = Step::Wait { until: ms(1), record: epoch(8) };
    assert_eq!(write.handle(ms(0), Event::OwnerSilent { record: epoch(7) }), wait);
    assert_eq!(write.handle(ms(1), Event::Waited), Step::Send);
    assert_eq!(write.outcome(false), Outcome::NotApplied);
}

#[test]
fn a_write_at_a_pod_that_is_replaced_goes_on_if_idempotent_and_else_waits_for_its_answer() {
    let budget = RetryBudget::new(0.0, 10);
    let moved = Event::Moved { progress: WHOLE, budget: &budget };
    assert_eq!(sent(true).handle(ms(5_000), moved), Step::Send);
    let mut write = sent(false);
    let stay = Step::Stay { until: Some(ms(5_000) + PATIENCE) };
    assert_eq!(write.handle(ms(5_000), moved), stay);
    assert_eq!(write.handle(ms(6_000), moved), stay, "a second change gives no more time");
    assert_eq!(write.handle(ms(6_000), Event::Installed { record: epoch(9) }), stay);
    assert_eq!(write.handle(ms(6_999), Event::Waited), stay);
    let over = gave_up(Why::OwnerReplaced, Outcome::Unknown, None);
    assert_eq!(write.handle(ms(7_000), Event::Waited), over);
}

#[test]
fn an_answer_that_has_begun_is_not_begun_again() {
    let budget = RetryBudget::new(0.0, 10);
    let progress = Progress { response_started: true, replayable: true };
    let event = Event::Failed { failure: Failure::GoAwayBeyond, progress, budget: &budget };
    let over = gave_up(Why::MayBeApplied, Outcome::Unknown, None);
    assert_eq!(sent(true).handle(ms(1), event), over);
    let step = sent(true).handle(ms(1), Event::Moved { progress, budget: &budget });
    assert!(matches!(step, Step::Stay { until: Some(_) }), "{step:?}");
}

/// One thing that happens at a pod, as a number from a random source.
fn happens(kind: u8, budget: &RetryBudget) -> (Event<'_>, bool) {
    let failure = |failure| Event::Failed { failure, progress: WHOLE, budget };
    match kind {
        0 => (refused(Refusal::NotOwner, Some(9)), false),
        1 => (refused(Refusal::Behind, None), false),
        2 => (refused(Refusal::Moving, None), false),
        3 => (refused(Refusal::NoLease, None), false),
        4 => (failure(Failure::Refused), false),
        5 => (failure(Failure::NotSent), false),
        6 => (failure(Failure::Lost), true),
        7 => (failure(Failure::Reset), true),
        _ => (Event::Moved { progress: WHOLE, budget }, true),
    }
}

proptest! {
    /// Whatever happens: it ends; *not applied* is never said of what may have been applied; what
    /// may have been applied is repeated only if it is idempotent, and at most as often as allowed.
    #[test]
    fn a_write_ends_and_never_lies(
        idempotent: bool, kinds in prop::collection::vec((0_u8..9, 0_u64..40, 0_u64..3), 1..200),
    ) {
        let budget = RetryBudget::new(0.0, 1_000);
        let mut write = Write::new(ms(0), policy(idempotent));
        let (mut now, mut record) = (ms(0), 7);
        let (mut may_be_applied, mut repeats) = (false, 0);
        let mut step = Step::Send;
        let mut last_search = ms(0);
        for (kind, passes, newer) in kinds.into_iter().cycle().take(100_000) {
            step = match step {
                Step::Send => {
                    prop_assert!(!may_be_applied || idempotent);
                    prop_assert!(now < last_search + PATIENCE, "{now:?} {last_search:?}");
                    write.handle(now, Event::Sending { record: epoch(record) })
                }
                Step::Stay { until: None } => {
                    now += ms(passes);
                    let (event, reaches) = happens(kind, &budget);
                    let step = write.handle(now, event);
                    may_be_applied |= reaches;
                    if reaches && !matches!(step, Step::Fail(_) | Step::Stay { .. }) {
                        repeats += 1;
                        last_search = now;
                    }
                    step
                }
                Step::Stay { until: Some(until) } => {
                    now = until;
                    write.handle(now, Event::Waited)
                }
                Step::Wait { until, .. } if newer > 0 => {
                    prop_assert!(until <= last_search + PATIENCE);
                    record += newer;
                    write.handle(now, Event::Installed { record: epoch(record) })
                }
                Step::Wait { until, .. } => {
                    prop_assert!(until <= last_search + PATIENCE);
                    now = until;
                    write.handle(now, Event::Waited)
                }
                Step::Fail(end) => {
                    prop_assert_eq!(end.outcome == Outcome::Unknown, may_be_applied);
                    prop_assert!(repeats <= 2);
                    return Ok(());
                }
            };
        }
        // It can only go on for ever if records come for ever without time passing.
        prop_assert!(record > 1_000, "it did not end: {step:?} at {now:?}");
    }
}
