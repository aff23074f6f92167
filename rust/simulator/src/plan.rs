//! What a schedule does to its cluster: which kinds of faults, how hard, and when.

use std::time::Duration;

use hashroute_coordination::LeaseParameters;

use crate::dice::Dice;

/// The make-up of one schedule. Each kind of fault is switched on or off by the seed ("swarm"):
/// a bug that needs one kind often hides behind the noise of another.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) voters: usize,
    pub(crate) members: usize,
    /// So many of the members' pods are in the first record; the others are new to the cluster.
    pub(crate) known: usize,
    pub(crate) slots: u64,
    pub(crate) groups: usize,
    pub(crate) parameters: LeaseParameters,
    /// Faults happen before this, and nothing but time passes after it.
    pub(crate) heal_at: Duration,
    /// From here on it is looked whether each resource is writable: the lease has ended of whoever
    /// the lasting fault has struck. Some schedules look late, to see more of the quiet cluster.
    pub(crate) look_at: Duration,
    /// By then every resource is writable again.
    pub(crate) end_at: Duration,
    /// What stays broken after the healing: one thing at most, so a quorum is whole.
    pub(crate) lasting: Option<Lasting>,
    /// The mean time between two faults.
    pub(crate) fault_interval: Duration,
    /// Which faults happen, in any order.
    pub(crate) kinds: Vec<Kind>,
    /// Which faults happen one after the other, again and again, instead: each so long after the
    /// one before.
    pub(crate) recipe: Vec<Step>,
    pub(crate) loss_per_mille: usize,
    pub(crate) duplicates_per_mille: usize,
    pub(crate) delay_most: Duration,
    /// A few messages take up to this long.
    pub(crate) straggler_most: Duration,
    pub(crate) stragglers_per_mille: usize,
    pub(crate) sync_most: Duration,
    /// Whether disks stay slow also when all is healed.
    pub(crate) slow_disks: bool,
    pub(crate) effect_most: Duration,
    pub(crate) timer_late_most: Duration,
    pub(crate) down_most: Duration,
    pub(crate) clocks: Clocks,
    pub(crate) write_interval: Duration,
    /// How often a client that writes learns the view first.
    pub(crate) refreshes_per_mille: usize,
    /// How often a write goes to a pod that does not own its resource.
    pub(crate) misrouted_per_mille: usize,
    /// How often a router sends a refused write again, by what the pod that refused it goes by.
    pub(crate) resends: u8,
}

/// How the clocks of a cluster run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clocks {
    /// All alike.
    True,
    /// Each fast, slow or true, by up to the bound.
    Any,
    /// Every member slow and every voter fast by the bound: the worst that is allowed.
    Worst,
}

/// One step of a recipe: the fault, and how long after the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    pub(crate) kind: Kind,
}

/// A kind of fault, or of change by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    CrashMember,
    CrashVoter,
    LoseDisk,
    PauseMember,
    PauseVoter,
    /// One process stops hearing another.
    CutOneWay,
    /// One process stops hearing everybody, and is not heard.
    CutNode,
    /// One process hears nobody, and is heard.
    Deafen,
    /// One process is heard by nobody, and hears.
    Mute,
    /// Two sides that do not hear each other.
    Split,
    Mend,
    Drain,
    Activate,
    Remove,
    Reweight,
    Lead,
    StepDown,
    ReplaceVoter,
    /// A voter is replaced by one that nobody can reach: the operator's slip.
    MisnameVoter,
    Renounce,
    /// Another process of a pod is started while the one before may still run.
    Twin,
}

/// What stays broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    MemberDead,
    MemberCut,
    MemberDeaf,
    MemberMute,
    VoterDead,
    VoterCut,
    VoterDeaf,
    OneLinkOneWay,
}

impl Lasting {
    pub(crate) fn is_of_a_voter(self) -> bool {
        match self {
            Self::MemberDead | Self::MemberCut | Self::MemberDeaf | Self::MemberMute => false,
            Self::VoterDead | Self::VoterCut | Self::VoterDeaf | Self::OneLinkOneWay => true,
        }
    }
}

const KINDS: [Kind; 20] = [
    Kind::CrashMember,
    Kind::CrashVoter,
    Kind::LoseDisk,
    Kind::PauseMember,
    Kind::PauseVoter,
    Kind::CutOneWay,
    Kind::CutNode,
    Kind::Deafen,
    Kind::Mute,
    Kind::Split,
    Kind::Drain,
    Kind::Activate,
    Kind::Remove,
    Kind::Reweight,
    Kind::Lead,
    Kind::StepDown,
    Kind::ReplaceVoter,
    Kind::MisnameVoter,
    Kind::Renounce,
    Kind::Twin,
];

/// One voter is a cluster for a workshop; five are for who is careful.
const VOTERS: [usize; 20] = [1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 5, 5, 5, 5];

/// Large clusters cost more than they show.
const MEMBERS: [usize; 16] = [2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 6, 8];

const LASTING: [Lasting; 8] = [
    Lasting::MemberDead,
    Lasting::MemberCut,
    Lasting::MemberDeaf,
    Lasting::MemberMute,
    Lasting::VoterDead,
    Lasting::VoterCut,
    Lasting::VoterDeaf,
    Lasting::OneLinkOneWay,
];

