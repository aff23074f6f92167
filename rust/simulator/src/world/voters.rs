//! Voters and their disks.

use std::collections::VecDeque;
use std::time::Duration;

use hashroute_coordination::{
    Ballot, Bug, FromVoter, Planted, Refusal, ToVoter, Voter, VoterAction, VoterId, VoterState,
    Writer,
};
use hashroute_core::{Epoch, PodId};

use super::event::Event;
use super::{Place, Role, World};

pub(super) struct VoterProcess {
    pub(super) id: VoterId,
    pub(super) running: Option<Voter>,
    /// What the disk holds; none before the cluster knows the voter.
    pub(super) disk: Option<VoterState>,
    /// Whether it had a disk and lost it: then it never comes back under its name.
    pub(super) lost: bool,
    /// States on their way to the disk, oldest first, and what waits behind each.
    syncing: VecDeque<Syncing>,
    /// How many of them are being written now, by one sync; the others wait for the next.
    in_sync: usize,
    /// What its clock read when it last handled something.
    read_at: Duration,
    /// The time that it was told with that.
    dated: Duration,
    /// Whether it started when the cluster was under way already.
    newcomer: bool,
}

struct Syncing {
    state: VoterState,
    then: Vec<VoterAction>,
}

impl VoterProcess {
    pub(super) fn new(id: VoterId, disk: Option<VoterState>) -> Self {
        Self {
            id,
            running: None,
            newcomer: disk.is_none(),
            disk,
            lost: false,
            syncing: VecDeque::new(),
            in_sync: 0,
            read_at: Duration::ZERO,
            dated: Duration::ZERO,
        }
    }
}

impl World {
    pub(super) fn start_voter(&mut self, place: Place) {
        let process = &mut self.processes[place];
        let now = process.clock.local(self.now);
        let Role::Voter(voter) = &mut process.role else { return };
        if voter.running.is_some() {
            return;
        }
        let Some(mut disk) = voter.disk.clone() else { return };
        // The start of a newcomer's first process is what the rule for new voters is about.
        let hasty = voter.newcomer && self.planted.has(Bug::NoQuietTimeForNewVoter);
        let planted = if hasty { Planted(Some(Bug::NoQuietTime)) } else { self.planted };
        voter.newcomer = false;
        if self.planted.has(Bug::VoteForgotten) {
            disk = VoterState::first(disk.id, disk.installed);
        }
        self.observed.voter_starts(&disk);
        voter.running = Some(Voter::with_planted(disk, now, planted));
        voter.read_at = now;
        process.boot += 1;
        process.alarm = None;
    }

    /// Of the writes to the disk that were under way, the first few are durable and the others are
    /// not. One that was cut short is as if it had never begun: states carry a checksum, and the
    /// one before is kept until the next is whole.
    pub(super) fn crash_voter(&mut self, place: Place) {
        let Role::Voter(voter) = &mut self.processes[place].role else { return };
        voter.running = None;
        let survive = self.dice.below(voter.in_sync + 1);
        voter.in_sync = 0;
        for (index, Syncing { state, .. }) in voter.syncing.drain(..).enumerate() {
            if index < survive {
                self.observed.durable(&state);
                voter.disk = Some(state);
            } else if self.planted.has(Bug::TornStateRead)
                && let Some(disk) = voter.disk.as_mut().filter(|_| index == survive)
                && disk.installed == state.installed
            {
                (disk.promised, disk.accepted, disk.tentative) = (state.promised, None, None);
            }
        }
    }

