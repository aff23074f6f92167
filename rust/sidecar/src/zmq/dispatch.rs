//! The way of a request to a pod, and to the next one if that fails.
use hashroute_core::{PodId, Slot};
use hashroute_dataplane::error::Outcome;
use hashroute_dataplane::fleet::{Answer, Permit, TRIED_MAX, Tried};
use hashroute_dataplane::retry::{Failure, Progress, Verdict};
use hashroute_dataplane::zmtp::{ErrorReply, RequestId, encode_frame_header};

use super::link::{Admission, LinkState};
use super::refusal;
use super::relay::{Attempt, Errand, Peer, Relay, Turn};

/// A pod that takes a request.
pub(super) struct Place {
    pub(super) link: usize,
    pub(super) permit: Option<Permit>,
    /// Whether the request must wait for the handshake.
    pub(super) must_wait: bool,
}

/// Why there is none.
enum NoPlace {
    /// No pod can be reached.
    Unreachable,
    /// At least one could, but has too much to read already.
    Full,
}

impl Relay {
    /// Gives a request that is with no pod to the best one for `slot`, or ends it.
    pub(super) fn dispatch(&mut self, turn: Turn<'_>, request: RequestId, slot: Slot) {
        let Some(pending) = self.in_flight.get(request) else { return };
        let Errand::Read { tried, .. } = &pending.errand else { return };
        match self.place(turn, slot, tried, None) {
            Ok(place) => self.put(request, place),
            Err(no_place) => {
                let error = no_place.error(pending.outcome(false));
                self.fail(turn, request, &error);
            }
        }
    }

    /// Sends what waited for the handshake.
    pub(super) fn send_waiting(&mut self, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        for request in std::mem::take(&mut link.waiting) {
            self.send(request, key);
        }
    }

    /// Gives up on requests that wait for a handshake that takes too long.
    pub(super) fn fail_waiting(&mut self, turn: Turn<'_>, key: usize) {
        let Some(link) = self.links.get_mut(key) else { return };
        for request in std::mem::take(&mut link.waiting) {
            self.retry_or_fail(turn, request, Failure::Refused);
        }
    }

    /// Decides about every request on a link that was lost, whose stream got as far as `written`.
    pub(super) fn fail_lost(&mut self, turn: Turn<'_>, key: usize, written: u64) {
        for (request, sent) in self.requests_of(key) {
            let failure = match sent {
                None => Failure::Refused,
                // A pod drops a message that ends before its last byte.
                Some((_, end)) if written < end => Failure::NotSent,
                Some(_) => Failure::Lost,
            };
            self.retry_or_fail(turn, request, failure);
        }
    }

    /// Decides about every request on a link whose pod was found silent.
    ///
    /// A request leaves only for a pod that takes it: if there is none, patience is all there is.
    pub(super) fn fail_silent(&mut self, turn: Turn<'_>, key: usize) {
        for (request, _) in self.requests_of(key) {
            let Some(pending) = self.in_flight.get(request) else { continue };
            // What has one writer has nowhere else to go.
            let Errand::Read { tried, .. } = &pending.errand else { continue };
            let here = pending.at.as_ref().and_then(|attempt| attempt.permit.as_ref());
            let Ok(slot) = pending.slot(turn.routing) else { continue };
            let here = here.map(Permit::pod_id);
            let Ok(place) = self.place(turn, slot, tried, here) else { continue };
            if let Verdict::Retry(_) = self.verdict(turn, request, Failure::PodDown)
                && let Some(request) = self.take_back(request)
            {
                self.put(request, place);
            }
        }
    }

    fn requests_of(&self, key: usize) -> Vec<(RequestId, Option<(u64, u64)>)> {
        let requests = self.in_flight.iter();
        let requests = requests.filter_map(|(request, pending)| {
            let attempt = pending.at.as_ref().filter(|attempt| attempt.link == key)?;
            Some((request, attempt.sent))
        });
        requests.collect()
    }

    fn retry_or_fail(&mut self, turn: Turn<'_>, request: RequestId, failure: Failure) {
        match self.in_flight.get(request).map(|pending| &pending.errand) {
            Some(Errand::Read { .. }) => self.retry_read(turn, request, failure),
            Some(Errand::Write(_)) => self.write_failed(turn, request, failure),
            Some(Errand::Guarded(_)) => self.fail(turn, request, &refusal::service_failed(failure)),
            None => {}
        }
    }

    fn retry_read(&mut self, turn: Turn<'_>, request: RequestId, failure: Failure) {
        match self.verdict(turn, request, failure) {
            Verdict::Wait => {}
            Verdict::Fail(outcome) => {
                self.fail(turn, request, &refusal::attempt_failed(failure, outcome));
            }
            Verdict::Retry(_) => {
                let Some(request) = self.take_back(request) else { return };
                let Some(pending) = self.in_flight.get(request) else { return };
                match pending.slot(turn.routing) {
                    Ok(slot) => self.dispatch(turn, request, slot),
                    // The key's place was changed by new settings while the request was in flight.
                    Err(error) => self.fail(turn, request, &error),
                }
            }
        }
    }

