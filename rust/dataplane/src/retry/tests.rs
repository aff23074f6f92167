use super::*;
use proptest::prelude::*;
use std::thread;

const EARLY: Progress = Progress { response_started: false, replayable: true };
const STARTED: Progress = Progress { response_started: true, replayable: true };
const SPILT: Progress = Progress { response_started: false, replayable: false };

fn plenty() -> RetryBudget {
    RetryBudget::new(0.2, 100)
}

fn empty() -> RetryBudget {
    RetryBudget::new(0.2, 0)
}

#[test]
fn the_table_of_failures() {
    use Cost::{Budgeted, Free};
    use Failure::*;
    use Outcome::{NotApplied, Unknown};
    use Verdict::{Fail, Retry, Wait};
    #[rustfmt::skip]
    let table = [
        // failure        idempotent       not idempotent   started        not replayable   no attempt left
        (Refused,       Retry(Free),     Retry(Free),     Fail(Unknown),    Fail(NotApplied), Fail(NotApplied)),
        (NotSent,       Retry(Free),     Retry(Free),     Fail(Unknown),    Fail(NotApplied), Fail(NotApplied)),
        (RefusedStream, Retry(Free),     Retry(Free),     Fail(Unknown),    Fail(NotApplied), Fail(NotApplied)),
        (GoAwayBeyond,  Retry(Free),     Retry(Free),     Fail(Unknown),    Fail(NotApplied), Fail(NotApplied)),
        (Lost,          Retry(Budgeted), Fail(Unknown),   Fail(Unknown),    Fail(Unknown),    Fail(Unknown)),
        (Reset,         Retry(Budgeted), Fail(Unknown),   Fail(Unknown),    Fail(Unknown),    Fail(Unknown)),
        (PodDown,       Retry(Budgeted), Wait,            Wait,             Wait,             Wait),
    ];
    for (failure, idempotent, not_idempotent, started, not_replayable, exhausted) in table {
        let may = Attempts::new(true, 3);
        assert_eq!(may.classify(failure, EARLY), idempotent, "{failure:?}");
        assert_eq!(Attempts::new(false, 3).classify(failure, EARLY), not_idempotent, "{failure:?}");
        assert_eq!(may.classify(failure, STARTED), started, "{failure:?}");
        assert_eq!(may.classify(failure, SPILT), not_replayable, "{failure:?}");
        assert_eq!(Attempts::new(true, 1).classify(failure, EARLY), exhausted, "{failure:?}");
    }
}

#[test]
fn a_request_makes_at_most_its_attempts() {
    for (attempts_max, retries) in [(0, 0), (1, 0), (3, 2), (100, 7)] {
        let mut attempts = Attempts::new(false, attempts_max);
        for _ in 0..retries {
            let verdict = attempts.failed(Failure::Refused, EARLY, &empty());
            assert_eq!(verdict, Verdict::Retry(Cost::Free));
        }
        let verdict = attempts.failed(Failure::Refused, EARLY, &empty());
        assert_eq!(verdict, Verdict::Fail(Outcome::NotApplied));
    }
}

#[test]
fn what_may_have_reached_one_pod_stays_unknown_when_the_next_refuses() {
    let mut attempts = Attempts::new(true, 3);
    assert_eq!(attempts.outcome(false), Outcome::NotApplied);
    assert_eq!(attempts.outcome(true), Outcome::Unknown);
    let verdict = attempts.failed(Failure::Lost, EARLY, &plenty());
    assert_eq!(verdict, Verdict::Retry(Cost::Budgeted));
    let verdict = attempts.failed(Failure::Refused, EARLY, &plenty());
    assert_eq!(verdict, Verdict::Retry(Cost::Free));
    let verdict = attempts.failed(Failure::Refused, EARLY, &plenty());
    assert_eq!(verdict, Verdict::Fail(Outcome::Unknown));
    assert_eq!(attempts.outcome(false), Outcome::Unknown);
}

#[test]
fn an_empty_budget_ends_what_costs_and_nothing_else() {
    let mut attempts = Attempts::new(true, 3);
    let verdict = attempts.failed(Failure::Refused, EARLY, &empty());
    assert_eq!(verdict, Verdict::Retry(Cost::Free));
    assert_eq!(attempts.failed(Failure::PodDown, EARLY, &empty()), Verdict::Wait);
    let verdict = attempts.failed(Failure::Lost, EARLY, &empty());
    assert_eq!(verdict, Verdict::Fail(Outcome::Unknown));
}

/// Spends all that is left; returns how much it was.
fn spend(budget: &RetryBudget) -> usize {
    std::iter::repeat(()).take_while(|()| budget.try_spend()).count()
}

#[test]
fn the_reserve_is_spent_once_and_earned_back_by_requests() {
    let budget = RetryBudget::new(0.2, 2);
    assert_eq!(spend(&budget), 2);
    (0..4).for_each(|_| budget.deposit());
    assert_eq!(spend(&budget), 0, "four fifths of a retry");
    budget.deposit();
    assert_eq!(spend(&budget), 1);
    (0..1000).for_each(|_| budget.deposit());
    assert_eq!(spend(&budget), 2, "no more is kept than the reserve");
}

#[test]
fn a_ratio_out_of_range_is_the_nearest_that_is_not() {
    for (ratio, after_one_request) in [(-1.0, 0), (f64::NAN, 0), (7.0, 1), (f64::INFINITY, 1)] {
        let budget = RetryBudget::new(ratio, 1);
        assert_eq!(spend(&budget), 1);
        budget.deposit();
        assert_eq!(spend(&budget), after_one_request, "{ratio}");
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what is shared by threads is tested with threads")]
fn threads_together_spend_no_more_than_there_is() {
    let budget = RetryBudget::new(0.5, 100);
    let spent: usize = thread::scope(|scope| {
        let spend = || (0..1000).filter(|_| budget.try_spend()).count();
        let threads = [(); 4].map(|()| scope.spawn(spend));
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(spent, 100);
}

proptest! {
    #[test]
    fn retries_stay_below_the_ratio_of_requests_plus_the_reserve(
        ratio in 0_u32..=10, reserve in 0_u32..20, wants in prop::collection::vec(0_u32..4, 0..200),
    ) {
        let budget = RetryBudget::new(f64::from(ratio) / 10.0, reserve);
        let (mut requests, mut retries) = (0, 0);
        for want in wants {
            budget.deposit();
            requests += 1;
            retries += (0..want).filter(|_| budget.try_spend()).count();
            prop_assert!(retries <= requests * ratio as usize / 10 + reserve as usize);
        }
    }
}
