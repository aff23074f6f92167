//! At the instant a guard admits a write, no record is chosen that gives the resource to another:
//! then at most one process's writes are accepted for a resource at any time.
//!
//! It is not only checked for writes that happen to arrive: at every step, each member that does
//! not know of a record yet is asked whether it *would* admit what that record gives to another.

use std::sync::Arc;

use hashroute_coordination::{Record, Resource, Writer};
use hashroute_core::Slot;

use super::chosen::Chosen;
use super::{Invariant, Violation};

/// `writer`, going by `record`, admitted a write.
pub(crate) fn admitted(
    chosen: &Chosen,
    writer: &Writer,
    record: &Record,
    resource: &Resource,
) -> Option<Violation> {
    let later = chosen.since(record.epoch());
    let other = later.iter().find(|later| later.writer_of(resource) != Some(writer))?;
    let seen = format!(
        "{writer:?} admits writes of {resource:?} at epoch {}, and epoch {} gives it to {:?}",
        record.epoch(),
        other.epoch(),
        other.owner(resource)
    );
    Some(Violation::new(Invariant::OneWriter, seen))
}

/// What `writer` owns by `record`, and a later record gives to another.
pub(crate) fn lost<'a>(
    chosen: &'a Chosen,
    writer: &'a Writer,
    record: &'a Record,
) -> impl Iterator<Item = Resource> + 'a {
    let later = chosen.since(record.epoch()).get(1..).unwrap_or_default();
    let slots = (0..record.view().parameters().slots()).map(|slot| Resource::Slot(Slot::new(slot)));
    let groups = record.groups().iter().map(|group| Resource::Group(Arc::clone(&group.name)));
    let owns =
        move |record: &Record, resource: &Resource| record.writer_of(resource) == Some(writer);
    let lost = move |resource: &Resource| later.iter().any(|later| !owns(later, resource));
    slots.chain(groups).filter(move |resource| owns(record, resource) && lost(resource))
}
