use super::*;
use crate::change::Change;
use crate::testing::{both, entry, ms, pod, without_a, writer};

fn fail_a() -> Wish {
    let stop = vec![writer("a", 1)];
    Wish { before: both(), record: without_a(), stop, ask_first: Vec::new() }
}

/// The ballot of the first try with this number.
fn mine(dice: u64) -> Ballot {
    Ballot { round: 1, proposer: dice }
}

fn preparing() -> Proposer {
    let mut proposer = Proposer::new(Planted::default());
    assert_eq!(proposer.propose(ms(0), fail_a(), 9).len(), 3, "every voter is asked");
    proposer
}

fn promise(
    proposer: &mut Proposer,
    by: u128,
    accepted: Option<(Ballot, Record)>,
) -> Vec<ProposerAction> {
    let message = FromVoter::Promised { epoch: Epoch::new(4), ballot: mine(9), accepted };
    proposer.handle(ms(1), VoterId(by), &message)
}

fn vote(proposer: &mut Proposer, by: u128) -> Vec<ProposerAction> {
    let message = FromVoter::Accepted { epoch: Epoch::new(4), ballot: mine(9) };
    proposer.handle(ms(2), VoterId(by), &message)
}

fn proposed(actions: &[ProposerAction]) -> Option<&Record> {
    actions.iter().find_map(|action| {
        let ProposerAction::ToVoter(_, ToVoter::Accept { record, .. }) = action else {
            return None;
        };
        Some(record)
    })
}

#[test]
fn a_majority_of_promises_and_then_of_votes_makes_a_record_chosen() {
    let mut proposer = preparing();
    assert_eq!(promise(&mut proposer, 1, None), []);
    assert_eq!(promise(&mut proposer, 1, None), [], "one voter twice is one voter");
    let actions = promise(&mut proposer, 3, None);
    assert_eq!(proposed(&actions), Some(&without_a()));
    assert_eq!(vote(&mut proposer, 1), []);
    assert_eq!(vote(&mut proposer, 1), []);
    let chosen = ProposerAction::Chosen { record: without_a(), own: true };
    assert_eq!(vote(&mut proposer, 2), [chosen]);
    assert!(!proposer.is_busy());
}

#[test]
fn strangers_do_not_count() {
    let mut proposer = preparing();
    promise(&mut proposer, 1, None);
    assert_eq!(promise(&mut proposer, 9, None), []);
    promise(&mut proposer, 2, None);
    vote(&mut proposer, 1);
    assert_eq!(vote(&mut proposer, 9), []);
}

#[test]
fn what_was_accepted_in_the_highest_ballot_is_proposed_and_is_nobodys_own() {
    let mut proposer = preparing();
    let nothing = both().next(&Change::Nothing).unwrap();
    let older = both().next(&Change::Drain(pod("b"))).unwrap();
    promise(&mut proposer, 1, Some((Ballot { round: 0, proposer: 8 }, nothing.clone())));
    let actions = promise(&mut proposer, 2, Some((Ballot { round: 0, proposer: 7 }, older)));
    assert_eq!(proposed(&actions), Some(&nothing));
    vote(&mut proposer, 1);
    let chosen = ProposerAction::Chosen { record: nothing, own: false };
    assert_eq!(vote(&mut proposer, 2), [chosen]);
}

#[test]
fn nobody_is_asked_to_stop_before_everybody_has_said_to_be_ready() {
    let mut proposer = Proposer::new(Planted::default());
    let drained = both().next(&Change::Drain(pod("a"))).unwrap();
    let ask_first = vec![writer("a", 1)];
    let wish = Wish { before: both(), record: drained, stop: Vec::new(), ask_first };
    let asked = proposer.propose(ms(0), wish, 9);
    let message = ToPeer::AskReady { ballot: mine(9), epoch: Epoch::new(4) };
    assert_eq!(asked, [ProposerAction::ToPeer(pod("a"), message)]);
    assert_eq!(proposer.ready(ms(1), Epoch::new(4), mine(8), writer("a", 1)), [], "another try");
    assert_eq!(proposer.ready(ms(1), Epoch::new(4), mine(9), writer("b", 1)), []);
    let actions = proposer.ready(ms(1), Epoch::new(4), mine(9), writer("a", 1));
    assert_eq!(actions.len(), 3, "now the voters");
}

