//! One cluster whose record lies in etcd, under virtual time: processes, links, watches, writes, and
//! the events between them.

mod clients;
mod etcd;
mod event;
mod faults;
mod gate;
mod leases;
mod link;
mod members;
pub(crate) mod plan;
mod recovery;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{
    Bug, Change, ClusterId, Planted, Record, Resource, Revision, VoterEntry, VoterId,
};
use hashroute_core::{Epoch, Parameters, Pod, PodId, Slot, View};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::invariants::{Observed, Violation};
use crate::plan::Clocks;
use crate::queue::Queue;
use etcd::Etcd;
use event::Event;
use members::{Alarm, Process, Running};
use plan::Plan;

/// Which process.
pub(crate) type Place = usize;

/// One cluster.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) plan: Plan,
    dice: Dice,
    planted: Planted,
    queue: Queue<Event>,
    etcd: Etcd,
    /// The pods' own processes, then witnesses, then the pods' twins.
    processes: Vec<Process>,
    /// The record of each intent that etcd has ever held, by the commit that wrote it.
    intents: BTreeMap<Revision, Record>,
    /// What clients believe.
    beliefs: Vec<Record>,
    groups: Vec<Arc<str>>,
    healed: bool,
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
            queue: Queue::default(),
            etcd: Etcd::new(genesis.clone()),
            processes: Vec::new(),
            intents: BTreeMap::new(),
            beliefs: vec![genesis.clone(); CLIENTS],
            groups: Vec::new(),
            healed: false,
            trace: None,
            observed: Observed::new(genesis, bug, visible_only),
            events: 0,
            planted: Planted(bug),
            dice,
            plan,
        };
        for index in 0..world.plan.own() {
            let place = world.add(pod(index), false);
            world.processes[place].voter = (world.plan.voters > 0).then(|| first_voter(index));
        }
        for place in 0..world.plan.own() {
            world.start(place);
        }
        for _ in 0..world.plan.groups {
            world.ask_for_a_group(0);
        }
        world.push(world.plan.fault_interval, Event::Fault);
        world.push(Duration::from_millis(20), Event::ClientWrites);
        world.push(world.plan.heal_at, Event::Heal);
        world
    }

    /// Lets the next event happen, if it is due before `end`; returns whether one was.
    fn advance(&mut self, end: Duration) -> Result<bool, Violation> {
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
            let place = event.place().map(|place| self.processes[place].pod.id.to_string());
            let place = place.unwrap_or_default();
            trace.push(format!("{:>12.6} {place:<9} {event:?}", self.now.as_secs_f64()));
        }
        match event {
            Event::Wake { place, alarm } => self.wake(place, alarm),
            Event::Begin { place, boot } => self.begin(place, boot),
            Event::Leaves(asked) => self.leaves(asked),
            Event::Arrives(asked) => self.arrives(asked),
            Event::Answered { place, boot, request, answer } => {
                self.answered(place, boot, request, answer);
            }
            Event::Looks(watch) => self.looks(watch),
            Event::LookArrives(watch) => self.look_arrives(watch),
            Event::Looked { watch, revision, entries } => self.looked(watch, revision, entries),
            Event::WatchBegins { watch, after } => self.watch_begins(watch, after),
            Event::WatchFlows(watch) => self.watch_flows(watch),
            Event::Tells { watch, revision } => self.tells(watch, revision),
            Event::Silence(watch) => self.silence(watch),
            Event::CheckArrives { watch, told } => self.check_arrives(watch, told),
            Event::Checked { watch, has_missed } => self.checked(watch, has_missed),
            Event::WatchFails(watch) => self.watch_fails(watch),
            Event::WritesEnded { place, boot } => self.writes_ended(place, boot),
            Event::ToVoter { place, from, message } => self.voter_hears(place, from, message),
            Event::FromVoter { place, by, message } => self.member_hears(place, by, message),
            Event::Fault => self.fault(),
            Event::Restart { place } => self.start(place),
            Event::Crash { place, boot } => self.crash_if(place, boot),
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

    fn add(&mut self, pod: Pod, is_twin: bool) -> Place {
        let zero = self.dice.between(Duration::from_secs(1), Duration::from_secs(1000));
        let drift = i64::from(self.plan.parameters.drift_ppm);
        let any = *self.dice.pick(&[-drift, 0, drift]).unwrap_or(&0);
        let place = self.processes.len();
        let fast = match self.plan.clocks {
            Clocks::True => 0,
            Clocks::Any => any,
            // Whoever waits for another is as far from it as is allowed.
            Clocks::Worst if place.is_multiple_of(2) => drift,
            Clocks::Worst => -drift,
        };
        let fast = if self.planted.has(Bug::WildClock) { fast.signum() * WILD_PPM } else { fast };
        self.processes.push(Process::new(pod, is_twin, Clock::new(zero, fast)));
        place
    }

    /// Where every process of the pod is that may run.
    fn places_of_pod(&self, pod: &PodId) -> impl Iterator<Item = Place> {
        let processes = self.processes.iter().enumerate();
        processes.filter(move |(_, process)| process.pod.id == *pod).map(|(place, _)| place)
    }

    fn schedule_wake(&mut self, place: Place) {
        let process = &mut self.processes[place];
        let is_busy = |running: &&Running| running.has_begun || running.member.voter().is_some();
        let Some(running) = process.running.as_ref().filter(is_busy) else { return };
        let deadline = running.member.deadline();
        // One timer is enough: if it is early it is set anew when it fires.
        if deadline == Duration::MAX || process.alarm.is_some_and(|alarm| alarm.at <= deadline) {
            return;
        }
        let alarm = Alarm { at: deadline, number: self.queue.pushed() };
        process.alarm = Some(alarm);
        let at = process.clock.when(deadline).max(self.now);
        // Timers are late by a little, always.
        let late = self.dice.between(Duration::ZERO, self.plan.timer_late_most);
        self.push(at - self.now + late, Event::Wake { place, alarm: alarm.number });
    }

    fn any_member(&mut self) -> Place {
        self.dice.below(self.plan.members)
    }

    fn any_resource(&mut self) -> Resource {
        if self.dice.per_mille(300)
            && let Some(group) = self.dice.pick(&self.groups)
        {
            return Resource::Group(Arc::clone(group));
        }
        let slots = usize::try_from(self.plan.slots).unwrap_or(1);
        Resource::Slot(Slot::new(u32::try_from(self.dice.below(slots)).unwrap_or(0)))
    }

    fn ask_for_a_group(&mut self, place: Place) {
        let name: Arc<str> = Arc::from(format!("gateway-{}", self.groups.len()));
        let pods = self.processes.iter().take(self.plan.members);
        let candidates = pods.map(|process| process.pod.id.clone()).collect();
        self.groups.push(Arc::clone(&name));
        self.wish(place, &Change::AddGroup { name, candidates });
    }

    /// A line of the trace that is no event.
    fn remark(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} -- {}", self.now.as_secs_f64(), what()));
        }
    }
}

