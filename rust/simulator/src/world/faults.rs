//! What goes wrong, what the operator does, and how it all ends.

use std::time::Duration;

use hashroute_coordination::{Change, Resource, VoterId, VoterState, WriteTag};
use hashroute_core::Weight;

use super::{Event, MemberProcess, Place, Role, VoterProcess, World, entry};
use crate::invariants::Violation;
use crate::plan::Kind;

impl World {
    pub(super) fn fault(&mut self) {
        if self.healed {
            return;
        }
        let wait = self.dice.between(Duration::ZERO, self.plan.fault_interval * 2);
        self.push(wait, Event::Fault);
        let Some(kind) = self.dice.pick(&self.plan.kinds).copied() else { return };
        match kind {
            Kind::CrashMember => {
                let place = self.any_member();
                self.crash_for_a_while(place);
            }
            Kind::CrashVoter => {
                let place = self.any_voter();
                self.crash_for_a_while(place);
            }
            Kind::LoseDisk => self.lose_disk(),
            Kind::PauseMember => {
                let place = self.any_member();
                self.pause(place);
            }
            Kind::PauseVoter => {
                let place = self.any_voter();
                self.pause(place);
            }
            Kind::CutOneWay => {
                let (from, to) = (self.any_place(), self.any_place());
                self.cut[from][to] = true;
            }
            Kind::CutNode => {
                let place = self.any_place();
                for other in 0..self.processes.len() {
                    self.cut[place][other] = true;
                    self.cut[other][place] = true;
                }
            }
            Kind::Mend => self.mend(),
            Kind::Drain | Kind::Reweight | Kind::Lead => self.operate(kind),
            Kind::ReplaceVoter => self.replace_voter(),
            Kind::Renounce => {
                let place = self.any_member();
                self.with_member(place, |member, now| member.renounce(now));
                self.crash_for_a_while(place);
            }
        }
    }

    fn crash_for_a_while(&mut self, place: Place) {
        self.crash(place);
        let down = self.dice.between(Duration::ZERO, Duration::from_millis(400));
        self.push(down, Event::Restart { place });
    }

    /// The disk is gone for good: the voter never comes back under its name.
    fn lose_disk(&mut self) {
        let place = self.any_voter();
        let latest = self.observed.latest();
        let voters = latest.voters().iter().filter_map(|entry| self.place_of_voter(entry.id));
        if voters.filter(|place| self.has_disk(*place)).count() <= latest.majority() {
            return;
        }
        self.crash(place);
        let genesis = self.observed.genesis().clone();
        let forgets = self.observed.bug == Some(hashroute_coordination::Bug::LostDiskVotes);
        if let Role::Voter(VoterProcess { disk, lost, id, .. }) = &mut self.processes[place].role {
            let blank = VoterState { id: *id, installed: genesis, promised: None, accepted: None };
            *disk = forgets.then_some(blank);
            *lost = !forgets;
        }
        if forgets {
            self.push(Duration::from_millis(1), Event::Restart { place });
        } else {
            self.replace(place);
        }
    }

    fn has_disk(&self, place: Place) -> bool {
        matches!(&self.processes[place].role, Role::Voter(VoterProcess { disk: Some(_), .. }))
    }

    fn replace_voter(&mut self) {
        let place = self.any_voter();
        self.replace(place);
    }

    /// Asks for a new voter in the place of the one that is at `place`.
    fn replace(&mut self, place: Place) {
        let Role::Voter(VoterProcess { id: old, .. }) = self.processes[place].role else { return };
        let fresh = self.processes.len() as u128 + 100;
        let role = Role::Voter(VoterProcess {
            id: VoterId(fresh),
            running: None,
            disk: None,
            lost: false,
            syncing: None,
        });
        self.add(role);
        let change = Change::ReplaceVoter { old, new: entry(fresh) };
        let member = self.any_member();
        self.wish(member, change);
    }

    fn pause(&mut self, place: Place) {
        let long = *self.dice.pick(&[20, 100, 160, 400]).unwrap_or(&20);
        let pause = self.dice.between(Duration::ZERO, Duration::from_millis(long));
        self.processes[place].paused_until = self.now + pause;
    }

