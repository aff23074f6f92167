use std::time::Duration;

use hashroute_core::Epoch;

use hashroute_core::View;

use super::*;
use crate::change::Change;
use crate::record::{ClusterId, RecordFields};
use crate::testing::{
    L, accept, ballot, both, entry, join, ms, pod, prepare, renew, state, tell, voter, without_a,
    writer,
};

const LATER: Duration = Duration::from_secs(10);

fn accepted(round: u64) -> Vec<FromVoter> {
    vec![FromVoter::Accepted { epoch: Epoch::new(4), ballot: ballot(round) }]
}

fn guarded(remaining: Duration) -> Vec<FromVoter> {
    vec![FromVoter::Guarded { epoch: Epoch::new(4), ballot: ballot(1), remaining }]
}

fn is_granted(voter: &mut Voter, now: Duration, name: &str) -> bool {
    let said = tell(voter, now, renew(&voter.state().installed.clone(), &writer(name, 1), 99));
    matches!(said[..], [FromVoter::Renewed { .. }])
}

fn refusal(voter: &mut Voter, now: Duration, message: ToVoter) -> Refusal {
    match tell(voter, now, message).pop() {
        Some(FromVoter::Refused { refusal, .. }) => refusal,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

#[test]
fn it_votes_against_a_writer_only_when_its_guard_has_run_out() {
    let mut voter = voter();
    assert!(is_granted(&mut voter, LATER, "a"));
    let wait = tell(&mut voter, LATER + ms(50), accept(1, without_a(), &[]));
    assert_eq!(wait, guarded(L - ms(50) + GRAIN));
    let wait = tell(&mut voter, LATER + L, accept(1, without_a(), &[]));
    assert_eq!(wait, guarded(GRAIN), "at the very end it has not run out");
    assert_eq!(tell(&mut voter, LATER + L + GRAIN, accept(1, without_a(), &[])), accepted(1));
}

#[test]
fn an_older_renewal_that_arrives_late_does_not_shorten_the_guard() {
    let mut voter = voter();
    for (at, sequence) in [(LATER, 5), (LATER + ms(10), 2)] {
        tell(&mut voter, at, renew(&both(), &writer("a", 1), sequence));
    }
    let wait = tell(&mut voter, LATER + ms(20), accept(1, without_a(), &[]));
    assert_eq!(wait, guarded(L - ms(10) + GRAIN));
}

#[test]
fn a_release_stands_for_its_writer_and_for_no_other() {
    for (released, votes) in [("a", true), ("b", false)] {
        let mut voter = voter();
        assert!(is_granted(&mut voter, LATER, "a"));
        let said = tell(&mut voter, LATER, accept(1, without_a(), &[writer(released, 1)]));
        assert_eq!(said == accepted(1), votes);
    }
}

/// A voter that wrote down what it votes for when `a`, which it has just heard, has released it.
fn waiting() -> Voter {
    let mut voter = voter();
    assert!(is_granted(&mut voter, LATER, "a"));
    let actions = voter.handle(LATER, pod("b"), accept(1, without_a(), &[]));
    assert!(matches!(&actions[..], [
        VoterAction::Persist(state),
        VoterAction::Send { message: FromVoter::Guarded { .. }, .. },
    ] if state.tentative == Some((ballot(1), without_a())) && state.accepted.is_none()));
    voter
}

#[test]
fn a_vote_that_waits_is_written_down_ahead_so_that_nobody_waits_for_a_disk_when_it_is_cast() {
    let mut voter = waiting();
    assert!(is_granted(&mut voter, LATER, "a"), "it has not voted yet");
    let released = accept(1, without_a(), &[writer("a", 1)]);
    for _ in 0..2 {
        let actions = voter.handle(LATER, pod("b"), released.clone());
        assert!(matches!(
            &actions[..],
            [VoterAction::AwaitDisk, VoterAction::Send { message: FromVoter::Accepted { .. }, .. },]
        ));
        assert!(!is_granted(&mut voter, LATER, "a"));
    }
    assert_eq!(voter.state().vote(ballot(1)), Some(&without_a()));
}

#[test]
fn what_was_written_down_ahead_counts_as_a_vote_after_a_restart_and_guards_are_looked_at_again() {
    let mut voter = Voter::new(waiting().state().clone(), LATER);
    assert!(!is_granted(&mut voter, LATER, "a"));
    let quiet = LeaseParameters::TIGHT.quiet_time();
    assert_eq!(tell(&mut voter, LATER, accept(1, without_a(), &[])), guarded(quiet + GRAIN));
    let (epoch, accepted) = (Epoch::new(4), Some((ballot(1), without_a())));
    let told = FromVoter::Promised { epoch, ballot: ballot(2), accepted };
    assert_eq!(tell(&mut voter, LATER, prepare(4, 2, &[])), [told]);
}

#[test]
fn what_was_written_down_ahead_is_void_once_a_higher_ballot_was_promised() {
    let mut voter = waiting();
    let told = FromVoter::Promised { epoch: Epoch::new(4), ballot: ballot(2), accepted: None };
    assert_eq!(tell(&mut voter, LATER, prepare(4, 2, &[])), [told]);
    assert_eq!(voter.state().tentative, None);
    let late = tell(&mut voter, LATER, accept(1, without_a(), &[writer("a", 1)]));
    assert!(matches!(late[..], [FromVoter::Outbid { .. }]));
}

#[test]
fn after_its_vote_it_grants_nothing_to_who_loses_by_it() {
    let mut voter = voter();
    assert_eq!(tell(&mut voter, LATER, accept(1, without_a(), &[])), accepted(1));
    let pending = refusal(&mut voter, LATER, renew(&both(), &writer("a", 1), 1));
    assert_eq!(pending, Refusal::Pending(without_a()));
    assert!(is_granted(&mut voter, LATER, "b"), "b loses nothing");
}

#[test]
fn who_renews_is_told_that_a_vote_was_cast_and_its_outcome_is_unknown() {
    let mut voter = voter();
    for undecided in [false, true] {
        let said = tell(&mut voter, LATER, renew(&both(), &writer("b", 1), 1));
        assert!(matches!(
            said[..],
            [FromVoter::Renewed { undecided: told, .. }] if told == undecided
        ));
        tell(&mut voter, LATER, accept(1, without_a(), &[]));
    }
}

#[test]
fn after_a_vote_for_other_voters_it_grants_nothing_to_anybody() {
    let mut voter = voter();
    let change = Change::ReplaceVoter { old: VoterId(3), new: entry(4) };
    tell(&mut voter, LATER, accept(1, both().next(&change).unwrap(), &[]));
    assert!(!is_granted(&mut voter, LATER, "a"));
    assert!(!is_granted(&mut voter, LATER, "b"));
}

#[test]
fn after_a_restart_it_is_quiet_for_as_long_as_what_it_forgot_may_last() {
    let mut voter = Voter::new(state(), LATER);
    let quiet = LeaseParameters::TIGHT.quiet_time();
    let wait = tell(&mut voter, LATER, accept(1, without_a(), &[]));
    assert_eq!(wait, guarded(quiet + GRAIN));
    let released = tell(&mut voter, LATER, accept(1, without_a(), &[writer("a", 1)]));
    assert_eq!(released, accepted(1), "who released needs no guard");
    let mut voter = Voter::new(state(), LATER);
    assert_eq!(tell(&mut voter, LATER + quiet + GRAIN, accept(1, without_a(), &[])), accepted(1));
}

#[test]
fn one_that_was_no_voter_of_the_record_before_is_quiet_too() {
    let mut voter = voter();
    let skipped = without_a();
    let newest = join(&skipped, "a", 2);
    tell(&mut voter, LATER, ToVoter::Install { record: newest.clone() });
    let next = newest.next(&Change::Fail(writer("b", 1))).unwrap();
    let said = tell(&mut voter, LATER, accept(1, next, &[]));
    assert!(matches!(said[..], [FromVoter::Guarded { .. }]));
}

#[test]
fn guards_outlive_the_record_they_were_granted_under() {
    let mut voter = voter();
    assert!(is_granted(&mut voter, LATER, "a"));
    let same = both().next(&Change::Nothing).unwrap();
    tell(&mut voter, LATER, ToVoter::Install { record: same.clone() });
    let next = same.next(&Change::Fail(writer("a", 1))).unwrap();
    let said = tell(&mut voter, LATER, accept(1, next, &[]));
    assert!(matches!(said[..], [FromVoter::Guarded { .. }]));
}

#[test]
fn a_writer_that_renounced_is_waited_for_no_longer_and_gets_nothing_more() {
    let mut voter = Voter::new(state(), LATER);
    assert!(is_granted(&mut voter, LATER, "a"));
    tell(&mut voter, LATER, ToVoter::Renounce { writer: writer("a", 1) });
    assert!(voter.tick(LATER + L * 2).len() > 1, "members are told");
    let late = refusal(&mut voter, LATER, renew(&both(), &writer("a", 1), 1));
    assert_eq!(late, Refusal::Renounced);
    assert_eq!(tell(&mut voter, LATER, accept(1, without_a(), &[])), accepted(1));
}

#[test]
fn it_keeps_its_promise_and_tells_what_it_accepted() {
    let mut voter = voter();
    let epoch = Epoch::new(4);
    let fresh = FromVoter::Promised { epoch, ballot: ballot(2), accepted: None };
    assert_eq!(tell(&mut voter, LATER, prepare(4, 2, &[])), [fresh]);
    let outbid = FromVoter::Outbid { epoch, promised: ballot(2) };
    assert_eq!(tell(&mut voter, LATER, prepare(4, 1, &[])), vec![outbid.clone()]);
    assert_eq!(tell(&mut voter, LATER, accept(1, without_a(), &[])), [outbid]);
    assert_eq!(tell(&mut voter, LATER, accept(2, without_a(), &[])), accepted(2));
    let earlier = Some((ballot(2), without_a()));
    let told = FromVoter::Promised { epoch, ballot: ballot(3), accepted: earlier };
    assert_eq!(tell(&mut voter, LATER + ms(100), prepare(4, 3, &[])), [told]);
}

#[test]
fn a_vote_is_a_promise_also_without_a_ballot_that_was_opened() {
    let mut voter = voter();
    assert_eq!(tell(&mut voter, LATER, accept(5, without_a(), &[])), accepted(5));
    let said = tell(&mut voter, LATER, prepare(4, 4, &[]));
    assert_eq!(said, [FromVoter::Outbid { epoch: Epoch::new(4), promised: ballot(5) }]);
}

#[test]
fn a_proposer_at_work_is_let_be_until_it_is_silent() {
    let mut voter = voter();
    tell(&mut voter, LATER, prepare(4, 2, &[]));
    let early = tell(&mut voter, LATER + ms(74), prepare(4, 3, &[]));
    assert_eq!(early, [FromVoter::Outbid { epoch: Epoch::new(4), promised: ballot(2) }]);
    let late = tell(&mut voter, LATER + ms(75), prepare(4, 3, &[]));
    assert!(matches!(late[..], [FromVoter::Promised { .. }]));
}

#[test]
fn writers_presumed_dead_get_nothing_while_the_ballot_stands() {
    let mut voter = voter();
    tell(&mut voter, LATER, prepare(4, 2, &[writer("a", 1)]));
    assert!(!is_granted(&mut voter, LATER + L * 2 - ms(1), "a"));
    assert!(is_granted(&mut voter, LATER, "b"));
    assert!(is_granted(&mut voter, LATER + L * 2, "a"));
}

#[test]
fn who_does_not_renew_is_reported_once_to_every_writer() {
    let mut voter = voter();
    assert!(is_granted(&mut voter, LATER, "a"));
    assert!(is_granted(&mut voter, LATER + ms(20), "b"));
    assert_eq!(voter.deadline(), Some(LATER + L));
    assert_eq!(voter.tick(LATER + L - ms(1)), []);
    let writers = vec![writer("a", 1)];
    let message = FromVoter::Lapsed { epoch: Epoch::new(3), writers };
    let told = |name| VoterAction::Send { to: pod(name), message: message.clone() };
    assert_eq!(voter.tick(LATER + L), [told("a"), told("b")]);
    assert_eq!(voter.tick(LATER + L), []);
}

#[test]
fn proposals_for_another_epoch_are_answered_with_what_is_known() {
    let mut voter = voter();
    let decided = vec![FromVoter::Decided { record: both() }];
    let missing = vec![FromVoter::Missing { epoch: Epoch::new(3) }];
    assert_eq!(tell(&mut voter, LATER, prepare(3, 1, &[])), decided);
    assert_eq!(tell(&mut voter, LATER, accept(1, both(), &[])), decided);
    assert_eq!(tell(&mut voter, LATER, prepare(5, 1, &[])), missing);
}

#[test]
fn who_is_no_voter_neither_grants_nor_votes() {
    let stranger = VoterState { id: VoterId(9), ..state() };
    let mut voter = Voter::new(stranger, Duration::ZERO);
    let said = refusal(&mut voter, LATER, renew(&both(), &writer("a", 1), 1));
    assert_eq!(said, Refusal::NotAVoter);
    let said = tell(&mut voter, LATER, accept(1, without_a(), &[]));
    assert_eq!(said, [FromVoter::Missing { epoch: Epoch::new(3) }]);
}

#[test]
fn renewals_by_another_record_or_process_are_refused_with_the_reason() {
    let mut voter = voter();
    let stale = refusal(&mut voter, LATER, renew(&crate::testing::first(), &writer("a", 1), 1));
    assert_eq!(stale, Refusal::Behind(both()));
    let ahead = refusal(&mut voter, LATER, renew(&without_a(), &writer("b", 1), 1));
    assert_eq!(ahead, Refusal::Ahead);
    let other = refusal(&mut voter, LATER, renew(&both(), &writer("a", 2), 1));
    assert_eq!(other, Refusal::NotNamed);
}

#[test]
fn records_that_may_not_follow_are_not_voted_for() {
    let mut voter = voter();
    let change = |old, new| Change::ReplaceVoter { old: VoterId(old), new: entry(new) };
    let one = both().next(&change(2, 4)).unwrap();
    let two = one.next(&change(3, 5)).unwrap();
    let pods = two.view().pods().to_vec();
    let view = View::new(Epoch::new(4), two.view().parameters(), pods).unwrap();
    for cluster in [ClusterId(7), ClusterId(8)] {
        let fields = RecordFields { cluster, view: view.clone(), ..two.fields() };
        let record = Record::restore(fields, None);
        assert_eq!(tell(&mut voter, LATER, accept(1, record.unwrap(), &[])), []);
    }
    assert_eq!(voter.state().accepted, None);
}

#[test]
fn nothing_older_and_nothing_of_another_cluster_is_installed() {
    let mut voter = voter();
    tell(&mut voter, LATER, ToVoter::Install { record: crate::testing::first() });
    assert_eq!(voter.state().installed, both());
    let (cluster, parameters) = (ClusterId(8), LeaseParameters::TIGHT);
    let fields = RecordFields { cluster, parameters, ..without_a().fields() };
    let strange = Record::restore(fields, None).unwrap();
    tell(&mut voter, LATER, ToVoter::Install { record: strange });
    assert_eq!(voter.state().installed, both());
}

#[test]
fn a_voter_that_is_behind_says_so_to_who_only_probes() {
    let mut voter = voter();
    let mut probe = |epoch| {
        let (writer, sequence) = (writer("a", 2), Sequence(1));
        tell(&mut voter, LATER, ToVoter::Probe { epoch: Epoch::new(epoch), writer, sequence })
    };
    let is_heard = |said: &FromVoter| matches!(said, FromVoter::Heard { .. });
    for (epoch, answers) in [(2, 1), (3, 1), (4, 2)] {
        let said = probe(epoch);
        assert!(is_heard(&said[0]) && said.len() == answers, "{said:?}");
    }
    let refusal = Refusal::Ahead;
    let ahead = FromVoter::Refused { writer: writer("a", 2), sequence: Sequence(1), refusal };
    assert_eq!(probe(4)[1], ahead);
}
