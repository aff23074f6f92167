//! Schedules bent towards what a planted bug needs, where the swarm would meet it rarely.

use std::time::Duration;

use hashroute_coordination::Bug;

use crate::plan::{Clocks, Kind, Plan, Step};

/// Bends the plan towards the faults that `bug` needs to do harm.
pub(crate) fn direct(plan: &mut Plan, bug: Bug) {
    match bug {
        Bug::GrantAfterAccept => back_before_the_last_vote(plan),
        Bug::GrantAcrossVoters => apart_while_voters_change(plan),
        Bug::NoQuietTime => unheard_after_restarts(plan),
        Bug::NoQuietTimeForNewVoter => unheard_by_the_newest_voter(plan),
        Bug::ReleaseOfOtherTry => late_releases(plan),
        Bug::LostDiskVotes | Bug::VoteForgotten | Bug::TornStateRead | Bug::VoteBeforeDisk => {
            votes_forgotten(plan, bug);
        }
        Bug::IncarnationReused => crash_loops(plan),
        Bug::NoDriftMargin | Bug::WildClock => clocks_far_apart(plan),
        // The swarm meets what these need.
        Bug::NoGuardAtVote
        | Bug::GuardsDroppedAtInstall
        | Bug::PromiseUnchecked
        | Bug::TentativeForgotten
        | Bug::WrongVotersMajority
        | Bug::LeaseFromAck
        | Bug::AckExtendsNewest
        | Bug::QuorumOfOne
        | Bug::RenounceKeepsAcks
        | Bug::AckRevivesRenounced
        | Bug::NoProbe
        | Bug::TermUnchecked
        | Bug::OwnerUnchecked
        | Bug::LeaseUnchecked
        | Bug::ValidityCached
        | Bug::RouterTrusted
        | Bug::ReleaseIgnored
        | Bug::ReleaseTooEarly
        | Bug::AcceptedIgnored
        | Bug::ChosenByOne
        | Bug::TermReused
        | Bug::ChangePresumed
        | Bug::StoreUnfenced
        | Bug::RestartTakesOver
        | Bug::GrantOfOther
        | Bug::ReleaseForgotten
        | Bug::TwoVotersAtOnce
        | Bug::UnheardVotersCounted
        | Bug::ClockReadEarly
        | Bug::OldEpochGranted
        | Bug::UndecidedIgnored
        | Bug::TermOfEffect => {}
        // These are no bugs of this engine.
        Bug::RecordUnchecked
        | Bug::RenewalUnchecked
        | Bug::BeatUnchecked
        | Bug::HalfTheWait
        | Bug::UnansweredCounted
        | Bug::ProbeExtends
        | Bug::IntentForced
        | Bug::IntentUnchecked
        | Bug::ReleaseOfOtherIntent
        | Bug::ResumedEarly
        | Bug::EarlierWaitCounts
        | Bug::MadeByAnother
        | Bug::RemovedComesBack
        | Bug::DueForEver
        | Bug::IntentUnread
        | Bug::VotesOfOtherIntent
        | Bug::VotersUnasked => {}
    }
}

/// A writer that was thought dead is back when one voter has voted, and forgot in a restart
/// whose renewals it held back, and another has yet to vote.
fn back_before_the_last_vote(plan: &mut Plan) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.loss_per_mille) = (3, 2, 200);
    (plan.delay_most, plan.sync_most, plan.down_most) = (ms(10), ms(2), ms(3));
    plan.recipe = vec![
        step(50, 100, Kind::Mend),
        step(150, 250, Kind::CutNode),
        step(150, 190, Kind::PauseVoter),
        step(0, 20, Kind::CrashVoter),
        step(0, 20, Kind::Mend),
    ];
}