#[test]
fn nobody_stops_before_a_majority_has_the_record() {
    let mut proposer = preparing();
    let asks = |actions: &[ProposerAction]| {
        actions.iter().any(|it| {
            matches!(it, ProposerAction::ToPeer(to, ToPeer::AskRelease { .. }) if *to == pod("a"))
        })
    };
    promise(&mut proposer, 1, None);
    assert!(!asks(&promise(&mut proposer, 2, None)));
    let (epoch, ballot, remaining) = (Epoch::new(4), mine(9), ms(70));
    let guarded = FromVoter::Guarded { epoch, ballot, remaining };
    for (by, asked) in [(1, false), (1, false), (9, false), (3, true), (2, false)] {
        assert_eq!(asks(&proposer.handle(ms(2), VoterId(by), &guarded)), asked, "{by}");
    }
    assert!(asks(&proposer.tick(ms(30))), "and again, as long as nothing is heard of it");
    proposer.released(epoch, ballot, writer("a", 1));
    assert!(!asks(&proposer.tick(ms(60))));
}

#[test]
fn a_release_is_passed_on_only_in_the_try_that_asked_for_it() {
    let mut proposer = preparing();
    promise(&mut proposer, 1, None);
    promise(&mut proposer, 2, None);
    let a = writer("a", 1);
    assert_eq!(proposer.released(Epoch::new(4), mine(8), a.clone()), []);
    let passed_on = proposer.released(Epoch::new(4), mine(9), a.clone());
    assert!(passed_on.iter().all(|action| matches!(
        action,
        ProposerAction::ToVoter(_, ToVoter::Accept { released, .. }) if *released == [a.clone()]
    )));
    assert_eq!(passed_on.len(), 3);
}

#[test]
fn the_voters_of_the_record_before_are_asked_and_not_those_to_come() {
    let mut proposer = Proposer::new(Planted::default());
    let change = Change::ReplaceVoter { old: VoterId(3), new: entry(4) };
    let record = both().next(&change).unwrap();
    let wish = Wish { before: both(), record, stop: Vec::new(), ask_first: Vec::new() };
    let asked = proposer.propose(ms(0), wish, 9);
    let asked: Vec<u128> = asked
        .iter()
        .filter_map(|action| {
            let ProposerAction::ToVoter(voter, _) = action else { return None };
            Some(voter.0)
        })
        .collect();
    assert_eq!(asked, [1, 2, 3]);
}

#[test]
fn a_higher_ballot_ends_the_try_and_the_next_goes_above_it() {
    let mut proposer = preparing();
    let promised = Ballot { round: 7, proposer: 1 };
    let outbid = FromVoter::Outbid { epoch: Epoch::new(4), promised };
    assert_eq!(proposer.handle(ms(1), VoterId(1), &outbid), [ProposerAction::Failed]);
    let again = proposer.propose(ms(2), fail_a(), 10);
    let higher = Ballot { round: 8, proposer: 10 };
    assert!(matches!(
        &again[0],
        ProposerAction::ToVoter(_, ToVoter::Prepare { ballot, .. }) if *ballot == higher
    ));
}

#[test]
fn a_voter_that_lacks_the_record_before_is_sent_it() {
    let mut proposer = preparing();
    let missing = FromVoter::Missing { epoch: Epoch::new(2) };
    let actions = proposer.handle(ms(1), VoterId(2), &missing);
    let install = ToVoter::Install { record: both() };
    assert_eq!(actions[0], ProposerAction::ToVoter(VoterId(2), install));
}

#[test]
fn who_does_not_answer_is_asked_again_and_given_up() {
    let mut proposer = preparing();
    promise(&mut proposer, 1, None);
    assert_eq!(proposer.deadline(), Some(ms(25)));
    assert_eq!(proposer.tick(ms(24)), []);
    assert_eq!(proposer.tick(ms(25)).len(), 2, "the two that are silent");
    assert_eq!(proposer.tick(ms(100)), [ProposerAction::Failed]);
}

#[test]
fn when_a_guard_is_about_to_end_the_vote_is_asked_for_then() {
    let mut proposer = preparing();
    promise(&mut proposer, 1, None);
    promise(&mut proposer, 2, None);
    let (epoch, ballot, remaining) = (Epoch::new(4), mine(9), ms(3));
    let guarded = FromVoter::Guarded { epoch, ballot, remaining };
    proposer.handle(ms(2), VoterId(1), &guarded);
    assert_eq!(proposer.deadline(), Some(ms(5)));
}
