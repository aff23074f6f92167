use super::*;
use crate::change::Change;
use crate::message::{Ballot, Sequence};
use crate::testing::{L, both, entry, first, join, ms, pod, slot, without_a, writer};

/// The first process of pod `a`, which goes by the record of epoch 3 that names it, and has heard
/// voters 1 and 2 and has their grants.
fn member() -> Member {
    let pod = Pod::new(pod("a"));
    let mut member = Member::new(pod, Incarnation(1), first(), ms(0), Planted::default());
    install(&mut member, both());
    member.tick(ms(1), 7);
    for by in [1, 2] {
        let (writer, lapsed) = (member.writer().clone(), Vec::new());
        let (sequence, newer, undecided) = (Sequence(1), None, false);
        let heard = FromVoter::Heard { writer, sequence, newer, lapsed, undecided };
        member.handle_voter(ms(2), VoterId(by), heard, 7);
    }
    member.tick(ms(2), 7);
    grant(&mut member, ms(3), 1, 2);
    grant(&mut member, ms(3), 2, 2);
    assert!(member.lease().is_valid(ms(3)));
    member
}

fn install(member: &mut Member, record: Record) {
    member.handle_peer(ms(1), &pod("b"), ToPeer::Install { record }, 7);
}

fn grant(member: &mut Member, at: Duration, by: u128, sequence: u64) {
    let (epoch, writer) = (member.record().epoch(), member.writer().clone());
    let (sequence, lapsed, undecided) = (Sequence(sequence), Vec::new(), false);
    let grant = FromVoter::Renewed { epoch, writer, sequence, lapsed, undecided };
    member.handle_voter(at, VoterId(by), grant, 7);
}

fn proposes(actions: &[MemberAction]) -> bool {
    let is_prepare =
        |it: &MemberAction| matches!(it, MemberAction::ToVoter(_, ToVoter::Prepare { .. }));
    actions.iter().any(is_prepare)
}

#[test]
fn who_was_removed_or_replaced_by_another_process_of_its_pod_takes_part_no_more() {
    let removed = both().next(&Change::Remove(pod("a"))).unwrap();
    let replaced = join(&both(), "a", 2);
    for (record, ends) in [(removed, true), (replaced, true), (without_a(), false)] {
        let mut member = member();
        install(&mut member, record);
        assert_eq!(member.takes_part(), !ends);
        let actions = member.tick(ms(500), 7);
        assert_eq!(actions.is_empty(), ends);
        assert_eq!(member.deadline() == Duration::MAX, ends);
        let tag = WriteTag { epoch: Epoch::new(3), term: Epoch::new(3) };
        assert!(member.admit(ms(3), &slot(0), tag).is_err());
    }
}

#[test]
fn who_never_took_part_joins_in_the_place_of_another_process_of_its_pod() {
    let pod = Pod::new(pod("a"));
    let mut member = Member::new(pod, Incarnation(2), first(), ms(0), Planted::default());
    install(&mut member, both());
    assert!(member.takes_part());
}

#[test]
fn who_is_past_an_epoch_that_is_asked_about_says_what_it_goes_by() {
    let mut member = member();
    let ballot = Ballot { round: 1, proposer: 1 };
    let mut ask = |epoch| {
        let epoch = Epoch::new(epoch);
        member.handle_peer(ms(4), &pod("b"), ToPeer::AskReady { ballot, epoch }, 7)
    };
    let install = ToPeer::Install { record: both() };
    assert_eq!(ask(3), [MemberAction::ToPeer(pod("b"), install)]);
    let ready = ToPeer::Ready { ballot, epoch: Epoch::new(4), writer: writer("a", 1) };
    assert_eq!(ask(4), [MemberAction::ToPeer(pod("b"), ready)]);
    assert_eq!(ask(5), [], "it is behind itself");
}

#[test]
fn who_hears_no_voters_for_a_lease_asks_another_pod() {
    let asks = |actions: Vec<MemberAction>| {
        let asks = |it: &MemberAction| matches!(it, MemberAction::ToPeer(to, ToPeer::AskReady { .. }) if *to == pod("b"));
        actions.iter().any(asks)
    };
    let pod = Pod::new(pod("a"));
    let mut member = Member::new(pod, Incarnation(1), both(), ms(0), Planted::default());
    assert!(!asks(member.tick(ms(0), 7)), "the voters are asked first");
    assert!(!asks(member.tick(L - ms(1), 7)));
    assert!(asks(member.tick(L + ms(30), 7)));
}

