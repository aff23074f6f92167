//! A request behind a guard: passed on to the own service if it is no write, or if it is admitted.
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hashroute_core::Epoch;
use hashroute_dataplane::error::{ErrorCode, Outcome};
use hashroute_dataplane::grpc::Status;
use hashroute_dataplane::key::KeySearch;
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::retry::Failure;
use hashroute_dataplane::route::{Route, Writes};
use hashroute_dataplane::write::{Found, Tag, Target, Untagged, agreed};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::attempt::{UNREACHABLE, describe, unsendable};
use super::call::{Call, Failed};
use super::exchange::{AnswerNote, Ended, Exchange};
use super::gateway::Door;
use super::reply::ErrorReply;
use super::transit::Stopped;
use super::upstream::{NotOpened, Patience};
use crate::quorum::{Admitted, explain, refused, resource, write_tag};
use crate::settings::Untagged as UntaggedPolicy;

impl Call {
    /// Judges a request and passes it on to the service, or refuses it.
    pub(super) async fn pass_guard(
        &mut self,
        door: &Door,
        route: &Route,
    ) -> Result<Status, Failed> {
        let metrics = &Rc::clone(&self.gateway).shared.metrics.guard;
        let Some(writes) = &route.writes else {
            metrics.passed.increment();
            self.head.remove_term();
            return self.pass_on(door, None).await;
        };
        let (target, tag) = self.find_target(door, route, writes).await?;
        // From here on nothing waits before the admission: it is judged by the clock read for it.
        let admitted = door.guard.admit(&resource(&target), tag.as_ref().map(write_tag));
        let admission = match admitted {
            Ok(admission) => admission,
            Err(refusal) => {
                let text = explain(&refusal, &target);
                return Err(self.refuse(refused(&refusal, self.record_epoch()), text));
            }
        };
        metrics.admitted.increment();
        self.head.note_write(&target, admission.epoch(), admission.term());
        self.pass_on(door, Some(admission)).await
    }

    /// What the request writes, and its tag.
    async fn find_target(
        &mut self,
        door: &Door,
        route: &Route,
        writes: &Writes,
    ) -> Result<(Target, Option<Tag>), Failed> {
        let tag = match self.head.tag() {
            Ok(None) if door.untagged == UntaggedPolicy::Reject => {
                return Err(self.untagged(&Untagged::NoTag));
            }
            Ok(tag) => tag,
            Err(error) => return Err(self.untagged(&error.into())),
        };
        let found = match writes {
            Writes::Group(group) => Found::Target(Target::Group(group.clone())),
            Writes::Slot => {
                let search = match &tag {
                    Some(_) => KeySearch::behind_router(&route.sources),
                    None => KeySearch::new(&route.sources),
                };
                match self.find_hash(search).await? {
                    Ok(hash) => {
                        let ring = &self.gateway.table().routing.ring;
                        Found::Target(Target::Slot(ring.slot_of_hash(hash)))
                    }
                    Err(_) if tag.is_some() && route.sources.have_peer() => Found::AtRouter,
                    Err(missing) => return Err(missing.into()),
                }
            }
        };
        let target = agreed(found, tag.as_ref()).map_err(|error| self.untagged(&error))?;
        Ok((target, tag))
    }

    fn untagged(&self, why: &Untagged) -> Failed {
        let epoch = Some(self.record_epoch());
        self.refuse(Refused { refusal: Refusal::Untagged, epoch }, why.to_string())
    }

    fn refuse(&self, refused: Refused, text: String) -> Failed {
        let refusal = refused.refusal;
        self.gateway.shared.metrics.guard.refused.increment(refusal);
        let (status, outcome) = (refusal.status(), Outcome::NotApplied);
        let error = ErrorReply { status, outcome, refusal: Some(refusal), text };
        Failed::Refused(error, refused.epoch.unwrap_or(Epoch::new(0)))
    }

