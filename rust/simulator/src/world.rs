//! One cluster under virtual time: processes, disks, links, writes, and the events between them.

mod clients;
mod event;
mod faults;
mod members;
mod network;
mod recovery;
mod voters;

use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{
    Bug, Change, ClusterId, Planted, Record, Resource, VoterEntry, VoterId, VoterState,
};
use hashroute_core::{Addresses, Epoch, Parameters, Pod, PodId, Slot, View, Weight};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::invariants::{Observed, Violation};
use crate::plan::{Clocks, Plan};
use crate::queue::Queue;
pub(crate) use clients::Effect;
use event::Event;
use members::MemberProcess;
use voters::VoterProcess;
pub(crate) use voters::{released_in, vote_in};

/// Which process: voters first, then members, then voters that came later.
pub(crate) type Place = usize;

/// The process at one place.
enum Role {
    Voter(Box<VoterProcess>),
    Member(Box<MemberProcess>),
}

struct Process {
    clock: Clock,
    role: Role,
    /// Grows at each start and crash, so that events of a process that is no more are dropped.
    boot: u32,
    paused_until: Duration,
    /// The timer that is set; none other wakes the process.
    alarm: Option<Alarm>,
}

/// A timer: when it is due by the clock of its process, and its number.
#[derive(Clone, Copy)]
struct Alarm {
    at: Duration,
    number: u64,
}

/// One cluster.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) plan: Plan,
    dice: Dice,
    planted: Planted,
    queue: Queue<Event>,
    processes: Vec<Process>,
    /// Where each pod's process is, and each voter.
    pods: Vec<(PodId, Place)>,
    voters: Vec<(VoterId, Place)>,
    /// Processes of pods beside their own: see [`Kind::Twin`].
    ///
    /// [`Kind::Twin`]: crate::plan::Kind::Twin
    twins: Vec<(PodId, Place)>,
    /// `cut[from][to]`
    cut: Vec<Vec<bool>>,
    /// What clients believe.
    beliefs: Vec<Record>,
    groups: Vec<Arc<str>>,
    /// Voters that the operator brings back: their disks are there, and stay there.
    named_again: Vec<Place>,
    healed: bool,
    /// The next step of the recipe.
    step: usize,
    /// One line an event, if they are wanted.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) observed: Observed,
    pub(crate) events: u64,
}

impl World {
    /// A cluster whose processes have just started. Everything follows from the dice and the plan.
    pub(crate) fn new(dice: Dice, plan: Plan, bug: Option<Bug>, visible_only: bool) -> Self {
        let genesis = genesis(&plan);
        let mut world = Self {
            now: Duration::ZERO,
            processes: Vec::new(),
            pods: Vec::new(),
            voters: Vec::new(),
            twins: Vec::new(),
            cut: Vec::new(),
            queue: Queue::default(),
            beliefs: vec![genesis.clone(); CLIENTS],
            groups: Vec::new(),
            named_again: Vec::new(),
            healed: false,
            step: 0,
            trace: None,
            observed: Observed::new(genesis.clone(), bug, visible_only),
            events: 0,
            planted: Planted(bug),
            dice,
            plan,
        };
        for entry in genesis.voters() {
            let disk = VoterState::first(entry.id, genesis.clone());
            world.add(Role::Voter(Box::new(VoterProcess::new(entry.id, Some(disk)))));
        }
        for index in 0..world.plan.members {
            let process = MemberProcess::new(pod(index), genesis.clone());
            world.add(Role::Member(Box::new(process)));
        }
        for place in 0..world.processes.len() {
            world.start(place);
        }
        for index in 0..world.plan.groups {
            let name: Arc<str> = Arc::from(format!("gateway-{index}"));
            let candidates = world.pods.iter().map(|(pod, _)| pod.clone()).collect();
            world.groups.push(Arc::clone(&name));
            world.wish(world.plan.voters, &Change::AddGroup { name, candidates });
        }
        world.push(world.plan.fault_interval, Event::Fault);
        world.push(Duration::from_millis(20), Event::ClientWrites);
        world.push(world.plan.heal_at, Event::Heal);
        world
    }

