//! A change that the host of a node asks for, as JSON.
use std::time::Duration;

use hashroute_core::Epoch;

use crate::error::ChangeFailed;
use crate::node::Node;
use crate::operator::change::{self, Asked};
use crate::wire;

impl Node {
    /// As [`Node::change`], for a change given as JSON in the words of
    /// [`Operator::change`](crate::Operator::change). A voter is replaced by operators alone, since
    /// that takes a call to the new one.
    ///
    /// # Errors
    ///
    /// [`ChangeFailed`].
    pub fn change_json(&self, change: &str, patience: Duration) -> Result<Epoch, ChangeFailed> {
        let told = |code: &str, message: String| {
            Err(ChangeFailed::Told { code: code.to_owned(), message })
        };
        let asked = change::parse(change)?;
        if matches!(asked, Asked::ReplaceVoter { .. }) {
            let message = "a voter is replaced from outside: use `hashroute quorum replace-voter`";
            return told("change_malformed", message.to_owned());
        }
        let Some(record) = self.record() else {
            let message = "this process knows no record yet, which could be changed";
            return told("no_record", message.to_owned());
        };
        match wire::change(&change::message(&asked), &record) {
            Ok(change) => self.change(change, patience),
            Err(error) => told("change_malformed", error.to_string()),
        }
    }
}
