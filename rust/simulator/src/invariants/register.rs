//! The agreed record is a linearizable register: a change that was reported as made is part of the
//! one history of records, at an epoch chosen after it was asked for and before it was reported.
//! Else an operator who drains a pod, sees it done and pulls the plug could be looking at a drain
//! of last week.

use std::collections::BTreeSet;

use hashroute_coordination::{Change, Writer};
use hashroute_core::Epoch;

use super::chosen::Chosen;
use super::{Invariant, Violation};

/// What was asked for and what was made.
#[derive(Clone, Default, Hash)]
pub(crate) struct Changes {
    /// Changes asked for, by whom, and the latest epoch at that time.
    asked: Vec<(Writer, Change, Epoch)>,
    /// The epochs at which changes were made: one change each.
    made: BTreeSet<Epoch>,
}

impl Changes {
    pub(crate) fn asked(&mut self, writer: &Writer, change: &Change, latest: Epoch) {
        self.asked.push((writer.clone(), change.clone(), latest));
    }
}

/// `writer` reports that the change was made at `epoch`.
pub(crate) fn made(
    changes: &mut Changes,
    chosen: &Chosen,
    writer: &Writer,
    change: &Change,
    epoch: Epoch,
) -> Option<Violation> {
    let broken = |seen: String| Some(Violation::new(Invariant::Register, seen));
    let place = changes.asked.iter().position(|(by, wish, _)| by == writer && wish == change);
    let Some((_, _, latest)) = place.map(|place| changes.asked.remove(place)) else {
        return broken(format!("{change:?} was made, and nobody asked {writer:?} for it"));
    };
    if epoch <= latest {
        return broken(format!(
            "{change:?} was asked for when epoch {latest} was chosen, and made at {epoch}"
        ));
    }
    if !changes.made.insert(epoch) {
        return broken(format!("{change:?} was made at epoch {epoch}, and another one was too"));
    }
    let Some(record) = chosen.get(epoch) else {
        return broken(format!("{change:?} was made at epoch {epoch}, which is not chosen"));
    };
    let again = record.next(change).ok()?;
    let same = again.view().pods() == record.view().pods() && again.voters() == record.voters();
    if same { None } else { broken(format!("{change:?} was made at {epoch}, and is not in it")) }
}
