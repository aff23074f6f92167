//! Two records, one after the other: who loses what, and what keeps its term.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::{Group, Parts, Record, Resource, Writer};
use crate::error::ChangeError;
use crate::planted::{Bug, Planted};

impl Record {
    /// The writers that own something here and do not own all of it in `next`, in order.
    ///
    /// Cost: one look at every slot; after the first time a copy, if it is the same two records.
    #[must_use]
    pub fn losers(&self, next: &Self) -> Vec<Writer> {
        self.shared_losers(next).to_vec()
    }

    /// The same without a copy.
    pub(crate) fn shared_losers(&self, next: &Self) -> Arc<[Writer]> {
        let found = next.0.since.losers.get_or_init(|| self.with_losers(next));
        if std::ptr::eq(found.0.as_ptr(), Arc::as_ptr(&self.0)) {
            return Arc::clone(&found.1);
        }
        self.with_losers(next).1
    }

    fn with_losers(&self, next: &Self) -> (Weak<Parts>, Arc<[Writer]>) {
        let writers = &self.0.by_pod;
        let (was_by_pod, is_by_pod) = numbered(writers, &next.0.by_pod);
        let mut loses = vec![false; writers.len()];
        for (was, is) in self.table().iter().zip(next.table()) {
            let (pod, is) = (usize::from(*was), is_by_pod[usize::from(*is)]);
            loses[pod] |= was_by_pod[pod].is_some() && was_by_pod[pod] != is;
        }
        if next.table().is_empty() {
            self.table().iter().for_each(|was| loses[usize::from(*was)] = true);
        }
        for group in &self.0.groups {
            let resource = Resource::Group(Arc::clone(&group.name));
            let Some(leader) = &group.leader else { continue };
            if let Some(index) = self.0.view.index_of(leader.as_str())
                && self.writer_of(&resource) != next.writer_of(&resource)
            {
                loses[index.as_usize()] = true;
            }
        }
        let writers = writers.iter().zip(loses);
        let losers = writers.filter_map(|(writer, lost)| writer.clone().filter(|_| lost));
        (Arc::downgrade(&self.0), losers.collect())
    }

    /// Checks that this record may follow `before`: the next epoch of the same cluster, at most one
    /// voter replaced, and the terms of exactly those resources new that have another writer.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Malformed`], saying which of these does not hold.
    pub fn check_follows(&self, before: &Self) -> Result<(), ChangeError> {
        self.check_follows_planted(before, Planted::default())
    }

    pub(crate) fn check_follows_planted(
        &self,
        before: &Self,
        planted: Planted,
    ) -> Result<(), ChangeError> {
        let found = self.0.since.follows.get_or_init(|| {
            (Arc::downgrade(&before.0), self.compare_with_planted(before, planted))
        });
        if std::ptr::eq(found.0.as_ptr(), Arc::as_ptr(&before.0)) {
            return found.1.clone();
        }
        self.compare_with_planted(before, planted)
    }

    fn compare_with_planted(&self, before: &Self, planted: Planted) -> Result<(), ChangeError> {
        let malformed = |what| Err(ChangeError::Malformed { what });
        if self.cluster() != before.cluster() || self.parameters() != before.parameters() {
            return malformed("the record is of another cluster");
        }
        if before.epoch().next().ok() != Some(self.epoch()) {
            return malformed("the epoch is not the next one");
        }
        if self.table().len() != before.table().len()
            && !self.table().is_empty()
            && !before.table().is_empty()
        {
            return malformed("the number of slots is another");
        }
        let new_voters = self.voters().iter().filter(|entry| !before.has_voter(entry.id)).count();
        let most = if planted.has(Bug::TwoVotersAtOnce) { 2 } else { 1 };
        if new_voters > most || self.voters().len() != before.voters().len() {
            return malformed("more than one voter is replaced");
        }
        if self.terms_after(before, planted) != self.0.terms
            || self.groups_after(before) != self.0.groups
        {
            return malformed("a term is not the one that the owners' history gives");
        }
        Ok(())
    }

    /// A slot keeps its term while its writer stays; every other one begins its term here.
    pub(crate) fn terms_after(&self, before: &Self, planted: Planted) -> Vec<u64> {
        let mut terms = vec![self.epoch().get(); self.0.view.parameters().slots() as usize];
        let (old, new) = (&before.0.by_pod, &self.0.by_pod);
        let (was_by_pod, is_by_pod) = if planted.has(Bug::TermReused) {
            let pods = |writers: &[Option<Writer>]| -> Vec<_> {
                writers.iter().map(|writer| writer.as_ref().map(|it| it.pod.clone())).collect()
            };
            numbered(&pods(old), &pods(new))
        } else {
            numbered(old, new)
        };
        let tables = before.table().iter().zip(self.table());
        for ((term, kept), (was, is)) in terms.iter_mut().zip(&before.0.terms).zip(tables) {
            let (was, is) = (was_by_pod[usize::from(*was)], is_by_pod[usize::from(*is)]);
            if is.is_some() && was == is {
                *term = *kept;
            }
        }
        terms
    }

    /// The same for groups.
    pub(crate) fn groups_after(&self, before: &Self) -> Vec<Group> {
        let mut groups = self.0.groups.clone();
        for group in &mut groups {
            let resource = Resource::Group(Arc::clone(&group.name));
            let owner = self.writer_of(&resource);
            let kept = before.group(&group.name).filter(|_| owner.is_some());
            group.term = match kept {
                Some(old) if before.writer_of(&resource) == owner => old.term,
                Some(_) | None => self.epoch(),
            };
        }
        groups
    }
}

/// Equal ones get equal numbers, in both lists: to compare who has a slot before and after, slot by
/// slot, without a look at any name.
fn numbered<T: Ord>(one: &[Option<T>], other: &[Option<T>]) -> (Numbers, Numbers) {
    let different: BTreeSet<&T> = one.iter().chain(other).flatten().collect();
    let number_of: BTreeMap<&T, u32> = different.into_iter().zip(0..).collect();
    let numbers = |list: &[Option<T>]| -> Numbers {
        list.iter().map(|it| it.as_ref().and_then(|it| number_of.get(it).copied())).collect()
    };
    (numbers(one), numbers(other))
}

/// By pod; none where there is no writer.
type Numbers = Vec<Option<u32>>;
