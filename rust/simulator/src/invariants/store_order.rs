//! The terms of the effects that a store accepts for a resource never fall, and each effect comes
//! from the process that owned the resource at its term. Else a slow writer could undo what its
//! successor did.

use std::collections::BTreeMap;

use hashroute_coordination::Resource;
use hashroute_core::Epoch;

use super::chosen::Chosen;
use super::{Invariant, Violation};
use crate::world::Effect;

/// What the store holds: the highest term for each resource.
#[derive(Clone, Default, Hash)]
pub(crate) struct Store(BTreeMap<Resource, Epoch>);

/// An effect arrives. A fenced store refuses one with a lower term than it has seen.
pub(crate) fn arrived(
    store: &mut Store,
    chosen: &Chosen,
    effect: &Effect,
    fenced: bool,
) -> Option<Violation> {
    let Effect { resource, term, writer, .. } = effect;
    let highest = store.0.entry(resource.clone()).or_insert(*term);
    if *term < *highest {
        let seen = format!("{resource:?}: term {term} of {writer:?} after term {highest}");
        return (!fenced).then(|| Violation::new(Invariant::StoreOrder, seen));
    }
    *highest = *term;
    let owner = chosen.get(*term).and_then(|record| record.owner(resource));
    if owner.as_ref() == Some(writer) {
        return None;
    }
    let seen = format!("{resource:?}: {writer:?} wrote under term {term}, when {owner:?} owned it");
    Some(Violation::new(Invariant::StoreOrder, seen))
}
