//! What a schedule does to a cluster whose record lies in etcd: which kinds of faults, how hard, and
//! when.

use std::time::Duration;

use hashroute_coordination::{Bug, LeaseParameters};

use crate::dice::Dice;
use crate::plan::Clocks;

/// The make-up of one schedule: each kind of fault is switched on or off by the seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(super) members: usize,
    /// So many processes vote on leases; none if members keep theirs by beats in etcd.
    pub(super) voters: usize,
    /// So many of the members' pods are in the first record; the others are new to the cluster.
    pub(super) known: usize,
    pub(super) slots: u64,
    pub(super) groups: usize,
    pub(super) parameters: LeaseParameters,
    /// Faults happen before this, and nothing but time passes after it.
    pub(crate) heal_at: Duration,
    /// From here on it is looked whether each resource is writable.
    pub(super) look_at: Duration,
    /// By then every resource is writable again.
    pub(super) end_at: Duration,
    /// What stays broken after the healing: one thing at most.
    pub(super) lasting: Option<Lasting>,
    /// The mean time between two faults.
    pub(super) fault_interval: Duration,
    pub(super) kinds: Vec<Kind>,
    /// So many transactions, reads and answers in a thousand are lost.
    pub(super) loss_per_mille: usize,
    /// So many in a thousand of the transactions that may be are put twice.
    pub(super) copies_per_mille: usize,
    pub(super) delay_most: Duration,
    /// A few take up to this long.
    pub(super) straggler_most: Duration,
    pub(super) stragglers_per_mille: usize,
    /// How long a process takes to send what it was asked to send.
    pub(super) leave_most: Duration,
    /// How far behind a watch is.
    pub(super) lag_most: Duration,
    /// The longest time for which etcd has no leader.
    pub(super) stop_most: Duration,
    pub(super) effect_most: Duration,
    pub(super) timer_late_most: Duration,
    pub(super) down_most: Duration,
    pub(super) clocks: Clocks,
    pub(super) write_interval: Duration,
    pub(super) refreshes_per_mille: usize,
    pub(super) misrouted_per_mille: usize,
    pub(super) resends: u8,
}

/// A kind of fault, or of change by the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    CrashMember,
    PauseMember,
    /// etcd does not hear a member, which hears it.
    Mute,
    /// A member does not hear etcd, which hears it.
    Deafen,
    /// Neither hears the other.
    Cut,
    /// The other processes do not hear this one.
    Unhear,
    /// It does not hear the others.
    DeafenToOthers,
    /// It is cut from etcd and from the others.
    Isolate,
    Mend,
    /// etcd looks for another leader: nothing is committed meanwhile, and what is asked for waits,
    /// or is refused, or is said to be unknown and is done later.
    StopEtcd,
    /// A member's watch tells nothing any more, without an error: its etcd was left behind.
    StickWatch,
    /// A member's watch ends with an error.
    BreakWatch,
    /// etcd forgets its past.
    Compact,
    Drain,
    Activate,
    Remove,
    Reweight,
    Lead,
    StepDown,
    AddGroup,
    ReplaceVoter,
    /// A process comes back with an empty directory: its voter has another name.
    LoseDisk,
    Renounce,
    /// Another process of a pod is started while the one before may still run.
    Twin,
}

/// What stays broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasting {
    MemberDead,
    MemberCut,
    MemberDeaf,
    MemberMute,
    /// One member's watches never tell anything.
    WatchStuck,
    /// One member is cut from etcd and from the other processes.
    Isolated,
    /// The others do not hear one member.
    Unheard,
    /// One member does not hear the others.
    DeafToOthers,
}

const KINDS: [Kind; 18] = [
    Kind::CrashMember,
    Kind::PauseMember,
    Kind::Mute,
    Kind::Deafen,
    Kind::Cut,
    Kind::StopEtcd,
    Kind::StickWatch,
    Kind::BreakWatch,
    Kind::Compact,
    Kind::Drain,
    Kind::Activate,
    Kind::Remove,
    Kind::Reweight,
    Kind::Lead,
    Kind::StepDown,
    Kind::AddGroup,
    Kind::Renounce,
    Kind::Twin,
];

/// Beside those, where processes vote.
const KINDS_OF_VOTERS: [Kind; 5] =
    [Kind::Unhear, Kind::DeafenToOthers, Kind::Isolate, Kind::ReplaceVoter, Kind::LoseDisk];

/// Leases by beats, by three voters, by five.
const VOTERS: [usize; 10] = [0, 0, 0, 0, 0, 3, 3, 3, 3, 5];

/// Large clusters cost more than they show.
const MEMBERS: [usize; 10] = [2, 2, 2, 2, 3, 3, 3, 4, 5, 6];

const LASTING: [Lasting; 5] = [
    Lasting::MemberDead,
    Lasting::MemberCut,
    Lasting::MemberDeaf,
    Lasting::MemberMute,
    Lasting::WatchStuck,
];

/// Beside those, where processes vote.
const LASTING_OF_VOTERS: [Lasting; 3] =
    [Lasting::Isolated, Lasting::Unheard, Lasting::DeafToOthers];

