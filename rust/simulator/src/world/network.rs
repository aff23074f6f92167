//! Links: they lose, repeat, delay and reorder, and can be cut in each direction.

use std::time::Duration;

use hashroute_coordination::{FromVoter, ToPeer, ToVoter, VoterId};
use hashroute_core::PodId;

use super::event::Event;
use super::{Place, Role, World};

impl World {
    pub(super) fn member_says_to_voter(
        &mut self,
        from: Place,
        me: &PodId,
        to: VoterId,
        message: ToVoter,
    ) {
        let Some(place) = self.place_of_voter(to) else { return };
        self.send(from, place, Event::ToVoter { place, from: me.clone(), message });
    }

    pub(super) fn member_says_to_peer(
        &mut self,
        from: Place,
        me: &PodId,
        to: &PodId,
        message: ToPeer,
    ) {
        if self.twins.is_empty() {
            let Some(place) = self.place_of_pod(to) else { return };
            return self.send(from, place, Event::ToPeer { place, from: me.clone(), message });
        }
        for place in self.places_of_pod(to) {
            let (from_pod, message) = (me.clone(), message.clone());
            self.send(from, place, Event::ToPeer { place, from: from_pod, message });
        }
    }

    pub(super) fn voter_says(&mut self, from: Place, to: &PodId, message: FromVoter) {
        let Role::Voter(voter) = &self.processes[from].role else { return };
        let by = voter.id;
        if self.twins.is_empty() {
            let Some(place) = self.place_of_pod(to) else { return };
            return self.send(from, place, Event::FromVoter { place, by, message });
        }
        for place in self.places_of_pod(to) {
            let message = message.clone();
            self.send(from, place, Event::FromVoter { place, by, message });
        }
    }

    fn send(&mut self, from: Place, to: Place, event: Event) {
        if self.cut[from][to] || self.one_in(self.plan.loss_per_mille) {
            return;
        }
        if self.one_in(self.plan.duplicates_per_mille) {
            let delay = self.delay();
            self.push(delay, event.clone());
        }
        let delay = self.delay();
        self.push(delay, event);
    }

    /// How long a message takes.
    pub(super) fn delay(&mut self) -> Duration {
        let delay = self.dice.between(Duration::from_micros(30), self.plan.delay_most);
        if self.one_in(self.plan.stragglers_per_mille) {
            return delay + self.dice.between(Duration::ZERO, self.plan.straggler_most);
        }
        delay
    }

    /// Whether a fault of this chance in a thousand happens now. None does once all is healed.
    fn one_in(&mut self, per_mille: usize) -> bool {
        !self.healed && self.dice.per_mille(per_mille)
    }

    /// One process does not hear the other any more.
    pub(crate) fn cut_one_way(&mut self, from: Place, to: Place) {
        self.cut[from][to] = true;
    }

    #[cfg(test)]
    pub(crate) fn mend_one_way(&mut self, from: Place, to: Place) {
        self.cut[from][to] = false;
    }

    /// Nobody hears this process any more.
    pub(crate) fn mute(&mut self, place: Place) {
        self.cut[place].fill(true);
    }

    /// This process hears nobody any more.
    pub(crate) fn deafen(&mut self, place: Place) {
        self.cut.iter_mut().for_each(|row| row[place] = true);
    }

    /// Some hear only each other, and so do the others.
    pub(super) fn split(&mut self) {
        let places = self.processes.len();
        let side: Vec<bool> = (0..places).map(|_| self.dice.per_mille(500)).collect();
        for from in 0..places {
            for to in 0..places {
                self.cut[from][to] |= side[from] != side[to];
            }
        }
    }

    pub(super) fn mend(&mut self) {
        self.cut.iter_mut().for_each(|row| row.fill(false));
    }
}