    /// Runs to the end of the plan, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        self.run_to_recovery()
    }

    /// Lets the next event happen, if it is due before `end`; returns whether one was.
    pub(crate) fn advance(&mut self, end: Duration) -> Result<bool, Violation> {
        let Some((at, event)) = self.queue.pop(end) else { return Ok(false) };
        self.now = self.now.max(at);
        self.events += 1;
        let latest = self.observed.latest().epoch();
        let place = event.place();
        self.happen(event);
        if self.observed.latest().epoch() > latest {
            // Somebody may just have lost something without knowing it.
            (0..self.processes.len()).for_each(|place| self.probe(place));
        } else if let Some(place) = place {
            self.probe(place);
        }
        self.observed.check(self.now)?;
        Ok(true)
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.unless_paused(event) else { return };
        if let Some(trace) = &mut self.trace {
            let place = event.place().map(|place| match &self.processes[place].role {
                Role::Voter(voter) => format!("voter-{}", voter.id.0),
                Role::Member(member) => member.pod.id.to_string(),
            });
            let place = place.unwrap_or_default();
            trace.push(format!("{:>12.6} {place:<9} {event:?}", self.now.as_secs_f64()));
        }
        match event {
            Event::Wake { place, alarm } => self.wake(place, alarm),
            Event::ToVoter { place, from, message } => self.voter_hears(place, from, message),
            Event::FromVoter { place, by, message } => {
                let dice = self.dice.word();
                self.with_member(place, |member, now| member.handle_voter(now, by, message, dice));
            }
            Event::ToPeer { place, from, message } => self.member_hears(place, &from, message),
            Event::Synced { place, boot } => self.synced(place, boot),
            Event::Fault => self.fault(),
            Event::Restart { place } => self.start(place),
            Event::Crash { place } => self.crash_for_a_while(place),
            Event::ClientWrites => self.client_writes(),
            Event::WriteArrives { place, write } => self.write_arrives(place, write),
            Event::EffectLeaves { place, boot, effect } => self.effect_leaves(place, boot, effect),
            Event::EffectArrives { place, boot, effect } => {
                self.observed.store(&effect);
                self.write_ends(place, boot, effect.number);
            }
            Event::Heal => self.heal(),
        }
    }

    /// An event of a paused process happens when the pause ends.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let until =
            event.place().map_or(Duration::ZERO, |place| self.processes[place].paused_until);
        if until <= self.now || matches!(event, Event::Restart { .. } | Event::Crash { .. }) {
            return Some(event);
        }
        self.push(until - self.now, event);
        None
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    fn add(&mut self, role: Role) -> Place {
        let zero = self.dice.between(Duration::from_secs(1), Duration::from_secs(1000));
        let drift = i64::from(self.plan.parameters.drift_ppm);
        let any = *self.dice.pick(&[-drift, 0, drift]).unwrap_or(&0);
        let fast = match (self.plan.clocks, &role) {
            (Clocks::True, _) => 0,
            (Clocks::Any, _) => any,
            (Clocks::Worst, Role::Voter(_)) => drift,
            (Clocks::Worst, Role::Member(_)) => -drift,
        };
        let fast = if self.planted.has(Bug::WildClock) { wild(fast) } else { fast };
        let place = self.processes.len();
        match &role {
            Role::Voter(voter) => self.voters.push((voter.id, place)),
            Role::Member(member) if member.is_twin => {
                self.twins.push((member.pod.id.clone(), place));
            }
            Role::Member(member) => self.pods.push((member.pod.id.clone(), place)),
        }
        self.processes.push(Process {
            clock: Clock::new(zero, fast),
            role,
            boot: 0,
            paused_until: Duration::ZERO,
            alarm: None,
        });
        self.cut.iter_mut().for_each(|row| row.resize(place + 1, false));
        self.cut.push(vec![false; place + 1]);
        place
    }

    fn start(&mut self, place: Place) {
        match &self.processes[place].role {
            Role::Voter(_) => self.start_voter(place),
            Role::Member(_) => self.start_member(place),
        }
        self.schedule_wake(place);
    }

    pub(crate) fn crash(&mut self, place: Place) {
        let process = &mut self.processes[place];
        process.boot += 1;
        process.alarm = None;
        process.paused_until = Duration::ZERO;
        match &process.role {
            Role::Voter(_) => self.crash_voter(place),
            Role::Member(_) => self.crash_member(place),
        }
    }

    fn schedule_wake(&mut self, place: Place) {
        let process = &mut self.processes[place];
        let deadline = match &process.role {
            Role::Voter(voter) => voter.running.as_ref().and_then(|running| running.deadline()),
            Role::Member(member) => member.running.as_ref().map(|running| running.deadline()),
        };
        let Some(deadline) = deadline.filter(|deadline| *deadline < Duration::MAX) else { return };
        // One timer is enough: if it is early it is set anew when it fires.
        if process.alarm.is_some_and(|alarm| alarm.at <= deadline) {
            return;
        }
        let alarm = Alarm { at: deadline, number: self.queue.pushed() };
        process.alarm = Some(alarm);
        let at = process.clock.when(deadline).max(self.now);
        // Timers are late by a little, always.
        let late = self.dice.between(Duration::ZERO, self.plan.timer_late_most);
        self.push(at - self.now + late, Event::Wake { place, alarm: alarm.number });
    }

    fn wake(&mut self, place: Place, alarm: u64) {
        let set = &mut self.processes[place].alarm;
        if set.is_none_or(|set| set.number != alarm) {
            return;
        }
        *set = None;
        match &self.processes[place].role {
            Role::Voter(_) => self.with_voter(place, |voter, now| voter.tick(now)),
            Role::Member(_) => {
                let dice = self.dice.word();
                self.with_member(place, |member, now| member.tick(now, dice));
            }
        }
    }

    fn place_of_pod(&self, pod: &PodId) -> Option<Place> {
        // Most names are copies of one: to compare where they lie is quicker than what they say.
        let known = |(id, _): &&(PodId, Place)| std::ptr::eq(id.as_str(), pod.as_str());
        let found = self.pods.iter().find(known);
        found.or_else(|| self.pods.iter().find(|(id, _)| id == pod)).map(|(_, place)| *place)
    }

    /// Where every process of the pod is that may run.
    fn places_of_pod(&self, pod: &PodId) -> impl Iterator<Item = Place> + use<> {
        let twins = self.twins.iter().filter(|(id, _)| id == pod).map(|(_, place)| *place);
        let twins: Vec<Place> = twins.collect();
        self.place_of_pod(pod).into_iter().chain(twins)
    }

    fn is_twin(&self, place: Place) -> bool {
        matches!(&self.processes[place].role, Role::Member(member) if member.is_twin)
    }

    pub(crate) fn place_of_voter(&self, id: VoterId) -> Option<Place> {
        self.voters.iter().find(|(other, _)| *other == id).map(|(_, place)| *place)
    }

    /// The record that the process of a pod goes by, if it runs.
    #[cfg(test)]
    pub(crate) fn record_at(&self, place: Place) -> Option<&Record> {
        let Role::Member(member) = &self.processes[place].role else { return None };
        member.running.as_ref().map(hashroute_coordination::Member::record)
    }

    fn any_member(&mut self) -> Place {
        self.plan.voters + self.dice.below(self.plan.members)
    }

    fn any_resource(&mut self) -> Resource {
        match self.groups.first() {
            Some(group) if self.dice.per_mille(300) => Resource::Group(Arc::clone(group)),
            Some(_) | None => {
                let slots = usize::try_from(self.plan.slots).unwrap_or(1);
                Resource::Slot(Slot::new(u32::try_from(self.dice.below(slots)).unwrap_or(0)))
            }
        }
    }
}

/// How far off a clock is that nobody should lease by: an eighth.
fn wild(fast: i64) -> i64 {
    fast.signum() * 125_000
}

fn genesis(plan: &Plan) -> Record {
    let entries = (0..plan.voters).map(|index| entry(index as u128)).collect();
    let pods = (0..plan.known).map(pod).collect();
    let parameters = Parameters::new(plan.slots, 0.05, 0).unwrap_or_default();
    let genesis = View::new(Epoch::new(1), parameters, pods)
        .map_err(Into::into)
        .and_then(|view| Record::first(ClusterId(7), plan.parameters, entries, &view));
    let Ok(genesis) = genesis else { unreachable!("plans make valid clusters") };
    genesis
}

pub(crate) fn entry(index: u128) -> VoterEntry {
    VoterEntry { id: VoterId(index), address: format!("voter-{index}") }
}

fn pod(index: usize) -> Pod {
    let Ok(id) = PodId::new(&format!("pod-{index}")) else { unreachable!("a short id") };
    Pod { addresses: Addresses::default(), weight: Weight::ONE, ..Pod::new(id) }
}

/// Each has a view of its own.
const CLIENTS: usize = 2;
