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
            let pod = usize::from(*was);
            loses[pod] |= was_by_pod[pod] != is_by_pod[usize::from(*is)];
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
        if !self.terms_after(before, planted).eq(self.0.terms.iter().copied())
            || self.groups_after(before) != self.0.groups
        {
            return malformed("a term is not the one that the owners' history gives");
        }
        Ok(())
    }

    /// By slot: it keeps its term while its writer stays; every other one begins its term here.
    pub(crate) fn terms_after(&self, before: &Self, planted: Planted) -> impl Iterator<Item = u64> {
        let slots = self.0.view.parameters().slots() as usize;
        let (old, new) = (&before.0.by_pod, &self.0.by_pod);
        let (was_by_pod, is_by_pod) = if planted.has(Bug::TermReused) {
            let pods = |writers: &[Option<Writer>]| -> Vec<_> {
                writers.iter().map(|writer| writer.as_ref().map(|it| it.pod.clone())).collect()
            };
            numbered(&pods(old), &pods(new))
        } else {
            numbered(old, new)
        };
        let epoch = self.epoch().get();
        let kept = before.0.terms.iter().zip(before.table()).zip(self.table());
        let terms = kept.map(move |((kept, was), is)| {
            // Which slots move is a matter of chance: a choice between two numbers, not a branch.
            let stays = was_by_pod[usize::from(*was)] == is_by_pod[usize::from(*is)];
            if stays { *kept } else { epoch }
        });
        // Where nobody owned anything, or nobody does.
        terms.chain(std::iter::repeat(epoch)).take(slots)
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
/// slot, without a look at any name. Nobody before is another than nobody after.
fn numbered<T: Ord>(one: &[Option<T>], other: &[Option<T>]) -> (Vec<u32>, Vec<u32>) {
    let different: BTreeSet<&T> = one.iter().chain(other).flatten().collect();
    let number_of: BTreeMap<&T, u32> = different.into_iter().zip(2..).collect();
    let numbers = |list: &[Option<T>], nobody: u32| -> Vec<u32> {
        let number = |it: &Option<T>| it.as_ref().and_then(|it| number_of.get(it).copied());
        list.iter().map(|it| number(it).unwrap_or(nobody)).collect()
    };
    (numbers(one, 0), numbers(other, 1))
}