    fn verdict(&mut self, turn: Turn<'_>, request: RequestId, failure: Failure) -> Verdict {
        let pending = self.in_flight.get_mut(request);
        let Some(Errand::Read { attempts, .. }) = pending.map(|pending| &mut pending.errand) else {
            return Verdict::Wait;
        };
        let progress = Progress { response_started: false, replayable: true };
        let wanted = attempts.classify(failure, progress);
        let verdict = attempts.failed(failure, progress, &turn.routing.zmq_side.budget);
        if verdict != wanted {
            (self.metrics)(&self.shared.metrics).retry_budget_exhausted.increment();
        }
        verdict
    }

    /// Takes the request off the pod that failed it; returns its new number.
    fn take_back(&mut self, request: RequestId) -> Option<RequestId> {
        let (request, permit) = self.take_off(request)?;
        let pending = self.in_flight.get_mut(request)?;
        if let (Errand::Read { tried, .. }, Some(permit)) = (&mut pending.errand, permit) {
            tried.push(permit.pod_id().clone());
            permit.finish(Answer::Error);
        }
        (self.metrics)(&self.shared.metrics).retries.increment();
        Some(request)
    }

    /// Takes the request off the pod where it is; returns its new number, and what counted it
    /// there.
    pub(super) fn take_off(&mut self, request: RequestId) -> Option<(RequestId, Option<Permit>)> {
        // An answer to the attempt that ended may still come; it finds nobody under its number.
        let request = self.in_flight.renew(request)?;
        let pending = self.in_flight.get_mut(request)?;
        let attempt = pending.at.take();
        if let Some(link) = attempt.as_ref().and_then(|attempt| self.links.get_mut(attempt.link)) {
            link.in_flight -= 1;
        }
        Some((request, attempt.and_then(|attempt| attempt.permit)))
    }

    /// The best pod for `slot` that is neither among the `tried` nor `here` and takes a request.
    fn place(
        &self,
        turn: Turn<'_>,
        slot: Slot,
        tried: &[PodId],
        here: Option<&PodId>,
    ) -> Result<Place, NoPlace> {
        let view = turn.routing.ring.view();
        let mut passed_over = Tried::none();
        for pod in tried.iter().chain(here) {
            if let Some(pod) = view.index_of(pod.as_str()) {
                passed_over.insert(pod);
            }
        }
        let mut no_place = NoPlace::Unreachable;
        for _ in 0..TRIED_MAX {
            let fleet = &turn.routing.zmq_side.fleet;
            let Ok(permit) = fleet.choose(slot, &passed_over) else { break };
            passed_over.insert(permit.pod());
            let key = self.by_pod.get(permit.pod().as_usize()).copied().flatten();
            let Some((key, link)) = key.and_then(|key| Some((key, self.links.get(key)?))) else {
                continue;
            };
            let must_wait = match link.admission(turn.now, turn.routing.rules.health.timeout) {
                Admission::Send => false,
                Admission::Wait => true,
                Admission::Unreachable => continue,
                Admission::Full => {
                    no_place = NoPlace::Full;
                    continue;
                }
            };
            return Ok(Place { link: key, permit: Some(permit), must_wait });
        }
        Err(no_place)
    }

    /// Gives a request that is with no pod to this one.
    pub(super) fn put(&mut self, request: RequestId, place: Place) {
        let (Some(pending), Some(link)) =
            (self.in_flight.get_mut(request), self.links.get_mut(place.link))
        else {
            return;
        };
        link.in_flight += 1;
        pending.at = Some(Attempt { link: place.link, permit: place.permit, sent: None });
        if place.must_wait {
            link.waiting.push(request);
        } else {
            self.send(request, place.link);
        }
    }

    /// Queues the request on its link's connection, under its number.
    fn send(&mut self, request: RequestId, key: usize) {
        let (Some(pending), Some(link)) =
            (self.in_flight.get_mut(request), self.links.get_mut(key))
        else {
            return;
        };
        let LinkState::Ready { connection, .. } = &mut link.state else { return };
        let outbox = &mut connection.outbox;
        let start = outbox.queued();
        let number = request.to_bytes();
        outbox.encode(|tail| {
            encode_frame_header(tail, number.len(), true);
            tail.extend_from_slice(&number);
        });
        match &pending.errand {
            Errand::Read { .. } => outbox.share(&pending.payload),
            Errand::Write(sending) => sending.put_message(pending, outbox),
            Errand::Guarded(guarded) => guarded.put_message(pending, outbox),
        }
        let sent = Some((start, outbox.queued()));
        if let Some(attempt) = &mut pending.at {
            attempt.sent = sent;
        }
        self.schedule(Peer::Link(key));
    }
}

impl NoPlace {
    fn error(&self, outcome: Outcome) -> ErrorReply {
        match self {
            Self::Unreachable => refusal::no_pod(outcome),
            Self::Full => refusal::pods_full(outcome),
        }
    }
}
