use super::*;
use crate::change::Change;
use crate::lease::LeaseParameters;
use crate::testing::{L, both, entry, ms};

const WINDOW: Duration = Duration::from_micros(150_000 - 300 - 3_000);

/// A holder whose first probe, sent at zero, was answered by two voters at 2 ms; its first renewal
/// is sent then, under this sequence.
fn renewing() -> (LeaseHolder, Sequence) {
    let mut holder = LeaseHolder::new(ms(0), Planted::default());
    assert_eq!(holder.tick(ms(0), &both()), Some(Call::Probe(Sequence(1))));
    for voter in [1, 2] {
        holder.heard(ms(2), VoterId(voter), Sequence(1), &both());
    }
    assert_eq!(holder.heard_since(), Some(ms(2)));
    assert_eq!(holder.tick(ms(2), &both()), Some(Call::Renew(Sequence(2))));
    (holder, Sequence(2))
}

#[test]
fn it_renews_only_when_a_majority_has_answered_its_probes() {
    let mut holder = LeaseHolder::new(ms(0), Planted::default());
    holder.tick(ms(0), &both());
    for voter in [1, 1, 9] {
        holder.heard(ms(1), VoterId(voter), Sequence(1), &both());
    }
    assert_eq!(holder.heard_since(), None, "one voter twice and a stranger are no majority");
    assert_eq!(holder.tick(ms(25), &both()), Some(Call::Probe(Sequence(2))));
}

#[test]
fn the_lease_counts_from_the_sending_that_a_majority_granted() {
    let (mut holder, sequence) = renewing();
    assert_eq!(WINDOW, LeaseParameters::TIGHT.holder_window());
    holder.renewed(ms(20), VoterId(1), sequence, &both());
    assert_eq!(holder.end(), None);
    holder.renewed(ms(40), VoterId(3), sequence, &both());
    assert_eq!(holder.end(), Some(ms(2) + WINDOW));
    assert!(holder.is_valid(ms(1) + WINDOW));
    assert!(!holder.is_valid(ms(2) + WINDOW), "not at the very end");
}

#[test]
fn grants_of_different_renewals_count_as_the_older_one() {
    let (mut holder, first) = renewing();
    assert_eq!(holder.tick(ms(27), &both()), Some(Call::Renew(Sequence(3))));
    holder.renewed(ms(28), VoterId(1), Sequence(3), &both());
    holder.renewed(ms(29), VoterId(2), first, &both());
    assert_eq!(holder.end(), Some(ms(2) + WINDOW));
    holder.renewed(ms(30), VoterId(2), Sequence(3), &both());
    assert_eq!(holder.end(), Some(ms(27) + WINDOW));
}

#[test]
fn an_old_grant_that_arrives_late_takes_nothing_back() {
    let (mut holder, first) = renewing();
    holder.tick(ms(27), &both());
    for (voter, sequence) in [(1, Sequence(3)), (1, first), (2, Sequence(3))] {
        holder.renewed(ms(30), VoterId(voter), sequence, &both());
    }
    assert_eq!(holder.end(), Some(ms(27) + WINDOW));
}

#[test]
fn grants_of_strangers_and_of_what_was_never_sent_do_not_count() {
    let (mut holder, sequence) = renewing();
    for (voter, sequence) in [(1, sequence), (9, sequence), (2, Sequence(77))] {
        holder.renewed(ms(3), VoterId(voter), sequence, &both());
    }
    assert_eq!(holder.end(), None);
}

#[test]
fn grants_of_voters_that_left_do_not_count_with_those_that_came() {
    let (mut holder, sequence) = renewing();
    holder.renewed(ms(3), VoterId(3), sequence, &both());
    let change = Change::ReplaceVoter { old: VoterId(3), new: entry(4) };
    let next = both().next(&change).unwrap();
    holder.installed(&next);
    holder.renewed(ms(4), VoterId(1), sequence, &next);
    assert_eq!(holder.end(), None);
}

#[test]
fn renewals_that_bring_nothing_end_while_the_lease_is_still_valid() {
    let (mut holder, sequence) = renewing();
    for voter in [1, 2] {
        holder.renewed(ms(3), VoterId(voter), sequence, &both());
    }
    assert_eq!(holder.tick(ms(28), &both()), Some(Call::Renew(Sequence(3))));
    assert_eq!(holder.tick(ms(53), &both()), Some(Call::Probe(Sequence(4))));
    assert!(holder.is_valid(ms(53)));
    assert_eq!(holder.heard_since(), None, "who hears nothing judges nobody");
    for voter in [1, 3] {
        holder.heard(ms(55), VoterId(voter), Sequence(4), &both());
    }
    assert_eq!(holder.tick(ms(55), &both()), Some(Call::Renew(Sequence(5))));
}

#[test]
fn grants_that_are_late_but_come_keep_it_renewing() {
    let (mut holder, mut sequence) = renewing();
    for round in 1..20_u64 {
        // Each is granted after the next two were sent.
        let now = ms(2 + 25 * round);
        assert_eq!(holder.tick(now, &both()), Some(Call::Renew(Sequence(2 + round))), "{round}");
        if round >= 2 {
            for voter in [1, 2] {
                holder.renewed(now, VoterId(voter), sequence, &both());
            }
            sequence = Sequence(sequence.0 + 1);
        }
    }
    assert!(holder.is_valid(ms(2 + 25 * 19)));
}

#[test]
fn what_was_renounced_stays_renounced() {
    let (mut holder, sequence) = renewing();
    for voter in [1, 2] {
        holder.renewed(ms(3), VoterId(voter), sequence, &both());
    }
    holder.renounce();
    assert!(!holder.is_valid(ms(4)));
    for voter in [1, 2, 3] {
        holder.renewed(ms(5), VoterId(voter), sequence, &both());
    }
    assert!(!holder.is_valid(ms(5)), "a grant that comes late");
    assert_eq!(holder.tick(L, &both()), None);
}
