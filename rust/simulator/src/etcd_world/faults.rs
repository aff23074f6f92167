//! What goes wrong, and what the operator does meanwhile.

use std::time::Duration;

use hashroute_coordination::Change;
use hashroute_core::Weight;

use super::event::Event;
use super::plan::Kind;
use super::{Place, World};

impl World {
    /// The next fault, of any kind that the plan has.
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let wait = self.dice.between(Duration::ZERO, self.plan.fault_interval * 2);
        self.push(wait, Event::Fault);
        if let Some(kind) = self.dice.pick(&self.plan.kinds).copied() {
            self.remark(|| format!("{kind:?}"));
            self.strike(kind);
        }
    }

    fn strike(&mut self, kind: Kind) {
        let place = self.any_process();
        match kind {
            Kind::CrashMember => self.crash_for_a_while(place),
            Kind::PauseMember => self.pause_for_a_while(place),
            Kind::Mute => self.processes[place].is_mute = true,
            Kind::Deafen => self.processes[place].is_deaf = true,
            Kind::Cut => {
                self.processes[place].is_mute = true;
                self.processes[place].is_deaf = true;
            }
            Kind::Unhear => self.processes[place].is_unheard = true,
            Kind::DeafenToOthers => self.processes[place].hears_nobody = true,
            Kind::Isolate => self.isolate(place),
            Kind::LoseDisk => self.lose_disk(place),
            Kind::Mend => self.mend(),
            Kind::StopEtcd => {
                let stop = self.dice.between(Duration::ZERO, self.plan.stop_most);
                self.etcd.stopped_until = self.now + stop;
                // Whoever was connected to the old leader may have to begin again.
                if self.dice.per_mille(300) {
                    self.break_watch(place);
                }
            }
            Kind::StickWatch => self.stick_for_a_while(place),
            Kind::BreakWatch => self.break_watch(place),
            Kind::Compact => self.etcd.compact(),
            Kind::AddGroup if self.groups.len() < GROUPS_MOST => self.ask_for_a_group(place),
            Kind::AddGroup => {}
            Kind::Drain
            | Kind::Activate
            | Kind::Remove
            | Kind::Reweight
            | Kind::Lead
            | Kind::StepDown
            | Kind::ReplaceVoter => self.operate(kind),
            Kind::Renounce => self.renounce(place),
            Kind::Twin => self.start_twin(),
        }
    }

    pub(super) fn crash_if(&mut self, place: Place, boot: u32) {
        if self.processes[place].boot == boot {
            self.crash_for_a_while(place);
        }
    }

    /// A twin that is gone does not come back: the pod's own process does.
    pub(super) fn crash_for_a_while(&mut self, place: Place) {
        self.crash(place);
        if !self.processes[place].is_twin {
            let down = self.dice.between(Duration::ZERO, self.plan.down_most);
            self.push(down, Event::Restart { place });
        }
    }

    fn pause_for_a_while(&mut self, place: Place) {
        let long = *self.dice.pick(&[20, 100, 160, 400, 1200]).unwrap_or(&20);
        let pause = self.dice.between(Duration::ZERO, Duration::from_millis(long));
        self.processes[place].paused_until = self.now + pause;
    }

    pub(super) fn mend(&mut self) {
        for place in 0..self.processes.len() {
            let process = &mut self.processes[place];
            let was_deaf = process.is_deaf;
            (process.is_mute, process.is_deaf) = (false, false);
            (process.is_unheard, process.hears_nobody) = (false, false);
            if was_deaf {
                self.mend_watch(place);
            }
        }
    }

    /// The host of the process is cut from all others.
    pub(super) fn isolate(&mut self, place: Place) {
        let process = &mut self.processes[place];
        (process.is_mute, process.is_deaf) = (true, true);
        (process.is_unheard, process.hears_nobody) = (true, true);
    }

    fn stick_for_a_while(&mut self, place: Place) {
        let Some(watch) = self.stick_watch(place) else { return };
        if self.dice.per_mille(700) {
            let stuck = self.dice.between(Duration::ZERO, Duration::from_secs(2));
            self.push(stuck, Event::WatchFlows(watch));
        }
    }

    /// Starts another process of some pod, as a supervisor does that takes a stalled one for dead. It
    /// ends after a while.
    fn start_twin(&mut self) {
        if self.processes.len() >= self.plan.own() + TWINS_MOST {
            return;
        }
        let place = self.any_member();
        if self.dice.per_mille(500) {
            self.pause_for_a_while(place);
        }
        let pod = self.processes[place].pod.clone();
        let twin = self.add(pod, true);
        self.start(twin);
        let lives = self.dice.between(Duration::ZERO, Duration::from_millis(1_200));
        let boot = self.processes[twin].boot;
        self.push(lives, Event::Crash { place: twin, boot });
    }

    fn operate(&mut self, kind: Kind) {
        let (member, target) = (self.any_process(), self.any_member());
        let pod = self.processes[target].pod.id.clone();
        let group = self.dice.pick(&self.groups).cloned();
        let change = match (kind, group) {
            (Kind::Drain, _) => Change::Drain(pod),
            (Kind::Activate, _) => Change::Activate(pod),
            (Kind::Remove, _) => Change::Remove(pod),
            (Kind::ReplaceVoter, _) => {
                let Some((old, new)) = self.replacement() else { return };
                Change::ReplaceVoter { old, new }
            }
            (Kind::Lead, Some(group)) => Change::Lead { group, leader: pod },
            (Kind::StepDown, Some(group)) => {
                let leader = self.observed.latest().group(&group).and_then(|it| it.leader.clone());
                Change::StepDown { group, leader: leader.unwrap_or(pod) }
            }
            (..) => {
                let weight = *self.dice.pick(&[0.5, 1.0, 2.0]).unwrap_or(&1.0);
                let Ok(weight) = Weight::new(weight) else { return };
                Change::Reweight(pod, weight)
            }
        };
        self.wish(member, &change);
    }

    /// Any process, twins too.
    pub(super) fn any_process(&mut self) -> Place {
        self.dice.below(self.processes.len())
    }
}

/// More processes of pods beside their own show nothing more.
const TWINS_MOST: usize = 3;

/// More groups show nothing more.
const GROUPS_MOST: usize = 3;