/// The voters change while two sides do not hear each other: the old voters on one side go
/// on granting, and the new ones on the other side decide.
fn apart_while_voters_change(plan: &mut Plan) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.loss_per_mille) = (3, 2, 0);
    plan.delay_most = ms(10);
    plan.recipe = vec![
        step(300, 320, Kind::Mend),
        step(200, 250, Kind::ReplaceVoter),
        step(0, 60, Kind::Split),
    ];
}

/// Two voters forget their guards, and a writer that has to release something does not hear of it.
fn unheard_after_restarts(plan: &mut Plan) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.loss_per_mille) = (3, 2, 200);
    (plan.delay_most, plan.sync_most, plan.straggler_most) = (ms(1), ms(0), ms(0));
    (plan.down_most, plan.stragglers_per_mille) = (ms(1), 0);
    plan.recipe = vec![
        step(250, 300, Kind::CrashVoter),
        step(0, 2, Kind::CrashVoter),
        step(0, 2, Kind::CrashVoter),
        step(2, 10, Kind::Reweight),
        step(0, 5, Kind::Reweight),
    ];
}

/// A writer that one voter does not hear must release something right after another voter
/// has come, and does not hear of it.
fn unheard_by_the_newest_voter(plan: &mut Plan) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.loss_per_mille) = (3, 2, 200);
    (plan.delay_most, plan.sync_most, plan.straggler_most) = (ms(1), ms(0), ms(0));
    plan.recipe = vec![
        step(50, 60, Kind::Mend),
        step(200, 210, Kind::CutOneWay),
        step(0, 1, Kind::CutOneWay),
        step(0, 1, Kind::CutOneWay),
        step(170, 180, Kind::ReplaceVoter),
        step(5, 30, Kind::Reweight),
        step(0, 10, Kind::Reweight),
    ];
}

/// Writes under way make a release late, and meanwhile somebody dies.
fn late_releases(plan: &mut Plan) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.slots) = (3, 4, 16);
    (plan.effect_most, plan.write_interval) = (ms(300), ms(2));
    (plan.delay_most, plan.down_most) = (ms(10), ms(400));
    (plan.stragglers_per_mille, plan.straggler_most) = (200, ms(400));
    plan.recipe = vec![
        step(200, 300, Kind::Reweight),
        step(0, 50, Kind::Reweight),
        step(0, 200, Kind::CrashMember),
    ];
}

/// Votes are taken, and forgotten, while another proposer cannot be heard.
fn votes_forgotten(plan: &mut Plan, bug: Bug) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.down_most) = (3, 3, ms(5));
    (plan.sync_most, plan.delay_most) = (ms(20), ms(10));
    let forget = if bug == Bug::LostDiskVotes { Kind::LoseDisk } else { Kind::CrashVoter };
    plan.recipe = vec![
        step(0, 100, Kind::Mend),
        step(50, 100, Kind::Reweight),
        step(0, 20, Kind::Reweight),
        step(0, 60, Kind::Split),
        step(0, 20, forget),
        step(10, 40, Kind::Mend),
        step(0, 30, forget),
    ];
}

/// Grants to the process before arrive when the next one has sent as many renewals.
fn crash_loops(plan: &mut Plan) {
    let ms = Duration::from_millis;
    (plan.voters, plan.members, plan.down_most) = (3, 2, ms(20));
    (plan.straggler_most, plan.stragglers_per_mille) = (ms(400), 300);
    plan.recipe = vec![step(30, 120, Kind::CrashMember)];
}

/// Leases are used to their very end, by the clocks that are furthest apart.
fn clocks_far_apart(plan: &mut Plan) {
    let ms = Duration::from_millis;
    plan.clocks = Clocks::Worst;
    (plan.delay_most, plan.straggler_most) = (Duration::from_micros(100), ms(0));
    plan.recipe = vec![step(250, 300, Kind::Mend), step(150, 250, Kind::CutNode)];
}

fn step(least_ms: u64, most_ms: u64, kind: Kind) -> Step {
    let ms = Duration::from_millis;
    Step { least: ms(least_ms), most: ms(most_ms), kind }
}
