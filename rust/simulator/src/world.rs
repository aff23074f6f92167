//! One cluster under virtual time: processes, disks, links, writes, and the events between them.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use hashroute_coordination::{
    Bug, Change, ClusterId, FromVoter, Incarnation, Member, MemberAction, Planted, Record, Refusal,
    Resource, ToPeer, ToVoter, Voter, VoterAction, VoterEntry, VoterId, VoterState, WriteTag,
    Writer,
};
use hashroute_core::{Addresses, Epoch, Parameters, Pod, PodId, Slot, View, Weight};

use crate::clock::Clock;
use crate::dice::Dice;
use crate::invariants::{Observed, Violation};
use crate::plan::Plan;

/// Which process: voters first, then members.
type Place = usize;

/// A write on its way from the guard that admitted it to the store.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) resource: Resource,
    pub(crate) term: Epoch,
    pub(crate) writer: Writer,
}

#[derive(Clone, Debug)]
enum Event {
    /// A voter or member looks at its clock.
    Wake {
        place: Place,
        boot: u32,
    },
    ToVoter {
        place: Place,
        from: PodId,
        message: ToVoter,
    },
    FromVoter {
        place: Place,
        by: VoterId,
        message: FromVoter,
    },
    ToPeer {
        place: Place,
        from: PodId,
        message: ToPeer,
    },
    /// A voter's disk has made the state durable; then its messages leave.
    Synced {
        place: Place,
        boot: u32,
    },
    Fault,
    Restart {
        place: Place,
    },
    ClientWrites,
    WriteArrives {
        place: Place,
        resource: Resource,
        tag: WriteTag,
    },
    /// The process hands the effect of an admitted write to the network.
    EffectLeaves {
        place: Place,
        boot: u32,
        number: u64,
        effect: Effect,
    },
    EffectArrives {
        effect: Effect,
    },
    Heal,
}

struct Entry(Duration, u64, Event);

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The process at one place.
enum Role {
    Voter(VoterProcess),
    Member(MemberProcess),
}

struct VoterProcess {
    id: VoterId,
    running: Option<Voter>,
    /// What the disk holds; none before the cluster knows the voter.
    disk: Option<VoterState>,
    /// Whether it had a disk and lost it: then it never comes back under its name.
    lost: bool,
    syncing: Option<Syncing>,
}

/// A write to the disk under way, and what waits behind it.
struct Syncing {
    state: VoterState,
    then: Vec<VoterAction>,
}

struct MemberProcess {
    pod: Pod,
    running: Option<Member>,
    /// Admitted writes whose effects have not left yet, by number.
    in_flight: BTreeSet<u64>,
    last_incarnation: Option<Incarnation>,
    /// The last record that it went by: kept on its disk as a hint of where the voters are.
    known: Record,
    /// Releases, each of which waits for the writes below a number.
    quiescing: Vec<(u64, Record)>,
}

struct Process {
    clock: Clock,
    role: Role,
    /// Grows at each start, so that events of a process that is no more are dropped.
    boot: u32,
    paused_until: Duration,
    wake_at: Duration,
}

/// One cluster.
pub(crate) struct World {
    now: Duration,
    plan: Plan,
    dice: Dice,
    planted: Planted,
    queue: BinaryHeap<Reverse<Entry>>,
    queued: u64,
    processes: Vec<Process>,
    /// `cut[from][to]`
    cut: Vec<Vec<bool>>,
    /// What clients believe.
    beliefs: Vec<Record>,
    groups: Vec<Arc<str>>,
    healed: bool,
    /// Whether every event is printed.
    pub(crate) trace: bool,
    pub(crate) observed: Observed,
    pub(crate) events: u64,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, directed: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Plan::new(&mut dice);
        if let Some(bug) = bug.filter(|_| directed) {
            plan = plan.direct(bug);
        }
        let planted = Planted(bug);
        let entries: Vec<VoterEntry> = (0..plan.voters).map(|index| entry(index as u128)).collect();
        let pods: Vec<Pod> = (0..plan.members).map(pod).collect();
        let parameters = Parameters::new(plan.slots, 0.05, 0).unwrap_or_default();
        let genesis = View::new(Epoch::new(1), parameters, pods.clone())
            .map_err(Into::into)
            .and_then(|view| Record::first(ClusterId(7), plan.parameters, entries, view));
        let Ok(genesis) = genesis else { unreachable!("the plan makes valid clusters") };

