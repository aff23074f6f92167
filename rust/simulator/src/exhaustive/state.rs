//! The state of a small cluster, and what an event makes of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{
    Bug, Change, ClusterId, FromVoter, Incarnation, LeaseParameters, Member, MemberAction, Planted,
    Record, Refusal, ToPeer, ToVoter, Voter, VoterAction, VoterEntry, VoterId, VoterState,
    WriteTag, Writer,
};
use hashroute_core::{Epoch, Parameters, Pod, PodId, View};

use super::letter::{Letter, Words};
use super::moves::Move;
use super::process::{Life, Machine, Place, Process};
use super::{Bounds, Request};
use crate::invariants::{Observed, Violation};
use crate::number::number;
use crate::world::{released_in, vote_in};

/// A cluster at one instant.
#[derive(Clone)]
pub(super) struct State {
    pub(super) now: Duration,
    pub(super) processes: Vec<Process>,
    /// In no order.
    pub(super) letters: Vec<Arc<Letter>>,
    pub(super) faults: u8,
    /// Whether the operator has not asked for anything yet.
    pub(super) may_ask: bool,
    pub(super) bounds: Arc<Bounds>,
    /// When the search began.
    origin: Duration,
    /// When the first thing happened that does not happen by itself: a fault, or a request.
    struck_at: Option<Duration>,
    /// So many processes of pods were started.
    incarnations: u64,
    observed: Arc<Observed>,
}

/// Voters that vote at first, and one more that may take the place of another.
pub(super) const VOTERS: usize = 3;
const SEATS: usize = VOTERS + 1;
const PODS: usize = 2;

impl State {
    /// Both pods have joined and hold leases.
    pub(super) fn start(bounds: &Bounds) -> Result<Self, Violation> {
        let mut state = Self::empty(bounds);
        let is_settled = |state: &Self| {
            let mut members = state.members();
            let settled = |member: &Member| {
                member.record().writers().len() == PODS
                    && member.lease().is_fresh()
                    && member.lease().is_valid(state.now)
            };
            members.all(settled) && state.is_quiet()
        };
        while !is_settled(&state) {
            let moves = state.moves();
            let Some(step) = moves.first() else { unreachable!("both pods join in any case") };
            state.make(step)?;
        }
        state.origin = state.now;
        state.faults = bounds.faults;
        state.may_ask = bounds.request != Request::Nothing;
        Ok(state)
    }

    /// Processes that have just started; nothing goes wrong yet.
    fn empty(bounds: &Bounds) -> Self {
        let genesis = genesis();
        let planted = Planted(bounds.bug);
        let voters = (0..VOTERS).map(|index| {
            let id = VoterId(index as u128);
            let state = VoterState::first(id, genesis.clone());
            Machine::Voter(Arc::new(Voter::with_planted(state, Duration::ZERO, planted)))
        });
        let newcomer = Machine::Newcomer(VoterId(VOTERS as u128));
        let members = (0..PODS).map(|index| {
            let incarnation = Incarnation(index as u64 + 1);
            let member =
                Member::new(pod(index), incarnation, genesis.clone(), Duration::ZERO, planted);
            Machine::Member(Arc::new(member))
        });
        Self {
            now: Duration::ZERO,
            processes: voters.chain([newcomer]).chain(members).map(Process::new).collect(),
            letters: Vec::new(),
            faults: 0,
            may_ask: false,
            bounds: Arc::new(*bounds),
            origin: Duration::ZERO,
            struck_at: None,
            incarnations: PODS as u64,
            observed: Arc::new(Observed::new(genesis, bounds.bug, false)),
        }
    }

    pub(super) fn origin(&self) -> Duration {
        self.origin
    }

    /// Whether it may become so late. As long as nothing has happened, all that is different after
    /// one interval is the time.
    pub(super) fn is_within(&self, time: Duration) -> bool {
        let last = match self.struck_at {
            Some(struck_at) => struck_at + self.bounds.horizon,
            None => self.origin + PARAMETERS.renewal_interval,
        };
        self.origin.is_zero() || time <= last
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.processes.iter().filter_map(|process| match &process.machine {
            Machine::Member(member) => Some(&**member),
            Machine::Newcomer(_) | Machine::Voter(_) => None,
        })
    }

