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
    pub(crate) effect_most: Duration,
    pub(crate) timer_late_most: Duration,
    pub(crate) down_most: Duration,
    pub(crate) clocks: Clocks,
    pub(crate) write_interval: Duration,
    /// How often a client that writes learns the view first.
    pub(crate) refreshes_per_mille: usize,
    /// How often a write goes to a pod that does not own its resource.
    pub(crate) misrouted_per_mille: usize,
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
    /// Two sides that do not hear each other.
    Split,
    Mend,
    Drain,
    Reweight,
    Lead,
    ReplaceVoter,
    Renounce,
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

const KINDS: [Kind; 14] = [
    Kind::CrashMember,
    Kind::CrashVoter,
    Kind::LoseDisk,
    Kind::PauseMember,
    Kind::PauseVoter,
    Kind::CutOneWay,
    Kind::CutNode,
    Kind::Deafen,
    Kind::Split,
    Kind::Drain,
    Kind::Reweight,
    Kind::Lead,
    Kind::ReplaceVoter,
    Kind::Renounce,
];

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
    /// The plan that the dice give.
    pub(crate) fn swarm(dice: &mut Dice) -> Self {
        let ms = Duration::from_millis;
        let heal_at = ms(300) + dice.between(ms(0), ms(1200));
        let mut kinds: Vec<Kind> = KINDS.into_iter().filter(|_| dice.per_mille(350)).collect();
        let cuts = [Kind::CutOneWay, Kind::CutNode, Kind::Deafen, Kind::Split];
        if kinds.iter().any(|kind| cuts.contains(kind)) {
            kinds.push(Kind::Mend);
        }
        let members = *dice.pick(&MEMBERS).unwrap_or(&2);
        // Pods join one after the other, so a larger cluster takes longer to be whole again.
        let recovery = ms(1200) + ms(250) * u32::try_from(members).unwrap_or(8);
        let wide = LeaseParameters { drift_ppm: 20_000, ..LeaseParameters::TIGHT };
        Self {
            voters: if dice.per_mille(800) { 3 } else { 5 },
            members,
            slots: *dice.pick(&[8, 8, 16]).unwrap_or(&8),
            groups: usize::from(dice.per_mille(500)),
            parameters: if dice.per_mille(300) { wide } else { LeaseParameters::TIGHT },
            heal_at,
            look_at: heal_at
                + *dice.pick(&[ms(200), ms(200), ms(200), ms(500)]).unwrap_or(&ms(500)),
            end_at: heal_at + recovery,
            lasting: dice.pick(&LASTING).copied().filter(|_| dice.per_mille(500)),
            fault_interval: dice.between(ms(10), ms(300)),
            kinds,
            recipe: Vec::new(),
            loss_per_mille: *dice.pick(&[0, 0, 10, 100, 300]).unwrap_or(&0),
            duplicates_per_mille: *dice.pick(&[0, 0, 20, 200]).unwrap_or(&0),
            delay_most: *dice.pick(&[ms(1), ms(2), ms(10), ms(40)]).unwrap_or(&ms(1)),
            straggler_most: *dice.pick(&[ms(0), ms(100), ms(400)]).unwrap_or(&ms(0)),
            stragglers_per_mille: *dice.pick(&[30, 30, 200]).unwrap_or(&30),
            sync_most: *dice.pick(&[ms(0), ms(2), ms(20)]).unwrap_or(&ms(0)),
            effect_most: *dice.pick(&[ms(0), ms(5), ms(300)]).unwrap_or(&ms(0)),
            timer_late_most: Duration::from_micros(300),
            down_most: *dice.pick(&[ms(30), ms(400)]).unwrap_or(&ms(400)),
            clocks: *dice.pick(&[Clocks::True, Clocks::Any, Clocks::Worst]).unwrap_or(&Clocks::Any),
            write_interval: dice.between(ms(2), ms(20)),
            refreshes_per_mille: *dice.pick(&[300, 300, 20]).unwrap_or(&300),
            misrouted_per_mille: *dice.pick(&[0, 50]).unwrap_or(&0),
        }
    }

    /// Nothing fails unless it is told to: for figures.
    pub(crate) fn quiet(parameters: LeaseParameters, members: usize) -> Self {
        let (ms, us) = (Duration::from_millis, Duration::from_micros);
        Self {
            voters: 3,
            members,
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
            effect_most: us(200),
            timer_late_most: us(300),
            down_most: ms(400),
            clocks: Clocks::Any,
            write_interval: ms(5),
            refreshes_per_mille: 300,
            misrouted_per_mille: 0,
        }
    }
}
