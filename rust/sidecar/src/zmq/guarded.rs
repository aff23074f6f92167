//! A request behind a guard: passed on to the own service if it is no write, or if it is admitted.
use std::sync::Arc;

use hashroute_core::Slot;
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::route::Writes;
use hashroute_dataplane::write::{Found, Tag, Target, Untagged, agreed};
use hashroute_dataplane::zmtp::{ErrorReply, RequestId, encode_envelope, nth_frame, split_tag};

use super::dispatch::Place;
use super::link::{Admission, Link};
use super::outbox::Outbox;
use super::refusal;
use super::relay::{Errand, NoErrand, Pending, Relay, Turn};
use crate::quorum::{Admitted, WriteGuard, explain, refused, resource, write_tag};
use crate::settings::Untagged as UntaggedPolicy;

/// A guard and the way to the service behind it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) guard: Arc<dyn WriteGuard>,
    pub(super) untagged: UntaggedPolicy,
    /// The link to the service.
    pub(super) link: usize,
}

/// What is remembered of a request that goes to the service.
#[derive(Debug)]
pub(super) struct Guarded {
    /// How much of the content is the tag, which the service does not see.
    tag_bytes: usize,
    /// Of a write: it is under way until this is dropped.
    _admission: Option<Box<dyn Admitted>>,
}

impl Guarded {
    /// Queues the message without its tag.
    pub(super) fn put_message(&self, pending: &Pending, outbox: &mut Outbox) {
        if self.tag_bytes == 0 {
            return outbox.share(&pending.payload);
        }
        let content = pending.content();
        let content = content.slice(self.tag_bytes.min(content.len())..);
        outbox.encode(|tail| encode_envelope(tail, pending.envelope(), !content.is_empty()));
        outbox.share(&content);
    }
}

impl Relay {
    /// Decides whether a request with this content goes to the service.
    pub(super) fn judge(
        &self,
        turn: Turn<'_>,
        content: &[u8],
    ) -> Result<(Errand, Option<Slot>), NoErrand> {
        let (frame, rest) = split_tag(content);
        let metrics = &self.shared.metrics.guard;
        let admission = match turn.routing.rules.zmq.writes() {
            Some(writes) => Some(self.admit(turn, &writes, frame, rest)?),
            None if frame.is_none() => {
                metrics.passed.increment();
                None
            }
            None => {
                let text = "the write was routed by a record, and by the rules here it is none: give \
                            both zmq.write, or neither";
                return Err(self.refuse_untagged(turn, text.to_owned()));
            }
        };
        let tag_bytes = content.len() - rest.len();
        Ok((Errand::Guarded(Guarded { tag_bytes, _admission: admission }), None))
    }

    /// Gives a request to the service.
    pub(super) fn pass_on(&mut self, turn: Turn<'_>, request: RequestId) {
        let Some(door) = &self.door else { return };
        let key = door.link;
        let link = self.links.get(key);
        let admission = link.map_or(Admission::Unreachable, |link: &Link| {
            link.admission(turn.now, turn.routing.rules.health.timeout)
        });
        let must_wait = match admission {
            Admission::Send => false,
            Admission::Wait => true,
            Admission::Unreachable => return self.fail(turn, request, &refusal::no_service()),
            Admission::Full => return self.fail(turn, request, &refusal::service_full()),
        };
        self.put(request, Place { link: key, permit: None, must_wait });
    }

    fn admit(
        &self,
        turn: Turn<'_>,
        writes: &Writes,
        frame: Option<&[u8]>,
        rest: &[u8],
    ) -> Result<Box<dyn Admitted>, NoErrand> {
        let (target, tag) = self.find_target(turn, writes, frame, rest)?;
        let Some(door) = &self.door else {
            return Err(NoErrand::Wrong(refusal::no_service()));
        };
        let metrics = &self.shared.metrics.guard;
        match door.guard.admit(&resource(&target), tag.as_ref().map(write_tag)) {
            Ok(admission) => {
                metrics.admitted.increment();
                Ok(admission)
            }
            Err(why) => {
                let refused = refused(&why, turn.record_epoch());
                Err(self.refuse(refused, explain(&why, &target)))
            }
        }
    }

    /// What the request writes, and its tag.
    fn find_target(
        &self,
        turn: Turn<'_>,
        writes: &Writes,
        frame: Option<&[u8]>,
        rest: &[u8],
    ) -> Result<(Target, Option<Tag>), NoErrand> {
        let untagged = |why: &Untagged| self.refuse_untagged(turn, why.to_string());
        let tag = match frame.map(Tag::from_frame).transpose() {
            Ok(tag) => tag.flatten(),
            Err(error) => return Err(untagged(&error.into())),
        };
        let rejects = self.door.as_ref().is_none_or(|door| door.untagged == UntaggedPolicy::Reject);
        if tag.is_none() && rejects {
            return Err(untagged(&Untagged::NoTag));
        }
        let found = match writes {
            Writes::Group(group) => Target::Group(group.clone()),
            Writes::Slot => {
                let key_frame = turn.routing.rules.zmq.key_frame;
                let key = nth_frame(rest, key_frame);
                let missing = || NoErrand::Wrong(refusal::missing_key(key_frame));
                Target::Slot(turn.routing.ring.slot(key.ok_or_else(missing)?))
            }
        };
        let target =
            agreed(Found::Target(found), tag.as_ref()).map_err(|error| untagged(&error))?;
        Ok((target, tag))
    }

    fn refuse_untagged(&self, turn: Turn<'_>, text: String) -> NoErrand {
        let epoch = Some(turn.record_epoch());
        self.refuse(Refused { refusal: Refusal::Untagged, epoch }, text)
    }

    fn refuse(&self, refused: Refused, text: String) -> NoErrand {
        self.shared.metrics.guard.refused.increment(refused.refusal);
        let (code, outcome) = (ErrorCode::Refused, Outcome::NotApplied);
        NoErrand::Refused(ErrorReply { code, outcome, refused: Some(refused), text })
    }
}