impl Plan {
    /// Leases for disks that take up to a third of them to sync.
    pub(crate) const PATIENT: LeaseParameters = LeaseParameters {
        ttl: Duration::from_millis(600),
        renewal_interval: Duration::from_millis(100),
        drift_ppm: 1_000,
        margin: Duration::from_millis(10),
    };

    /// The plan that the dice give.
    pub(crate) fn swarm(dice: &mut Dice) -> Self {
        let ms = Duration::from_millis;
        let heal_at = ms(300) + dice.between(ms(0), ms(1200));
        let voters = *dice.pick(&VOTERS).unwrap_or(&3);
        let kinds = Self::kinds(dice, voters);
        let members = *dice.pick(&MEMBERS).unwrap_or(&2);
        // Pods join one after the other, so a larger cluster takes longer to be whole again.
        let recovery = ms(1200) + ms(250) * u32::try_from(members).unwrap_or(8);
        let slow_disks = dice.per_mille(20);
        let recovery = if slow_disks { recovery * 4 } else { recovery };
        // Who lost a voter to a slip can spare no other.
        let one_voter_less = kinds.contains(&Kind::MisnameVoter);
        let lasting = dice.pick(&LASTING).copied().filter(|_| dice.per_mille(500));
        let sync_most = if slow_disks {
            ms(200)
        } else {
            *dice.pick(&[ms(0), ms(2), ms(20)]).unwrap_or(&ms(0))
        };
        let wide = LeaseParameters { drift_ppm: 20_000, ..LeaseParameters::TIGHT };
        let parameters = match (slow_disks, dice.per_mille(300)) {
            (true, _) => Self::PATIENT,
            (false, true) => wide,
            (false, false) => LeaseParameters::TIGHT,
        };
        let look_after = *dice.pick(&[200, 200, 200, 500]).unwrap_or(&500);
        let look_after = if slow_disks { ms(look_after) * 4 } else { ms(look_after) };
        Self {
            voters,
            members,
            known: 1 + dice.below(members),
            slots: *dice.pick(&[8, 8, 16]).unwrap_or(&8),
            groups: usize::from(dice.per_mille(500)),
            parameters,
            heal_at,
            look_at: heal_at + look_after,
            end_at: heal_at + recovery,
            lasting: lasting.filter(|it| !(one_voter_less && it.is_of_a_voter())),
            fault_interval: dice.between(ms(10), ms(300)),
            kinds,
            recipe: Vec::new(),
            loss_per_mille: *dice.pick(&[0, 0, 10, 100, 300]).unwrap_or(&0),
            duplicates_per_mille: *dice.pick(&[0, 0, 20, 200]).unwrap_or(&0),
            delay_most: *dice.pick(&[ms(1), ms(2), ms(10), ms(40)]).unwrap_or(&ms(1)),
            straggler_most: *dice.pick(&[ms(0), ms(100), ms(400)]).unwrap_or(&ms(0)),
            stragglers_per_mille: *dice.pick(&[30, 30, 200]).unwrap_or(&30),
            sync_most,
            slow_disks,
            effect_most: *dice.pick(&[ms(0), ms(5), ms(300)]).unwrap_or(&ms(0)),
            timer_late_most: Duration::from_micros(300),
            down_most: *dice.pick(&[ms(30), ms(400)]).unwrap_or(&ms(400)),
            clocks: *dice.pick(&[Clocks::True, Clocks::Any, Clocks::Worst]).unwrap_or(&Clocks::Any),
            write_interval: dice.between(ms(2), ms(20)),
            refreshes_per_mille: *dice.pick(&[300, 300, 20]).unwrap_or(&300),
            misrouted_per_mille: *dice.pick(&[0, 50]).unwrap_or(&0),
            resends: *dice.pick(&[0, 0, 3]).unwrap_or(&0),
        }
    }

    /// Which faults happen.
    fn kinds(dice: &mut Dice, voters: usize) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| dice.per_mille(270)).collect();
        let cuts = [Kind::CutOneWay, Kind::CutNode, Kind::Deafen, Kind::Mute, Kind::Split];
        if kinds.iter().any(|kind| cuts.contains(kind)) {
            kinds.push(Kind::Mend);
        }
        // A lost disk and a slip at once are more than a cluster can bear, and so is the only voter's.
        if voters == 1 || kinds.contains(&Kind::LoseDisk) {
            kinds.retain(|kind| *kind != Kind::MisnameVoter);
        }
        kinds
    }

    /// Nothing fails unless it is told to: for figures.
    pub(crate) fn quiet(parameters: LeaseParameters, members: usize) -> Self {
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        Self {
            voters: 3,
            members,
            known: members,
            slots: 16,
            groups: 0,
            parameters,
            heal_at: Duration::from_secs(3600),
            look_at: Duration::from_secs(3600),
            end_at: Duration::from_secs(3600),
            lasting: None,
            fault_interval: Duration::from_secs(3600),
            kinds: Vec::new(),
            recipe: Vec::new(),
            loss_per_mille: 0,
            duplicates_per_mille: 0,
            delay_most: ms(2),
            straggler_most: ms(0),
            stragglers_per_mille: 0,
            sync_most: ms(2),
            slow_disks: false,
            effect_most: us(200),
            timer_late_most: us(300),
            down_most: ms(400),
            clocks: Clocks::Any,
            write_interval: ms(5),
            refreshes_per_mille: 300,
            misrouted_per_mille: 0,
            resends: 0,
        }
    }
}
