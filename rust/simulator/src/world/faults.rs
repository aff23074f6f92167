//! What goes wrong, and what the operator does meanwhile.

use std::time::Duration;

use hashroute_coordination::{Change, VoterId};
use hashroute_core::Weight;

use super::event::Event;
use super::voters::VoterProcess;
use super::{Place, Role, World, entry};
use crate::plan::{Kind, Step};

impl World {
    /// The next fault: of the recipe if there is one, else of any kind that the plan has.
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let recipe = &self.plan.recipe;
        let kind = if recipe.is_empty() {
            let wait = self.dice.between(Duration::ZERO, self.plan.fault_interval * 2);
            self.push(wait, Event::Fault);
            self.dice.pick(&self.plan.kinds).copied()
        } else {
            let kind = recipe[self.step % recipe.len()].kind;
            self.step += 1;
            let Step { least, most, .. } = recipe[self.step % recipe.len()];
            let wait = self.dice.between(least, most);
            self.push(wait, Event::Fault);
            Some(kind)
        };
        if let Some(kind) = kind {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{:>12.6} -- {kind:?}", self.now.as_secs_f64()));
            }
            self.strike(kind);
        }
    }

    pub(crate) fn strike(&mut self, kind: Kind) {
        match kind {
            Kind::CrashMember => {
                let place = self.any_member();
                self.crash_for_a_while(place);
            }
            Kind::CrashVoter => {
                let place = self.any_voter();
                self.crash_for_a_while(place);
            }
            Kind::LoseDisk => self.lose_a_disk(),
            Kind::PauseMember => {
                let place = self.any_member();
                self.pause_for_a_while(place);
            }
            Kind::PauseVoter => {
                let place = self.any_voter();
                self.pause_for_a_while(place);
            }
            Kind::CutOneWay => {
                let (from, to) = (self.any_place(), self.any_place());
                self.cut_one_way(from, to);
            }
            Kind::CutNode => {
                let place = self.any_place();
                self.mute(place);
                self.deafen(place);
            }
            Kind::Deafen => {
                let place = self.any_place();
                self.deafen(place);
            }
            Kind::Mute => {
                let place = self.any_place();
                self.mute(place);
            }
            Kind::Split => self.split(),
            Kind::Mend => self.mend(),
            Kind::Drain
            | Kind::Activate
            | Kind::Remove
            | Kind::Reweight
            | Kind::Lead
            | Kind::StepDown => self.operate(kind),
            Kind::ReplaceVoter => self.replace_some_voter(),
            Kind::MisnameVoter => self.misname_voter(),
            Kind::Renounce => self.renounce(),
            Kind::Twin => self.start_twin(),
        }
    }

    /// A twin that is gone does not come back: the pod's own process does.
    pub(super) fn crash_for_a_while(&mut self, place: Place) {
        self.crash(place);
        if self.is_twin(place) {
            return;
        }
        let down = self.dice.between(Duration::ZERO, self.plan.down_most);
        self.push(down, Event::Restart { place });
    }

    /// A process that renounces lives on for a moment: what arrives then must not revive it.
    fn renounce(&mut self) {
        let place = self.any_member();
        self.renounce_at(place);
    }

    pub(crate) fn renounce_at(&mut self, place: Place) {
        let Role::Member(process) = &self.processes[place].role else { return };
        if let Some(member) = &process.running {
            self.observed.renounced(&member.writer().clone());
        }
        self.with_member(place, |member, _| member.renounce());
    }

    pub(crate) fn restart(&mut self, place: Place, after: Duration) {
        self.push(after, Event::Restart { place });
    }

    /// Never more disks than leave a majority: what nobody remembers cannot be agreed.
    fn lose_a_disk(&mut self) {
        let place = self.any_voter();
        let named = self.named_again.contains(&place);
        if !named && self.can_spare(place) {
            self.lose_disk(place);
        }
    }

    /// Starts another process of some pod, as a supervisor does that takes a stalled one for dead. It
    /// ends after a while.
    fn start_twin(&mut self) {
        if self.twins.len() >= TWINS_MOST {
            return;
        }
        let place = self.any_member();
        if self.dice.per_mille(500) {
            self.pause_for_a_while(place);
        }
        let Some(twin) = self.start_twin_of(place) else { return };
        let lives = self.dice.between(Duration::ZERO, Duration::from_millis(800));
        self.push(lives, Event::Crash { place: twin });
    }

    pub(crate) fn start_twin_of(&mut self, place: Place) -> Option<Place> {
        let Role::Member(process) = &self.processes[place].role else { return None };
        let twin = process.twin(self.observed.genesis());
        let twin = self.add(Role::Member(Box::new(twin)));
        self.start(twin);
        Some(twin)
    }

    /// One that cannot be reached is the first to go, if the operator has noticed.
    fn replace_some_voter(&mut self) {
        let latest = self.observed.latest();
        let gone = latest.voters().iter().find(|it| self.place_of_voter(it.id).is_none());
        let gone = gone.map(|entry| entry.id).filter(|_| self.dice.per_mille(500));
        match gone {
            Some(old) => self.replace_by_any(old),
            None => {
                let place = self.any_voter();
                self.replace(place);
            }
        }
    }

    fn misname_voter(&mut self) {
        let latest = self.observed.latest();
        let Some(old) = self.dice.pick(latest.voters()).map(|entry| entry.id) else { return };
        let new = entry(u128::from(self.dice.word()) << 64);
        let member = self.any_member();
        self.wish(member, &Change::ReplaceVoter { old, new });
    }

    /// Asks for a new voter in the place of the one here: one that was a voter before, or a fresh
    /// one.
    pub(super) fn replace(&mut self, place: Place) {
        let Role::Voter(voter) = &self.processes[place].role else { return };
        let old = voter.id;
        self.replace_by_any(old);
    }

    fn replace_by_any(&mut self, old: VoterId) {
        let spare = self.any_spare_voter().filter(|_| self.dice.per_mille(500));
        self.named_again.extend(spare.and_then(|id| self.place_of_voter(id)));
        let VoterId(new) = spare.unwrap_or_else(|| self.add_voter());
        let member = self.any_member();
        self.wish(member, &Change::ReplaceVoter { old, new: entry(new) });
    }

    /// Asks one member for a fresh voter in the place of this one.
    #[cfg(test)]
    pub(crate) fn replace_by_fresh(&mut self, old: VoterId, member: Place) {
        let VoterId(new) = self.add_voter();
        self.wish(member, &Change::ReplaceVoter { old, new: entry(new) });
    }

    fn add_voter(&mut self) -> VoterId {
        let id = VoterId(self.processes.len() as u128 + 100);
        self.add(Role::Voter(Box::new(VoterProcess::new(id, None))));
        id
    }

    fn pause_for_a_while(&mut self, place: Place) {
        let long = *self.dice.pick(&[20, 100, 160, 400, 1200]).unwrap_or(&20);
        let pause = self.dice.between(Duration::ZERO, Duration::from_millis(long));
        self.pause(place, pause);
    }

    pub(crate) fn pause(&mut self, place: Place, pause: Duration) {
        self.processes[place].paused_until = self.now + pause;
    }

    fn operate(&mut self, kind: Kind) {
        let (member, target) = (self.any_member(), self.any_member());
        let Role::Member(process) = &self.processes[target].role else { return };
        let pod = process.pod.id.clone();
        let group = self.groups.first().cloned();
        let change = match (kind, group) {
            (Kind::Drain, _) => Change::Drain(pod),
            (Kind::Activate, _) => Change::Activate(pod),
            (Kind::Remove, _) => Change::Remove(pod),
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

    fn any_place(&mut self) -> Place {
        self.dice.below(self.processes.len())
    }
}

/// More processes of one pod than this at a time show nothing more.
const TWINS_MOST: usize = 3;