    fn mend(&mut self) {
        for row in &mut self.cut {
            row.fill(false);
        }
    }

    fn operate(&mut self, kind: Kind) {
        let (member, target) = (self.any_member(), self.any_member());
        let Role::Member(MemberProcess { pod, .. }) = &self.processes[target].role else { return };
        let pod = pod.id.clone();
        let change = match kind {
            Kind::Drain => Change::Drain(pod),
            Kind::Lead => match self.groups.first() {
                Some(group) => Change::Lead { group: group.clone(), leader: pod },
                None => return,
            },
            _ => {
                let weight = *self.dice.pick(&[0.5, 1.0, 2.0]).unwrap_or(&1.0);
                let Ok(weight) = Weight::new(weight) else { return };
                Change::Reweight(pod, weight)
            }
        };
        self.wish(member, change);
    }

    /// From here on nothing fails: links are whole, and everybody runs.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        self.plan.delay_most = self.plan.delay_most.min(Duration::from_millis(2));
        self.plan.effect_most = self.plan.effect_most.min(Duration::from_millis(5));
        self.plan.sync_most = self.plan.sync_most.min(Duration::from_millis(2));
        self.mend();
        for place in 0..self.processes.len() {
            self.processes[place].paused_until = self.now;
            self.start(place);
        }
    }

    /// Every resource that has an owner is writable there, and every pod that runs takes part.
    pub(super) fn check_recovery(&mut self) -> Result<(), Violation> {
        let latest = self.observed.latest().clone();
        for slot in 0..self.plan.slots {
            let slot = hashroute_core::Slot::new(u32::try_from(slot).unwrap_or(0));
            let resource = Resource::Slot(slot);
            let tag = match latest.term(&resource) {
                Some(term) => WriteTag { epoch: latest.epoch(), term },
                None => continue,
            };
            let owner = latest.owner(&resource);
            let admitted = owner.as_ref().and_then(|owner| {
                let process = &self.processes[self.place_of_pod(&owner.pod)?];
                let Role::Member(MemberProcess { running, .. }) = &process.role else {
                    return None;
                };
                let now = process.clock.local(self.now);
                running.as_ref()?.admit(now, &resource, tag).ok()
            });
            if admitted.is_none() && !self.all_drained(&latest) {
                return Err(Violation::new(
                    "recovery",
                    format!("{resource:?} has no writer at the end: {}", self.describe()),
                ));
            }
        }
        Ok(())
    }

    /// What every process that runs goes by, for a person.
    fn describe(&self) -> String {
        let processes = self.processes.iter().enumerate().map(|(place, process)| {
            let now = process.clock.local(self.now);
            match &process.role {
                Role::Voter(voter) => match &voter.running {
                    Some(running) => format!(
                        "{place} voter {}: epoch {}, accepted {:?}",
                        voter.id.0,
                        running.state().installed.epoch(),
                        running.state().accepted,
                    ),
                    None => format!("{place} voter {}: not running", voter.id.0),
                },
                Role::Member(member) => match &member.running {
                    Some(running) => format!(
                        "{place} {}: epoch {}, lease {}, {running:?}",
                        member.pod.id,
                        running.record().epoch(),
                        running.lease().is_valid(now),
                    ),
                    None => format!("{place} {}: not running", member.pod.id),
                },
            }
        });
        let latest = format!("latest {:?}", self.observed.latest());
        processes.chain([latest]).collect::<Vec<_>>().join("\n    ")
    }

    /// Whether the operator left no pod that may own slots.
    fn all_drained(&self, latest: &hashroute_coordination::Record) -> bool {
        latest.view().pods().iter().all(|pod| !pod.state.owns_slots())
            && latest
                .view()
                .pods()
                .iter()
                .any(|pod| pod.state == hashroute_core::PodState::Draining)
    }

    fn any_voter(&mut self) -> Place {
        let voters: Vec<Place> = (0..self.processes.len())
            .filter(|place| {
                matches!(&self.processes[*place].role, Role::Voter(voter) if voter.disk.is_some())
            })
            .collect();
        *self.dice.pick(&voters).unwrap_or(&0)
    }

    fn any_place(&mut self) -> Place {
        self.dice.below(self.processes.len())
    }
}
