//! What a guard decides on: its own rules say what a request writes, the tag is compared.

use super::{Tag, TagError, Target};
use core::fmt;
use thiserror::Error;

/// What a guard finds by its own rules that a request writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This.
    Target(Target),
    /// The slot of a key that only the router could see: its caller's address.
    AtRouter,
}

/// Why a write is not judged at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untagged {
    /// It has no tag, and must have one.
    #[error(
        "the write does not say by which record it was routed: send it through a router, or set \
         guard.untagged = \"own\""
    )]
    NoTag,
    /// Its tag is none.
    #[error("{0}")]
    Malformed(#[from] TagError),
    /// It was routed for another resource.
    #[error(
        "the write was routed for {tagged}, and by the rules here it writes {}: the router's rules \
         or its view are other ones",
        Words(.found.as_ref())
    )]
    Elsewhere {
        /// What the tag says.
        tagged: Target,
        /// What was found.
        found: Option<Target>,
    },
}

/// What was found, in words.
struct Words<'a>(Option<&'a Target>);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(target) => target.fmt(f),
            None => f.write_str("the slot of a key"),
        }
    }
}

/// The resource that a guard decides on, for a write with this tag.
///
/// # Errors
///
/// [`Untagged::Elsewhere`] if the tag is for another resource than the guard found.
pub fn agreed(found: Found, tag: Option<&Tag>) -> Result<Target, Untagged> {
    match (found, tag.map(|tag| &tag.target)) {
        (Found::Target(found), None) => Ok(found),
        (Found::Target(found), Some(tagged)) if found == *tagged => Ok(found),
        (Found::Target(found), Some(tagged)) => {
            Err(Untagged::Elsewhere { tagged: tagged.clone(), found: Some(found) })
        }
        (Found::AtRouter, Some(slot @ Target::Slot(_))) => Ok(slot.clone()),
        (Found::AtRouter, Some(group @ Target::Group(_))) => {
            Err(Untagged::Elsewhere { tagged: group.clone(), found: None })
        }
        (Found::AtRouter, None) => Err(Untagged::NoTag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::GroupName;
    use hashroute_core::{Epoch, Slot};

    fn slot(number: u32) -> Target {
        Target::Slot(Slot::new(number))
    }

    fn group(name: &str) -> Target {
        Target::Group(GroupName::new(name).unwrap())
    }

    fn tag(target: Target) -> Tag {
        Tag { target, epoch: Epoch::new(3), term: Epoch::new(2) }
    }

    #[test]
    fn a_tag_for_another_resource_is_none() {
        for (found, tagged) in [
            (slot(5), slot(6)),
            (slot(5), group("a")),
            (group("a"), group("b")),
            (group("a"), slot(5)),
        ] {
            let error = Untagged::Elsewhere { tagged: tagged.clone(), found: Some(found.clone()) };
            let text = error.to_string();
            assert!(
                text.contains(&found.to_string()) && text.contains(&tagged.to_string()),
                "{text}"
            );
            assert_eq!(agreed(Found::Target(found), Some(&tag(tagged))), Err(error));
        }
    }

    #[test]
    fn what_the_guard_finds_itself_counts() {
        for target in [slot(5), group("a")] {
            assert_eq!(agreed(Found::Target(target.clone()), None), Ok(target.clone()));
            assert_eq!(
                agreed(Found::Target(target.clone()), Some(&tag(target.clone()))),
                Ok(target)
            );
        }
    }

    #[test]
    fn a_slot_that_only_the_router_can_know_is_believed_and_a_group_is_not() {
        assert_eq!(agreed(Found::AtRouter, Some(&tag(slot(5)))), Ok(slot(5)));
        let error = agreed(Found::AtRouter, Some(&tag(group("a")))).unwrap_err();
        assert!(error.to_string().contains("the slot of a key"), "{error}");
        assert_eq!(agreed(Found::AtRouter, None), Err(Untagged::NoTag));
    }
}