        let mut world = Self {
            now: Duration::ZERO,
            processes: Vec::new(),
            cut: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            beliefs: vec![genesis.clone(); 2],
            groups: Vec::new(),
            healed: false,
            trace: false,
            observed: Observed::new(genesis.clone(), bug),
            events: 0,
            planted,
            dice,
            plan,
        };
        for index in 0..world.plan.voters {
            let id = VoterId(index as u128);
            let disk =
                VoterState { id, installed: genesis.clone(), promised: None, accepted: None };
            let role = Role::Voter(VoterProcess {
                id,
                running: None,
                disk: Some(disk),
                lost: false,
                syncing: None,
            });
            world.add(role);
        }
        for pod in pods {
            let genesis = world.observed.genesis();
            let process = MemberProcess {
                pod,
                running: None,
                in_flight: BTreeSet::new(),
                last_incarnation: None,
                known: genesis.clone(),
                quiescing: Vec::new(),
            };
            world.add(Role::Member(process));
        }
        for place in 0..world.processes.len() {
            world.start(place);
        }
        if world.dice.per_mille(500) {
            let name: Arc<str> = Arc::from("gateway");
            let candidates = (0..world.plan.members).map(|index| pod(index).id).collect();
            world.groups.push(Arc::clone(&name));
            world.wish(world.plan.voters, Change::AddGroup { name, candidates });
        }
        let first = world.plan.fault_interval;
        world.push(first, Event::Fault);
        world.push(Duration::from_millis(20), Event::ClientWrites);
        world.push(world.plan.heal_at, Event::Heal);
        world
    }

    /// Runs to the end of the plan, or to the first violation.
    pub(crate) fn run(&mut self) -> Result<(), Violation> {
        while let Some(Reverse(Entry(at, _, event))) = self.queue.pop() {
            if at > self.plan.end_at {
                break;
            }
            self.now = self.now.max(at);
            self.events += 1;
            self.step(event);
            self.observed.check(self.now)?;
        }
        self.check_recovery()
    }

    fn step(&mut self, event: Event) {
        let Some(event) = self.unless_paused(event) else { return };
        if self.trace {
            println!("{:>12?} {event:?}", self.now);
        }
        match event {
            Event::Wake { place, boot } => self.wake(place, boot),
            Event::ToVoter { place, from, message } => self.to_voter(place, from, message),
            Event::FromVoter { place, by, message } => {
                let dice = self.dice.word();
                self.with_member(place, |member, now| member.handle_voter(now, by, message, dice));
            }
            Event::ToPeer { place, from, message } => {
                let dice = self.dice.word();
                self.with_member(place, |member, now| member.handle_peer(now, from, message, dice));
            }
            Event::Synced { place, boot } => self.synced(place, boot),
            Event::Fault => self.fault(),
            Event::Restart { place } => self.start(place),
            Event::ClientWrites => self.client_writes(),
            Event::WriteArrives { place, resource, tag } => {
                self.write_arrives(place, resource, tag)
            }
            Event::EffectLeaves { place, boot, number, effect } => {
                self.effect_leaves(place, boot, number, effect);
            }
            Event::EffectArrives { effect } => self.observed.store(effect),
            Event::Heal => self.heal(),
        }
    }

    /// An event of a paused process happens when the pause ends.
    fn unless_paused(&mut self, event: Event) -> Option<Event> {
        let place = match &event {
            Event::Wake { place, .. }
            | Event::ToVoter { place, .. }
            | Event::FromVoter { place, .. }
            | Event::ToPeer { place, .. }
            | Event::Synced { place, .. }
            | Event::WriteArrives { place, .. }
            | Event::EffectLeaves { place, .. } => *place,
            Event::Fault
            | Event::Restart { .. }
            | Event::ClientWrites
            | Event::EffectArrives { .. }
            | Event::Heal => return Some(event),
        };
        let until = self.processes[place].paused_until;
        if until > self.now {
            self.push(until - self.now, event);
            return None;
        }
        // A voter that waits for its disk reads no messages.
        if let (Event::ToVoter { .. }, Role::Voter(voter)) = (&event, &self.processes[place].role)
            && voter.syncing.is_some()
        {
            self.push(Duration::from_micros(200), event);
            return None;
        }
        Some(event)
    }

    fn push(&mut self, delay: Duration, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse(Entry(self.now + delay, self.queued, event)));
    }

    fn add(&mut self, role: Role) -> Place {
        let zero = self.dice.between(Duration::from_secs(1), Duration::from_secs(1000));
        let drift = self.plan.drift_ppm;
        let fast = *self.dice.pick(&[-drift, 0, drift]).unwrap_or(&0);
        let fast = if self.observed.bug == Some(Bug::WildClock) { fast * 60 } else { fast };
        self.processes.push(Process {
            clock: Clock::new(zero, fast),
            role,
            boot: 0,
            paused_until: Duration::ZERO,
            wake_at: Duration::MAX,
        });
        let places = self.processes.len();
        self.cut.iter_mut().for_each(|row| row.resize(places, false));
        self.cut.push(vec![false; places]);
        places - 1
    }

    fn start(&mut self, place: Place) {
        let now = self.processes[place].clock.local(self.now);
        let planted = self.planted;
        let incarnation = Incarnation(self.dice.word());
        let process = &mut self.processes[place];
        match &mut process.role {
            Role::Voter(voter) => {
                if voter.running.is_some() {
                    return;
                }
                let Some(disk) = voter.disk.clone() else { return };
                let fresh = process.boot == 0 && disk.installed.epoch() > Epoch::new(1);
                let hasty = fresh && planted.has(Bug::NoQuietTimeForNewVoter);
                let planted = if hasty { Planted(Some(Bug::NoQuietTime)) } else { planted };
                let disk = if planted.has(Bug::VoteForgotten) {
                    VoterState { promised: None, accepted: None, ..disk }
                } else {
                    disk
                };
                voter.running = Some(Voter::with_planted(disk, now, planted));
            }
            Role::Member(member) => {
                if member.running.is_some() {
                    return;
                }
                let pod = member.pod.clone();
                let reused =
                    member.last_incarnation.filter(|_| planted.has(Bug::IncarnationReused));
                let incarnation = reused.unwrap_or(incarnation);
                member.last_incarnation = Some(incarnation);
                member.running =
                    Some(Member::new(pod, incarnation, member.known.clone(), now, planted));
            }
        }
        process.boot += 1;
        process.wake_at = Duration::MAX;
        self.schedule_wake(place);
    }

    fn crash(&mut self, place: Place) {
        let survives = self.dice.per_mille(500);
        let process = &mut self.processes[place];
        process.boot += 1;
        process.paused_until = Duration::ZERO;
        match &mut process.role {
            Role::Voter(voter) => {
                voter.running = None;
                // A write that the crash cut short is whole on the disk, or absent: records carry
                // a checksum, and the one before is kept until the next is whole.
                if let Some(syncing) = voter.syncing.take().filter(|_| survives) {
                    self.observed.durable(&syncing.state);
                    voter.disk = Some(syncing.state);
                }
            }
            Role::Member(member) => {
                member.running = None;
                member.in_flight.clear();
                member.quiescing.clear();
            }
        }
    }

    fn schedule_wake(&mut self, place: Place) {
        let process = &mut self.processes[place];
        let deadline = match &process.role {
            Role::Voter(voter) => voter.running.as_ref().and_then(Voter::deadline),
            Role::Member(member) => member.running.as_ref().map(Member::deadline),
        };
        let Some(deadline) = deadline.filter(|deadline| *deadline < Duration::MAX) else { return };
        let at = process.clock.when(deadline).max(self.now);
        if at < process.wake_at || process.wake_at <= self.now {
            process.wake_at = at;
            let boot = process.boot;
            // Timers are late by a little, always.
            let late = self.dice.between(Duration::ZERO, Duration::from_micros(300));
            self.push(at - self.now + late, Event::Wake { place, boot });
        }
    }

    fn wake(&mut self, place: Place, boot: u32) {
        if self.processes[place].boot != boot {
            return;
        }
        self.processes[place].wake_at = Duration::MAX;
        let now = self.processes[place].clock.local(self.now);
        if let Role::Voter(voter) = &mut self.processes[place].role {
            let actions = voter.running.as_mut().map(|voter| voter.tick(now)).unwrap_or_default();
            self.carry_out_voter(place, actions);
            self.schedule_wake(place);
        } else {
            let dice = self.dice.word();
            self.with_member(place, |member, now| member.tick(now, dice));
        }
    }

    fn to_voter(&mut self, place: Place, from: PodId, message: ToVoter) {
        let now = self.processes[place].clock.local(self.now);
        let Role::Voter(process) = &mut self.processes[place].role else { return };
        if process.disk.is_none() && !process.lost {
            // A new voter learns its first record from the first install that names it.
            let (id, ToVoter::Install { record }) = (process.id, &message) else {
                return self.ask_for_record(place, from, message);
            };
            if !record.has_voter(id) {
                return;
            }
            let (id, installed) = (process.id, record.clone());
            process.disk = Some(VoterState { id, installed, promised: None, accepted: None });
            self.start(place);
            return;
        }
        let Some(voter) = &mut process.running else { return };
        let actions = voter.handle(now, from, message);
        self.carry_out_voter(place, actions);
        self.schedule_wake(place);
    }

    /// A voter that knows nothing tells who asks it to send what there is to know.
    fn ask_for_record(&mut self, place: Place, to: PodId, message: ToVoter) {
        let (ToVoter::Renew { writer, sequence, .. } | ToVoter::Probe { writer, sequence, .. }) =
            message
        else {
            return;
        };
        let Role::Voter(VoterProcess { id, .. }) = self.processes[place].role else { return };
        let Some(target) = self.place_of_pod(&to) else { return };
        let message = FromVoter::Refused { writer, sequence, refusal: Refusal::Ahead };
        self.send(place, target, |place| Event::FromVoter {
            place,
            by: id,
            message: message.clone(),
        });
    }

    /// What comes after a state to be made durable waits until it is.
    fn carry_out_voter(&mut self, place: Place, actions: Vec<VoterAction>) {
        let boot = self.processes[place].boot;
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            let Role::Voter(process) = &mut self.processes[place].role else { return };
            let by = process.id;
            match action {
                VoterAction::Persist(state) => {
                    process.syncing = Some(Syncing { state: *state, then: actions.collect() });
                    let sync = self.dice.between(Duration::ZERO, self.plan.sync_most);
                    self.push(sync, Event::Synced { place, boot });
                    return;
                }
                VoterAction::Send { to, message } => {
                    let Some(target) = self.place_of_pod(&to) else { continue };
                    self.send(place, target, |place| Event::FromVoter {
                        place,
                        by,
                        message: message.clone(),
                    });
                }
            }
        }
    }

    fn synced(&mut self, place: Place, boot: u32) {
        if self.processes[place].boot != boot {
            return;
        }
        let Role::Voter(process) = &mut self.processes[place].role else { return };
        let Some(Syncing { state, then }) = process.syncing.take() else { return };
        self.observed.durable(&state);
        process.disk = Some(state);
        self.carry_out_voter(place, then);
    }

    fn with_member(
        &mut self,
        place: Place,
        act: impl FnOnce(&mut Member, Duration) -> Vec<MemberAction>,
    ) {
        let now = self.processes[place].clock.local(self.now);
        let Role::Member(process) = &mut self.processes[place].role else { return };
        let Some(member) = &mut process.running else { return };
        let actions = act(member, now);
        self.carry_out_member(place, actions);
        self.schedule_wake(place);
    }

    fn carry_out_member(&mut self, place: Place, actions: Vec<MemberAction>) {
        let Role::Member(process) = &self.processes[place].role else { return };
        let me = process.pod.id.clone();
        for action in actions {
            match action {
                MemberAction::ToVoter(to, message) => {
                    let Some(target) = self.place_of_voter(to) else { continue };
                    let from = || me.clone();
                    self.send(place, target, |place| Event::ToVoter {
                        place,
                        from: from(),
                        message: message.clone(),
                    });
                }
                MemberAction::ToPeer(to, message) => {
                    let Some(target) = self.place_of_pod(&to) else { continue };
                    self.send(place, target, |place| Event::ToPeer {
                        place,
                        from: me.clone(),
                        message: message.clone(),
                    });
                }
                MemberAction::Installed(record) => {
                    self.observed.installed(&record);
                    let Role::Member(process) = &mut self.processes[place].role else { return };
                    process.known = record;
                }
                MemberAction::Quiesce(record) => {
                    let Role::Member(process) = &mut self.processes[place].role else { return };
                    process.quiescing.push((self.queued, record));
                    self.quiesce(place);
                }
                MemberAction::Dropped { .. } => {}
            }
        }
    }

    /// Says every release whose writes have ended.
    fn quiesce(&mut self, place: Place) {
        let Role::Member(process) = &mut self.processes[place].role else { return };
        let oldest = process.in_flight.first().copied().unwrap_or(u64::MAX);
        let ended = process.quiescing.extract_if(.., |(below, ..)| oldest >= *below);
        for (_, record) in ended.collect::<Vec<_>>() {
            self.with_member(place, |member, _| member.quiesced(&record));
        }
    }

    fn send(&mut self, from: Place, to: Place, event: impl Fn(Place) -> Event) {
        if self.cut[from][to] {
            return;
        }
        let faulty = !self.healed;
        if faulty && self.dice.per_mille(self.plan.loss_per_mille) {
            return;
        }
        let copies =
            if faulty && self.dice.per_mille(self.plan.duplicates_per_mille) { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = self.dice.between(Duration::from_micros(30), self.plan.delay_most);
            if faulty && self.dice.per_mille(30) {
                delay += self.dice.between(Duration::ZERO, self.plan.straggler_most);
            }
            self.push(delay, event(to));
        }
    }

    fn place_of_pod(&self, pod: &PodId) -> Option<Place> {
        self.processes.iter().position(
            |process| matches!(&process.role, Role::Member(member) if member.pod.id == *pod),
        )
    }

    fn place_of_voter(&self, id: VoterId) -> Option<Place> {
        self.processes
            .iter()
            .position(|process| matches!(&process.role, Role::Voter(voter) if voter.id == id))
    }

    fn wish(&mut self, place: Place, change: Change) {
        self.with_member(place, |member, _| {
            member.wish(change);
            Vec::new()
        });
    }

    fn client_writes(&mut self) {
        let interval = self.plan.write_interval;
        self.push(interval, Event::ClientWrites);
        let client = self.dice.below(self.beliefs.len());
        if self.dice.per_mille(300) {
            let place = self.any_member();
            if let Role::Member(MemberProcess { running: Some(member), .. }) =
                &self.processes[place].role
            {
                self.beliefs[client] = member.record().clone();
            }
        }
        let resource = self.any_resource();
        let belief = &self.beliefs[client];
        let (Some(owner), Some(term)) = (belief.owner(&resource), belief.term(&resource)) else {
            return;
        };
        let tag = WriteTag { epoch: belief.epoch(), term };
        let Some(place) = self.place_of_pod(&owner.pod) else { return };
        let delay = self.dice.between(Duration::from_micros(30), self.plan.delay_most);
        self.push(delay, Event::WriteArrives { place, resource, tag });
    }

    fn write_arrives(&mut self, place: Place, resource: Resource, tag: WriteTag) {
        let process = &mut self.processes[place];
        let now = process.clock.local(self.now);
        let boot = process.boot;
        let Role::Member(member) = &mut process.role else { return };
        let Some(running) = &member.running else { return };
        let Ok(term) = running.admit(now, &resource, tag) else { return };
        self.observed.admitted(running.writer(), running.record(), &resource);
        let effect = Effect { resource, term, writer: running.writer().clone() };
        let number = self.queued;
        member.in_flight.insert(number);
        let delay = self.dice.between(Duration::ZERO, self.plan.effect_most);
        self.push(delay, Event::EffectLeaves { place, boot, number, effect });
    }

    fn effect_leaves(&mut self, place: Place, boot: u32, number: u64, effect: Effect) {
        if self.processes[place].boot != boot {
            return;
        }
        let delay = self.dice.between(Duration::ZERO, self.plan.effect_most);
        let mut effect = effect;
        if let Role::Member(process) = &mut self.processes[place].role {
            let record = process.running.as_ref().map(Member::record);
            if self.planted.has(Bug::TermOfEffect)
                && let Some(term) = record.and_then(|record| record.term(&effect.resource))
            {
                effect.term = term;
            }
            process.in_flight.remove(&number);
        }
        self.push(delay, Event::EffectArrives { effect });
        self.quiesce(place);
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

mod faults;

fn entry(index: u128) -> VoterEntry {
    VoterEntry { id: VoterId(index), address: format!("voter-{index}") }
}

fn pod(index: usize) -> Pod {
    let Ok(id) = PodId::new(&format!("pod-{index}")) else { unreachable!("a short id") };
    Pod { addresses: Addresses::default(), weight: Weight::ONE, ..Pod::new(id) }
}
