//! A refused write as the Python error that stands for it.
use hashroute_coordination::WriteRefusal;
use hashroute_core::Epoch;
use hashroute_dataplane::error::Outcome;
use hashroute_dataplane::refusal::Refusal;
use hashroute_dataplane::write::{GaveUp, Target, Why};
use hashroute_sidecar::explain;

use crate::error_reply::outcome_word;
use crate::failure::Failure;

/// `epoch` is that of the newest record, for refusals that name none.
pub(crate) fn failure(target: &Target, refused: &WriteRefusal, epoch: Epoch) -> Failure {
    let text = explain(refused, target);
    let failure = match refused {
        WriteRefusal::NotOwner { epoch, owner, .. } => {
            let failure = Failure::new("not_owner", text).with("epoch", epoch.get());
            match owner {
                Some(owner) => failure.with("owner", owner.pod.as_str()),
                None => failure,
            }
        }
        WriteRefusal::StaleTerm { expected, got } => Failure::new("stale_term", text)
            .with("epoch", epoch.get())
            .with("term", expected.get())
            .with("got", got.get()),
        WriteRefusal::Behind { installed, got } => {
            Failure::new("behind", text).with("epoch", installed.get()).with("got", got.get())
        }
        WriteRefusal::Moving { .. } => Failure::new("moving", text).with("epoch", epoch.get()),
        WriteRefusal::NoLease => Failure::new("no_lease", text).with("epoch", epoch.get()),
    };
    match target {
        Target::Slot(slot) => failure.with("slot", u64::from(slot.get())),
        Target::Group(name) => failure.with("group", &**name.as_arc()),
    }
}

/// The refusal of every key, by a record without a ring.
pub(crate) fn nobody_owns(epoch: Epoch) -> Failure {
    let text = format!("no pod owns slots at epoch {}: none has joined", epoch.get());
    Failure::new("not_owner", text).with("epoch", epoch.get())
}

/// The refusal of everything, by a process that knows no record.
pub(crate) fn no_record() -> Failure {
    let text = "this process knows no record of the cluster yet: no voter has told it one";
    Failure::new("no_lease", text).with("epoch", 0_u64)
}

/// The error with which a write ends that no pod answered.
pub(crate) fn gave_up(end: GaveUp) -> Failure {
    let outcome = outcome_word(end.outcome);
    let about = match end.why {
        Why::PatienceOver => "no pod accepted the write in time",
        Why::Final => "the write was refused, and would be again",
        Why::NotReplayable => "the write cannot be sent again: not all of it is at hand any more",
        Why::MayBeApplied => "the pod was lost before its answer",
        Why::OwnerReplaced => {
            "what is written went to another owner, and the pod that had the write did not answer"
        }
    };
    let last = end.refusal.map(|word| format!(": the last pod {}", word.says()));
    let advice = match end.outcome {
        Outcome::NotApplied => "nothing was applied, so it is safe to send it again",
        Outcome::Unknown => "it may have been carried out: send it again only if that does no harm",
    };
    let text = format!("{about}{}; {advice}", last.unwrap_or_default());
    Failure::new(end.refusal.map_or("unavailable", code), text).with("outcome", outcome)
}

/// Python's spelling of a refusal: an identifier, not a word on the wire.
pub(crate) fn code(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NotOwner => "not_owner",
        Refusal::StaleTerm => "stale_term",
        Refusal::Behind => "behind",
        Refusal::Moving => "moving",
        Refusal::NoLease => "no_lease",
        Refusal::Untagged => "untagged",
    }
}
