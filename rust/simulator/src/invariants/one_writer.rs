//! At the instant a guard admits a write, no record is chosen that gives the resource to another:
//! then at most one process's writes are accepted for a resource at any time.
//!
//! It is not only checked for writes that happen to arrive: at every step, each member that does
//! not know of a record yet is asked whether it *would* admit what that record gives to another.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashroute_coordination::{Record, Resource, Writer};
use hashroute_core::{Epoch, Slot};

use super::{Invariant, Violation};

/// `writer`, going by `record`, admitted a write.
pub(crate) fn admitted(
    chosen: &BTreeMap<Epoch, Record>,
    writer: &Writer,
    record: &Record,
    resource: &Resource,
) -> Option<Violation> {
    let other = chosen
        .range(record.epoch()..)
        .map(|(_, later)| later)
        .find(|later| later.owner(resource).as_ref() != Some(writer))?;
    let seen = format!(
        "{writer:?} admits writes of {resource:?} at epoch {}, and epoch {} gives it to {:?}",
        record.epoch(),
        other.epoch(),
        other.owner(resource)
    );
    Some(Violation::new(Invariant::OneWriter, seen))
}

/// What `writer` owns by `record`, and a later record gives to another.
pub(crate) fn lost(
    chosen: &BTreeMap<Epoch, Record>,
    writer: &Writer,
    record: &Record,
) -> Vec<Resource> {
    let Some(next) = record.epoch().next().ok().filter(|next| chosen.contains_key(next)) else {
        return Vec::new();
    };
    let later: Vec<&Record> = chosen.range(next..).map(|(_, later)| later).collect();
    let slots = (0..record.view().parameters().slots()).map(|slot| Resource::Slot(Slot::new(slot)));
    let groups = record.groups().iter().map(|group| Resource::Group(Arc::clone(&group.name)));
    let owns =
        |record: &Record, resource: &Resource| record.owner(resource).as_ref() == Some(writer);
    slots
        .chain(groups)
        .filter(|it| owns(record, it) && later.iter().any(|later| !owns(later, it)))
        .collect()
}