#[test]
fn a_voter_is_not_replaced_while_too_few_of_those_that_stay_were_heard() {
    let replace = |old| Change::ReplaceVoter { old: VoterId(old), new: entry(9) };
    // Voters 1 and 2 were heard: without 3 two of three are left, without 1 only one.
    for (old, goes) in [(3, true), (1, false)] {
        let mut member = member();
        install(&mut member, both());
        member.wish(replace(old)).unwrap();
        assert_eq!(proposes(&member.tick(ms(4), 7)), goes);
        let mut later = Vec::new();
        for renewal in 3..TRIES {
            let now = ms(2) + ms(25) * (renewal - 2);
            later.extend(member.tick(now, 7));
            // Voters 1 and 2 go on granting.
            for by in [1, 2] {
                grant(&mut member, now, by, u64::from(renewal));
            }
        }
        let dropped = later.into_iter().filter_map(|action| {
            let MemberAction::Dropped { reason, .. } = action else { return None };
            Some(reason.code())
        });
        let dropped: Vec<_> = dropped.collect();
        assert_eq!(dropped == ["voters_unheard"], !goes, "{dropped:?}");
    }
}

#[test]
fn what_a_voter_said_a_lease_ago_does_not_count() {
    let told = |first: Duration, second: Duration| {
        let mut member = member();
        for (at, by) in [(first, 1), (second, 2)] {
            let (epoch, writers) = (Epoch::new(3), vec![writer("b", 1)]);
            let lapsed = FromVoter::Lapsed { epoch, writers };
            member.handle_voter(at, VoterId(by), lapsed, 7);
        }
        member.dead_writer(second)
    };
    assert_eq!(told(ms(60), ms(61)), Some(writer("b", 1)));
    assert_eq!(told(ms(60), ms(59) + L), Some(writer("b", 1)));
    assert_eq!(told(ms(60), ms(60) + L), None);
}

/// A process of pod `a` that has just started and is on its way in: `b` alone is the writer, and has
/// been asked whether it is there. Voters 1 and 2 answered at 2 ms.
fn newcomer() -> Member {
    let pod = Pod::new(pod("a"));
    let mut member = Member::new(pod, Incarnation(2), without_a(), ms(0), Planted::default());
    member.tick(ms(1), 7);
    let first = hear(&mut member, ms(2), 1, 1, &[]);
    let second = hear(&mut member, ms(2), 2, 1, &[]);
    assert!(first.is_empty());
    let asks = |it: &MemberAction| matches!(it, MemberAction::ToPeer(_, ToPeer::AskReady { .. }));
    assert!(second.iter().any(asks));
    member
}

fn hear(
    member: &mut Member,
    at: Duration,
    by: u128,
    sequence: u64,
    lapsed: &[Writer],
) -> Vec<MemberAction> {
    let (writer, sequence, lapsed) = (member.writer().clone(), Sequence(sequence), lapsed.to_vec());
    let heard = FromVoter::Heard { writer, sequence, newer: None, lapsed, undecided: false };
    member.handle_voter(at, VoterId(by), heard, 7)
}

#[test]
fn who_is_not_named_probes_since_nobody_would_grant_it_anything() {
    let mut member = newcomer();
    for tick in 1..8 {
        let actions = member.tick(ms(2) + ms(25) * tick, 7);
        let renews =
            |it: &MemberAction| matches!(it, MemberAction::ToVoter(_, ToVoter::Renew { .. }));
        let probes =
            |it: &MemberAction| matches!(it, MemberAction::ToVoter(_, ToVoter::Probe { .. }));
        assert!(!actions.iter().any(renews) && actions.iter().any(probes));
    }
}

#[test]
fn a_writer_that_dies_while_it_is_asked_is_not_waited_for() {
    let dead = [writer("b", 1)];
    let mut member = newcomer();
    assert!(member.proposer.is_asking());
    // Whoever has just been heard judges nobody: the first answers are for nothing.
    for (at, proposed) in [(ms(30), false), (ms(51), false), (ms(52), true)] {
        let first = proposes(&hear(&mut member, at, 1, 2, &dead));
        let second = proposes(&hear(&mut member, at, 2, 2, &dead));
        assert_eq!(first || second, proposed, "{at:?}");
    }
    // What was asked came to nothing, and the next time was far.
    let mut member = newcomer();
    member.tick(ms(110), 7);
    member.tick(ms(120), 7);
    assert!(!member.proposer.is_busy() && member.next_proposal > ms(121));
    hear(&mut member, ms(121), 1, 3, &dead);
    assert!(proposes(&hear(&mut member, ms(121), 2, 3, &dead)));
}

#[test]
fn nobody_is_asked_to_give_something_up_who_may_be_dead() {
    let pod = Pod::new(pod("a"));
    let mut member = Member::new(pod, Incarnation(2), without_a(), ms(0), Planted::default());
    member.tick(ms(1), 7);
    for by in [1, 2] {
        hear(&mut member, ms(2), by, 1, &[writer("b", 1)]);
    }
    assert!(member.lease.heard_since().is_some() && !member.proposer.is_busy());
    assert!(proposes(&member.tick(ms(52), 7)), "by now it may judge");
}

/// More than a member makes.
const TRIES: u32 = 14;