    pub(super) fn with_voter(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Voter, Duration) -> Vec<VoterAction>,
    ) {
        let now = self.processes[place].clock.local(self.now);
        let Role::Voter(process) = &mut self.processes[place].role else { return };
        let Some(voter) = &mut process.running else { return };
        let read_before = std::mem::replace(&mut process.read_at, now);
        process.dated = if self.planted.has(Bug::ClockReadEarly) { read_before } else { now };
        let actions = act(voter, process.dated);
        self.carry_out_voter(place, actions);
        self.schedule_wake(place);
    }

    pub(super) fn voter_hears(&mut self, place: Place, from: PodId, message: ToVoter) {
        let Role::Voter(process) = &mut self.processes[place].role else { return };
        if process.disk.is_none() && !process.lost {
            // A new voter learns its first record from the first install that names it.
            let (id, ToVoter::Install { record }) = (process.id, &message) else {
                return self.ask_for_record(place, &from, message);
            };
            if record.has_voter(id) {
                let installed = record.clone();
                process.disk = Some(VoterState::first(id, installed));
                self.start(place);
            }
            return;
        }
        let released = released_in(&message).to_vec();
        let mut voted = None;
        self.with_voter(place, |voter, now| {
            let actions = voter.handle(now, from, message);
            let votes = actions.iter().any(|action| vote_in(action).is_some());
            voted = votes.then(|| voter.state().clone());
            actions
        });
        if let Some(state) = voted {
            self.observed.votes(self.now, &state, &released);
        }
    }

    /// A voter that knows nothing tells who asks it to send what there is to know.
    fn ask_for_record(&mut self, place: Place, to: &PodId, message: ToVoter) {
        let (ToVoter::Renew { writer, sequence, .. } | ToVoter::Probe { writer, sequence, .. }) =
            message
        else {
            return;
        };
        let message = FromVoter::Refused { writer, sequence, refusal: Refusal::Ahead };
        self.voter_says(place, to, message);
    }

    /// What comes after a state to be made durable waits until it is.
    fn carry_out_voter(&mut self, place: Place, actions: Vec<VoterAction>) {
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            match action {
                VoterAction::Persist(state) => {
                    let hasty = self.planted.has(Bug::VoteBeforeDisk);
                    let then = if hasty { Vec::new() } else { actions.by_ref().collect() };
                    let Role::Voter(process) = &mut self.processes[place].role else { return };
                    process.syncing.push_back(Syncing { state: *state, then });
                    self.sync(place);
                }
                VoterAction::AwaitDisk => {
                    let hasty = self.planted.has(Bug::VoteBeforeDisk);
                    let Role::Voter(process) = &mut self.processes[place].role else { return };
                    let waiting = process.syncing.back_mut().filter(|_| !hasty);
                    if let Some(Syncing { then, .. }) = waiting {
                        then.extend(actions.by_ref());
                    }
                }
                VoterAction::Send { to, message } => {
                    self.observe_grant(place, &message);
                    self.observe_vote(place, &message);
                    self.voter_says(place, &to, message);
                }
            }
        }
    }

    fn observe_grant(&mut self, place: Place, message: &FromVoter) {
        let FromVoter::Renewed { writer, .. } = message else { return };
        let process = &self.processes[place];
        let Role::Voter(voter) = &process.role else { return };
        let Some(running) = &voter.running else { return };
        let until = process.clock.when(voter.dated + self.plan.parameters.ttl);
        self.observed.granted(running.state(), writer, until);
    }

    fn observe_vote(&mut self, place: Place, message: &FromVoter) {
        let FromVoter::Accepted { ballot, .. } = message else { return };
        let Role::Voter(voter) = &self.processes[place].role else { return };
        if let (Some(running), Some(disk)) = (&voter.running, &voter.disk) {
            self.observed.accepted(*ballot, running.state(), disk);
        }
    }

    /// Begins to make durable what waits for it, unless the disk is at work: one sync takes all
    /// that has come together meanwhile.
    fn sync(&mut self, place: Place) {
        let boot = self.processes[place].boot;
        let Role::Voter(process) = &mut self.processes[place].role else { return };
        if process.in_sync > 0 || process.syncing.is_empty() {
            return;
        }
        process.in_sync = process.syncing.len();
        let delay = self.dice.between(Duration::ZERO, self.plan.sync_most);
        self.push(delay, Event::Synced { place, boot });
    }

    pub(super) fn synced(&mut self, place: Place, boot: u32) {
        if self.processes[place].boot != boot {
            return;
        }
        let Role::Voter(process) = &mut self.processes[place].role else { return };
        let in_sync = std::mem::take(&mut process.in_sync);
        let written: Vec<Syncing> = process.syncing.drain(..in_sync).collect();
        for Syncing { state, then } in written {
            self.observed.durable(&state);
            if let Role::Voter(process) = &mut self.processes[place].role {
                process.disk = Some(state);
            }
            self.carry_out_voter(place, then);
        }
        self.sync(place);
    }

    /// The disk is gone for good: the voter never comes back under its name, unless planted.
    pub(super) fn lose_disk(&mut self, place: Place) {
        self.crash(place);
        let installed = self.observed.genesis().clone();
        let forgets = self.planted.has(Bug::LostDiskVotes);
        let Role::Voter(voter) = &mut self.processes[place].role else { return };
        let blank = VoterState::first(voter.id, installed);
        voter.disk = forgets.then_some(blank);
        voter.lost = !forgets;
        if forgets {
            self.push(Duration::from_millis(1), Event::Restart { place });
        } else {
            self.replace(place);
        }
    }

    /// Whether the last two records have majorities with disks without this voter's. The one
    /// before the latest may still have to tell what was decided.
    pub(super) fn can_spare(&self, place: Place) -> bool {
        let has_disk = |other: &Place| match &self.processes[*other].role {
            Role::Voter(voter) => *other != place && voter.disk.is_some(),
            Role::Member(_) => false,
        };
        self.observed.last_two().all(|record| {
            let voters = record.voters().iter().filter_map(|entry| self.place_of_voter(entry.id));
            voters.filter(has_disk).count() >= record.majority()
        })
    }

    /// Any voter that the cluster knows, or knew.
    pub(super) fn any_voter(&mut self) -> Place {
        let known = |place: &Place| match &self.processes[*place].role {
            Role::Voter(voter) => voter.disk.is_some(),
            Role::Member(_) => false,
        };
        let voters: Vec<Place> = (0..self.processes.len()).filter(known).collect();
        *self.dice.pick(&voters).unwrap_or(&0)
    }

    /// A voter that is none of the latest record, and has its disk.
    pub(super) fn any_spare_voter(&mut self) -> Option<VoterId> {
        let latest = self.observed.latest();
        let spare = |process: &super::Process| match &process.role {
            Role::Voter(voter) if voter.disk.is_some() && !latest.has_voter(voter.id) => {
                Some(voter.id)
            }
            Role::Voter(_) | Role::Member(_) => None,
        };
        let spares: Vec<VoterId> = self.processes.iter().filter_map(spare).collect();
        self.dice.pick(&spares).copied()
    }

    pub(super) fn describe_voter(voter: &VoterProcess) -> String {
        let name = voter.id.0;
        let Some(running) = &voter.running else {
            return format!("voter-{name}: not running");
        };
        let VoterState { installed, promised, accepted, tentative, .. } = running.state();
        let epoch: Epoch = installed.epoch();
        format!(
            "voter-{name}: epoch {epoch}, promised {promised:?}, accepted {accepted:?}, tentative \
             {tentative:?}"
        )
    }
}

/// The writers whose releases the message counts on.
pub(crate) fn released_in(message: &ToVoter) -> &[Writer] {
    match message {
        ToVoter::Accept { released, .. } => released,
        ToVoter::Renew { .. }
        | ToVoter::Probe { .. }
        | ToVoter::Renounce { .. }
        | ToVoter::Prepare { .. }
        | ToVoter::Install { .. } => &[],
    }
}

/// The ballot, if this is to say that a voter votes.
pub(crate) fn vote_in(action: &VoterAction) -> Option<Ballot> {
    match action {
        VoterAction::Send { message: FromVoter::Accepted { ballot, .. }, .. } => Some(*ballot),
        VoterAction::Send { .. } | VoterAction::Persist(_) | VoterAction::AwaitDisk => None,
    }
}