    /// The epoch of the record; 0 if there is none.
    fn record_epoch(&self) -> Epoch {
        let routing = self.gateway.shared.routing.load();
        routing.record().map_or(Epoch::new(0), |record| record.epoch())
    }

    /// Passes the request on to the service and the answer back. The admission lasts until the
    /// service has answered.
    async fn pass_on(
        &mut self,
        door: &Door,
        admission: Option<Box<dyn Admitted>>,
    ) -> Result<Status, Failed> {
        let mut attempts_left = self.table.routing.rules.retry.attempts_max;
        loop {
            attempts_left = attempts_left.saturating_sub(1);
            let is_sent = self.body.is_empty();
            let never = |_: &mut Context<'_>| Poll::<Infallible>::Pending;
            let opened = match door.service.try_open(|| self.head.request(), is_sent) {
                Ok(Some(opened)) => Ok(opened),
                Ok(None) => self.open(&door.service, is_sent, Patience::ForOneNow, never).await,
                Err(not_opened) => Err(Stopped::NotOpened(not_opened)),
            };
            let stopped = match opened {
                Ok(opened) => {
                    let mut exchange = Exchange::new(opened, is_sent);
                    let note = AnswerNote { pod: None, is_stale: false };
                    let never = |_: &mut Context<'_>, _: &_| Poll::<Infallible>::Pending;
                    let stopped = self.drive(&mut exchange, note, never).await;
                    if matches!(
                        stopped,
                        Stopped::Ended(Ended::CallerGone) | Stopped::DeadlinePassed { .. }
                    ) {
                        linger(exchange, admission);
                        return Err(ended_early(&stopped));
                    }
                    stopped
                }
                Err(stopped) => stopped,
            };
            let failed = match stopped {
                Stopped::Ended(Ended::Answered(status)) => return Ok(status),
                Stopped::Ended(Ended::Refused(refused)) => return Ok(refused.refusal.status()),
                Stopped::Ended(Ended::CallerGone) | Stopped::DeadlinePassed { .. } => {
                    return Err(ended_early(&stopped));
                }
                Stopped::NotOpened(NotOpened::Unsendable) => return Err(unsendable()),
                Stopped::NotOpened(NotOpened::Unreachable) => UNREACHABLE,
                Stopped::Ended(Ended::Failed(failed)) => failed,
                Stopped::Interrupted(never) => match never {},
            };
            let progress = self.progress();
            let is_certain = !failed.failure.may_have_reached() && !progress.response_started;
            // A service that refuses connections will do so again; the router knows patience.
            let may_repeat = is_certain && failed.failure != Failure::Refused;
            if may_repeat && progress.replayable && attempts_left > 0 {
                self.body.rewind();
                continue;
            }
            let outcome = if is_certain { Outcome::NotApplied } else { Outcome::Unknown };
            return Err(self.failed_with(failed, outcome, describe(failed, "the service")));
        }
    }
}

/// Keeps an admitted write under way until the service has answered it, although nobody waits for
/// the answer: its effect must not come after a release. A request that is not whole is broken off,
/// as its service would wait for the rest.
fn linger(mut exchange: Exchange, admission: Option<Box<dyn Admitted>>) {
    if let Some(admission) = admission
        && exchange.is_sent()
    {
        spawn_local(async move {
            // After that the store's terms are what is left.
            let _late = timeout(LINGER_MAX, poll_fn(|cx| exchange.poll_discard(cx))).await;
            drop(admission);
        });
    }
}

/// How long a release may have to wait for a write that its caller has given up. A service that was
/// told the deadline has ended by then.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// The end of a request whose caller waits no longer.
fn ended_early<T>(stopped: &Stopped<T>) -> Failed {
    let Stopped::DeadlinePassed { is_sent } = stopped else { return Failed::CallerGone };
    let outcome = if *is_sent { Outcome::Unknown } else { Outcome::NotApplied };
    let text = "the deadline passed before the service answered".to_owned();
    Failed::error(ErrorCode::DeadlineExceeded, outcome, text)
}