impl Plan {
    /// The plan that the dice give.
    pub(crate) fn swarm(dice: &mut Dice) -> Self {
        let ms = Duration::from_millis;
        let heal_at = ms(300) + dice.between(ms(0), ms(1800));
        let voters = *dice.pick(&VOTERS).unwrap_or(&0);
        let kinds = Self::kinds(dice, voters);
        let members = *dice.pick(&MEMBERS).unwrap_or(&2);
        let wide = LeaseParameters { drift_ppm: 20_000, ..LeaseParameters::TIGHT };
        let parameters = if dice.per_mille(300) { wide } else { LeaseParameters::TIGHT };
        let look_after = ms(*dice.pick(&[200, 200, 200, 500]).unwrap_or(&500));
        // A watch that is silent is found out after a second, and pods join one after the other.
        let recovery = ms(2500) + ms(250) * u32::try_from(members).unwrap_or(8);
        let mut lasting = LASTING.to_vec();
        lasting.extend(LASTING_OF_VOTERS.iter().filter(|_| voters > 0));
        Self {
            members,
            voters,
            known: 1 + dice.below(members),
            slots: *dice.pick(&[8, 8, 16]).unwrap_or(&8),
            groups: usize::from(dice.per_mille(500)),
            parameters,
            heal_at,
            look_at: heal_at + look_after,
            end_at: heal_at + recovery,
            lasting: dice.pick(&lasting).copied().filter(|_| dice.per_mille(500)),
            fault_interval: dice.between(ms(10), ms(300)),
            kinds,
            loss_per_mille: *dice.pick(&[0, 0, 10, 50, 200]).unwrap_or(&0),
            copies_per_mille: *dice.pick(&[0, 20, 300]).unwrap_or(&0),
            delay_most: *dice.pick(&[ms(1), ms(2), ms(10), ms(40)]).unwrap_or(&ms(1)),
            straggler_most: *dice.pick(&[ms(0), ms(100), ms(800)]).unwrap_or(&ms(0)),
            stragglers_per_mille: *dice.pick(&[30, 30, 200]).unwrap_or(&30),
            leave_most: *dice.pick(&[ms(0), ms(0), ms(1), ms(30)]).unwrap_or(&ms(0)),
            lag_most: *dice.pick(&[ms(0), ms(5), ms(100), ms(800)]).unwrap_or(&ms(0)),
            stop_most: *dice.pick(&[ms(100), ms(600), ms(1500)]).unwrap_or(&ms(600)),
            effect_most: *dice.pick(&[ms(0), ms(5), ms(300), ms(900)]).unwrap_or(&ms(0)),
            timer_late_most: Duration::from_micros(300),
            down_most: *dice.pick(&[ms(30), ms(400)]).unwrap_or(&ms(400)),
            clocks: *dice.pick(&[Clocks::True, Clocks::Any, Clocks::Worst]).unwrap_or(&Clocks::Any),
            write_interval: dice.between(ms(2), ms(20)),
            refreshes_per_mille: *dice.pick(&[300, 300, 20]).unwrap_or(&300),
            misrouted_per_mille: *dice.pick(&[0, 50]).unwrap_or(&0),
            resends: *dice.pick(&[0, 0, 3]).unwrap_or(&0),
        }
    }

    /// How many processes there are beside twins. Where processes vote there is one more than is
    /// needed, to take the place of another: witnesses make up for pods that are too few.
    pub(super) fn own(&self) -> usize {
        if self.voters == 0 { self.members } else { self.members.max(self.voters + 1) }
    }

    /// How long a member may write after it sent a beat; and how long nobody may take one for old
    /// after it was committed, by the fastest clock that is allowed.
    pub(super) fn lease_times(&self) -> (Duration, Duration) {
        let (window, quiet) = (self.parameters.holder_window(), self.parameters.quiet_time());
        let fastest = 1_000_000 + u64::from(self.parameters.drift_ppm);
        let nanos = u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX);
        (window, Duration::from_nanos(nanos.saturating_mul(1_000_000) / fastest))
    }

    /// Bends the plan towards the faults that `bug` needs to do harm, where the swarm would meet
    /// them rarely: each needs voters, and one that does not hear what others have decided.
    pub(crate) fn direct(&mut self, bug: Bug) {
        let ms = Duration::from_millis;
        self.kinds = if bug == Bug::IntentUnread {
            self.down_most = ms(5);
            let crash = Kind::CrashMember;
            vec![crash, crash, Kind::Reweight, Kind::Cut, Kind::Unhear, Kind::StopEtcd, Kind::Mend]
        } else if matches!(bug, Bug::NoQuietTimeForNewVoter | Bug::VotersUnasked) {
            let (change, cut) = (Kind::ReplaceVoter, Kind::Cut);
            vec![change, Kind::Reweight, cut, cut, Kind::Unhear, Kind::Isolate, Kind::Mend]
        } else {
            return;
        };
        self.fault_interval = ms(40);
        (self.voters, self.members, self.known) = (3, 3, 3);
        (self.delay_most, self.straggler_most) = (ms(2), ms(0));
    }

    /// Which faults happen.
    fn kinds(dice: &mut Dice, voters: usize) -> Vec<Kind> {
        let of_voters = KINDS_OF_VOTERS.into_iter().filter(|_| voters > 0);
        let kinds = KINDS.into_iter().chain(of_voters).filter(|_| dice.per_mille(300));
        let mut kinds: Vec<Kind> = kinds.collect();
        let cuts = [
            Kind::Mute,
            Kind::Deafen,
            Kind::Cut,
            Kind::Unhear,
            Kind::DeafenToOthers,
            Kind::Isolate,
        ];
        if kinds.iter().any(|kind| cuts.contains(kind)) {
            kinds.push(Kind::Mend);
        }
        kinds
    }
}
