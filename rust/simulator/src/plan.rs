//! What a schedule does to its cluster: which kinds of faults, how hard, and when.

use std::time::Duration;

use hashroute_coordination::{Bug, LeaseParameters};

use crate::dice::Dice;

/// The make-up of one schedule. Each kind of fault is switched on or off by the seed ("swarm"):
/// a bug that needs one kind often hides behind the noise of another.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) voters: usize,
    pub(crate) members: usize,
    pub(crate) slots: u64,
    pub(crate) parameters: LeaseParameters,
    /// Faults happen before this, and nothing but time passes after it.
    pub(crate) heal_at: Duration,
    /// By then every live pod writes again.
    pub(crate) end_at: Duration,
    /// The mean time between two faults.
    pub(crate) fault_interval: Duration,
    pub(crate) loss_per_mille: usize,
    pub(crate) duplicates_per_mille: usize,
    pub(crate) delay_most: Duration,
    /// A few messages take up to this long.
    pub(crate) straggler_most: Duration,
    pub(crate) sync_most: Duration,
    pub(crate) effect_most: Duration,
    pub(crate) drift_ppm: i64,
    pub(crate) write_interval: Duration,
    pub(crate) kinds: Vec<Kind>,
}

/// A kind of fault, or of change by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CrashMember,
    CrashVoter,
    LoseDisk,
    PauseMember,
    PauseVoter,
    CutOneWay,
    CutNode,
    Mend,
    Drain,
    Reweight,
    Lead,
    ReplaceVoter,
    Renounce,
}

const KINDS: [Kind; 12] = [
    Kind::CrashMember,
    Kind::CrashVoter,
    Kind::LoseDisk,
    Kind::PauseMember,
    Kind::PauseVoter,
    Kind::CutOneWay,
    Kind::CutNode,
    Kind::Drain,
    Kind::Reweight,
    Kind::Lead,
    Kind::ReplaceVoter,
    Kind::Renounce,
];

impl Plan {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let ms = Duration::from_millis;
        let parameters = LeaseParameters::TIGHT;
        let heal_at = ms(400) + dice.between(ms(0), ms(1200));
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| dice.per_mille(400)).collect();
        if kinds.iter().any(|kind| matches!(kind, Kind::CutOneWay | Kind::CutNode)) {
            kinds.push(Kind::Mend);
        }
        let members = *dice.pick(&[2, 2, 2, 3, 3, 4, 5, 8]).unwrap_or(&2);
        // Pods join one after the other, so a larger cluster takes longer to be whole again.
        let recovery = ms(1200) + ms(300) * u32::try_from(members).unwrap_or(8);
        Self {
            voters: if dice.per_mille(800) { 3 } else { 5 },
            members,
            slots: *dice.pick(&[8, 8, 16]).unwrap_or(&8),
            parameters,
            heal_at,
            end_at: heal_at + recovery,
            fault_interval: dice.between(ms(10), ms(300)),
            loss_per_mille: *dice.pick(&[0, 0, 10, 100, 300]).unwrap_or(&0),
            duplicates_per_mille: *dice.pick(&[0, 0, 20, 200]).unwrap_or(&0),
            delay_most: *dice.pick(&[ms(1), ms(2), ms(10), ms(40)]).unwrap_or(&ms(1)),
            straggler_most: *dice.pick(&[ms(0), ms(100), ms(400)]).unwrap_or(&ms(0)),
            sync_most: *dice.pick(&[ms(0), ms(2), ms(20)]).unwrap_or(&ms(0)),
            effect_most: *dice.pick(&[ms(0), ms(5), ms(300)]).unwrap_or(&ms(0)),
            drift_ppm: *dice.pick(&[0, 500, i64::from(parameters.drift_ppm)]).unwrap_or(&0),
            write_interval: dice.between(ms(2), ms(20)),
            kinds,
        }
    }

    /// Bends the schedule towards what a planted bug needs, where the swarm would meet it rarely.
    pub(crate) fn direct(mut self, bug: Bug) -> Self {
        match bug {
            Bug::NoQuietTimeForNewVoter | Bug::GrantAcrossVoters | Bug::WrongVotersMajority => {
                self.voters = 3;
                self.kinds = vec![Kind::ReplaceVoter, Kind::CutOneWay, Kind::CutNode, Kind::Mend];
            }
            Bug::NoDriftMargin => {
                self.drift_ppm = i64::from(self.parameters.drift_ppm);
                self.kinds = vec![Kind::CutNode, Kind::CutOneWay, Kind::Mend];
                self.delay_most = Duration::from_micros(50);
                self.write_interval = Duration::from_micros(500);
            }
            _ => {}
        }
        self
    }
}
