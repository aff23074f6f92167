//! A write that was routed by the term of an earlier owner is refused, also where that owner got
//! the resource back: a copy of it may have been written under another's term since, and newer
//! writes after it.

use hashroute_coordination::{Record, Resource, WriteTag};

use super::{Invariant, Violation};

/// The guard of a member that goes by `record` admitted a write with this tag.
pub(crate) fn admitted(record: &Record, resource: &Resource, tag: WriteTag) -> Option<Violation> {
    let term = record.term(resource)?;
    if tag.term >= term {
        return None;
    }
    let seen =
        format!("{resource:?}: a write routed under term {} was admitted under {term}", tag.term);
    Some(Violation::new(Invariant::StaleRoutes, seen))
}