fn genesis(plan: &Plan) -> Record {
    let pods = (0..plan.known).map(pod).collect();
    let parameters = Parameters::new(plan.slots, 0.05, 0).unwrap_or_default();
    // Where no process votes the record names etcd as the one that does.
    let etcd = VoterEntry { id: VoterId(1), address: "etcd:2379".to_owned() };
    let voters = match plan.voters {
        0 => vec![etcd],
        voters => (0..voters).map(|index| leases::entry(first_voter(index))).collect(),
    };
    let genesis = View::new(Epoch::new(1), parameters, pods)
        .map_err(Into::into)
        .and_then(|view| Record::first(ClusterId(7), plan.parameters, voters, &view));
    let Ok(genesis) = genesis else { unreachable!("plans make valid clusters") };
    genesis
}

/// The voter of the process at this place, until its disk is lost.
fn first_voter(place: usize) -> VoterId {
    VoterId(10 + place as u128)
}

fn pod(index: usize) -> Pod {
    let Ok(id) = PodId::new(&format!("pod-{index}")) else { unreachable!("a short id") };
    Pod::new(id)
}

/// Each has a view of its own.
const CLIENTS: usize = 2;

/// How far off a clock is that nobody should lease by: an eighth.
const WILD_PPM: i64 = 125_000;