    /// A number that differs between two states that differ, as good as certainly.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut letters: Vec<u64> = self.letters.iter().map(|letter| letter.number).collect();
        letters.sort_unstable();
        let processes: Vec<u64> = self.processes.iter().map(Process::fingerprint).collect();
        let rest = (self.now, self.faults, self.may_ask, self.struck_at, self.incarnations);
        number(&(letters, processes, rest, self.observed.fingerprint()))
    }

    /// Lets one event happen; says what it broke.
    pub(super) fn make(&mut self, step: &Move) -> Result<(), Violation> {
        match step {
            Move::Deliver(letter) => self.deliver(letter, Answer::Arrives),
            Move::LoseAnswer(letter) => self.deliver(letter, Answer::IsLost),
            Move::DelayAnswer(letter) => self.deliver(letter, Answer::IsLate),
            Move::Tick(place) => self.tick(*place),
            Move::Pass(until) => self.now = *until,
            Move::Ask => self.ask(),
            Move::Lose(letter) => self.take(letter),
            Move::Delay(letter) => {
                self.take(letter);
                self.letters.push(Arc::new(letter.late()));
            }
            Move::Repeat(letter) => self.letters.push(Arc::new(letter.late())),
            Move::Crash(place) => self.crash(*place),
            Move::Pause(place) => self.processes[*place].life = Life::Paused,
            Move::Mute(place) => self.processes[*place].is_mute = true,
            Move::Deafen(place) => self.processes[*place].is_deaf = true,
            Move::Restart(place) => self.restart(*place),
            Move::Resume(place) => self.processes[*place].life = Life::Running,
            Move::Mend(place) => {
                let process = &mut self.processes[*place];
                (process.is_mute, process.is_deaf) = (false, false);
            }
        }
        if step.is_fault() || matches!(step, Move::Ask) {
            self.faults -= u8::from(step.is_fault());
            self.struck_at = self.struck_at.or(Some(self.now));
        }
        self.probe();
        let now = self.now;
        let observed = Arc::make_mut(&mut self.observed);
        observed.check(now)?;
        observed.forget(now);
        Ok(())
    }

    fn take(&mut self, letter: &Letter) {
        let place = self.letters.iter().position(|it| it.number == letter.number);
        place.map(|place| self.letters.swap_remove(place));
    }

    /// A message arrives. What a voter answers arrives right after, unless a fault strikes it.
    fn deliver(&mut self, letter: &Letter, answer: Answer) {
        self.take(letter);
        if self.processes[letter.to].life == Life::Down {
            return;
        }
        match &letter.words {
            Words::ToVoter(from, message) => {
                let others = std::mem::take(&mut self.letters);
                self.voter_hears(letter.to, from, message);
                let said = std::mem::replace(&mut self.letters, others);
                for letter in said {
                    match answer {
                        Answer::Arrives if self.hears(letter.to) => self.member_hears(&letter),
                        Answer::Arrives => self.letters.push(letter),
                        Answer::IsLost => {}
                        Answer::IsLate => self.letters.push(Arc::new(letter.late())),
                    }
                }
            }
            Words::FromVoter(..) | Words::ToPeer(..) => self.member_hears(letter),
        }
    }

    fn member_hears(&mut self, letter: &Letter) {
        match letter.words.clone() {
            Words::ToVoter(..) => {}
            Words::FromVoter(by, message) => {
                self.with_member(letter.to, |member, now, dice| {
                    member.handle_voter(now, by, message, dice)
                });
            }
            Words::ToPeer(from, message) => {
                self.with_member(letter.to, |member, now, dice| {
                    member.handle_peer(now, &from, message, dice)
                });
            }
        }
    }

    fn tick(&mut self, place: Place) {
        match &self.processes[place].machine {
            Machine::Newcomer(_) => {}
            Machine::Voter(_) => self.with_voter(place, &[], Voter::tick),
            Machine::Member(_) => {
                self.with_member(place, |member, now, dice| member.tick(now, dice));
            }
        }
    }

    fn ask(&mut self) {
        self.may_ask = false;
        let change = match self.bounds.request {
            Request::Nothing => return,
            Request::Drain => Change::Drain(pod(0).id),
            Request::ReplaceVoter => Change::ReplaceVoter { old: VoterId(0), new: entry(VOTERS) },
        };
        // The pod that loses nothing is asked.
        self.with_member(SEATS + 1, |member, _, _| {
            let _ = member.wish(change);
            Vec::new()
        });
    }

    fn crash(&mut self, place: Place) {
        let process = &mut self.processes[place];
        (process.life, process.is_mute, process.is_deaf) = (Life::Down, false, false);
        process.changed();
        self.letters.retain(|letter| letter.to != place || letter.is_late);
    }

    fn restart(&mut self, place: Place) {
        let (now, planted) = (self.now, Planted(self.bounds.bug));
        let machine = match &self.processes[place].machine {
            Machine::Newcomer(id) => Machine::Newcomer(*id),
            Machine::Voter(voter) => {
                let mut disk = voter.state().clone();
                if planted.has(Bug::VoteForgotten) {
                    disk = VoterState::first(disk.id, disk.installed);
                }
                Arc::make_mut(&mut self.observed).voter_starts(&disk);
                Machine::Voter(Arc::new(Voter::with_planted(disk, now, planted)))
            }
            Machine::Member(member) => {
                self.incarnations += 1;
                let incarnation = if planted.has(Bug::IncarnationReused) {
                    member.writer().incarnation
                } else {
                    Incarnation(self.incarnations)
                };
                let pod = Pod::new(member.writer().pod.clone());
                let known = member.record().clone();
                Machine::Member(Arc::new(Member::new(pod, incarnation, known, now, planted)))
            }
        };
        self.processes[place] = Process::new(machine);
    }

    fn with_voter(
        &mut self,
        place: Place,
        released: &[Writer],
        act: impl FnOnce(&mut Voter, Duration) -> Vec<VoterAction>,
    ) {
        let now = self.now;
        let Machine::Voter(voter) = &mut self.processes[place].machine else { return };
        let actions = act(Arc::make_mut(voter), now);
        let state = voter.state().clone();
        self.processes[place].changed();
        let observed = Arc::make_mut(&mut self.observed);
        let mut sent = Vec::new();
        for action in actions {
            if let Some(ballot) = vote_in(&action) {
                observed.votes(now, &state, released);
                observed.accepted(ballot, &state, &state);
            }
            match action {
                VoterAction::Persist(state) => observed.durable(&state),
                // Here disks take no time.
                VoterAction::AwaitDisk => {}
                VoterAction::Send { to, message } => {
                    if let FromVoter::Renewed { writer, .. } = &message {
                        let until = now + PARAMETERS.ttl;
                        observed.granted(&state, writer, until);
                    }
                    sent.push((to, Words::FromVoter(state.id, message)));
                }
            }
        }
        for (to, words) in sent {
            self.send(place, place_of_pod(&to), words);
        }
    }

    fn voter_hears(&mut self, place: Place, from: &PodId, message: &ToVoter) {
        if let Machine::Newcomer(id) = self.processes[place].machine {
            return self.newcomer_hears(place, id, from, message);
        }
        let (from, heard) = (from.clone(), message.clone());
        self.with_voter(place, released_in(message), |voter, now| voter.handle(now, from, heard));
    }

    /// A voter that nobody knew learns its first record from the first install that names it.
    fn newcomer_hears(&mut self, place: Place, id: VoterId, from: &PodId, message: &ToVoter) {
        match message {
            ToVoter::Install { record } if record.has_voter(id) => {
                let installed = record.clone();
                let state = VoterState::first(id, installed);
                let planted = if self.bounds.bug == Some(Bug::NoQuietTimeForNewVoter) {
                    Planted(Some(Bug::NoQuietTime))
                } else {
                    Planted(self.bounds.bug)
                };
                Arc::make_mut(&mut self.observed).durable(&state);
                let voter = Voter::with_planted(state, self.now, planted);
                self.processes[place] = Process::new(Machine::Voter(Arc::new(voter)));
            }
            ToVoter::Renew { writer, sequence, .. } | ToVoter::Probe { writer, sequence, .. } => {
                let (writer, sequence) = (writer.clone(), *sequence);
                let message = FromVoter::Refused { writer, sequence, refusal: Refusal::Ahead };
                self.send(place, place_of_pod(from), Words::FromVoter(id, message));
            }
            ToVoter::Renounce { .. }
            | ToVoter::Prepare { .. }
            | ToVoter::Accept { .. }
            | ToVoter::Install { .. } => {}
        }
    }

    fn with_member(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Member, Duration, u64) -> Vec<MemberAction>,
    ) {
        let now = self.now;
        let Machine::Member(member) = &mut self.processes[place].machine else { return };
        let member = Arc::make_mut(member);
        let before = member.lease().end();
        // Two tries are never equal, for each process has a number of its own; and the waits do
        // not differ, for the high bits are zero.
        let dice = member.writer().incarnation.0;
        let actions = act(member, now, dice);
        if let Some(end) = member.lease().end().filter(|end| Some(*end) != before) {
            let observed = Arc::make_mut(&mut self.observed);
            observed.lease_grew(member.writer(), member.record(), end);
        }
        self.carry_out(place, actions);
        self.processes[place].changed();
    }

    fn carry_out(&mut self, place: Place, actions: Vec<MemberAction>) {
        let mut actions = VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            let now = self.now;
            let Machine::Member(member) = &mut self.processes[place].machine else { return };
            let me = member.writer().clone();
            let observed = Arc::make_mut(&mut self.observed);
            match action {
                MemberAction::ToVoter(to, message) => {
                    let to = usize::try_from(to.0).unwrap_or(usize::MAX);
                    self.send(place, to, Words::ToVoter(me.pod, message));
                }
                MemberAction::ToPeer(to, message) => {
                    self.send(place, place_of_pod(&to), Words::ToPeer(me.pod, message));
                }
                MemberAction::Installed(record) => observed.installed(&me, &record),
                MemberAction::Quiesce(record) => {
                    // No write is under way.
                    observed.quiesced(&me, &record);
                    let member = Arc::make_mut(member);
                    let said = member.quiesced(now, &record, me.incarnation.0);
                    said.into_iter().rev().for_each(|action| actions.push_front(action));
                }
                MemberAction::Made { .. } | MemberAction::Dropped { .. } => {}
            }
        }
    }

    fn send(&mut self, from: Place, to: Place, words: Words) {
        let is_cut = self.processes[from].is_mute
            || self.processes.get(to).is_none_or(|it| it.is_deaf || it.life == Life::Down);
        // What says that it is there to who only asked for a record says nothing.
        let is_idle =
            matches!(&words, Words::ToPeer(_, ToPeer::Ready { ballot, .. }) if ballot.round == 0);
        if !is_cut && !is_idle {
            self.letters.push(Arc::new(Letter::new(from, to, words, false)));
        }
    }

    /// Asks each member that does not know the latest record whether it would admit what it lost.
    fn probe(&mut self) {
        let mut kept = None;
        for process in &self.processes {
            let Machine::Member(member) = &process.machine else { continue };
            let record = member.record();
            if process.life == Life::Down || record.epoch() >= self.observed.latest().epoch() {
                continue;
            }
            let admits = |resource: &_| {
                let Some(term) = record.term(resource) else { return false };
                let tag = WriteTag { epoch: record.epoch(), term };
                member.admit(self.now, resource, tag).is_ok()
            };
            let lost = self.observed.lost(member.writer(), record).find(admits);
            kept = kept.or_else(|| Some((member.writer().clone(), record.clone(), lost?)));
        }
        if let Some((writer, record, resource)) = kept {
            Arc::make_mut(&mut self.observed).would_admit(&writer, &record, &resource);
        }
    }
}

