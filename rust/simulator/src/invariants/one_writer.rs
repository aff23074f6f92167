//! At the instant a guard admits a write, no record is chosen that gives the resource to another:
//! then at most one process's writes are accepted for a resource at any time.

use std::collections::BTreeMap;

use hashroute_coordination::{Record, Resource, Writer};
use hashroute_core::Epoch;

use super::Violation;

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
        "{writer:?} admitted a write of {resource:?} at epoch {}, and epoch {} gives it to {:?}",
        record.epoch(),
        other.epoch(),
        other.owner(resource)
    );
    Some(Violation::new("one_writer", seen))
}