/// What becomes of what a voter answers.
#[derive(Clone, Copy)]
enum Answer {
    Arrives,
    IsLost,
    IsLate,
}

fn genesis() -> Record {
    let entries = (0..VOTERS).map(entry).collect();
    let pods = (0..PODS).map(pod).collect();
    let view = View::new(Epoch::new(1), Parameters::new(2, 0.05, 0).unwrap_or_default(), pods);
    let genesis = view
        .map_err(Into::into)
        .and_then(|it| Record::first(ClusterId(7), PARAMETERS, entries, &it));
    let Ok(genesis) = genesis else { unreachable!("a valid cluster") };
    genesis
}

fn entry(index: usize) -> VoterEntry {
    VoterEntry { id: VoterId(index as u128), address: String::new() }
}

fn pod(index: usize) -> Pod {
    let Ok(id) = PodId::new(&format!("{}", SEATS + index)) else { unreachable!("a short id") };
    Pod::new(id)
}

/// The names of pods are their places.
fn place_of_pod(pod: &PodId) -> Place {
    pod.as_str().parse().unwrap_or(usize::MAX)
}

/// Two renewals in a lease; all clocks are true.
const PARAMETERS: LeaseParameters = LeaseParameters {
    ttl: Duration::from_millis(100),
    renewal_interval: Duration::from_millis(45),
    drift_ppm: 0,
    margin: Duration::from_millis(5),
};
