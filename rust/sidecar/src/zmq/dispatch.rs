//! The way of a request to a pod, and to the next one if that fails.
use hashroute_core::Slot;
use hashroute_dataplane::fleet::{Answer, TRIED_MAX, Tried};
use hashroute_dataplane::retry::{Failure, Progress, Verdict};
use hashroute_dataplane::zmtp::{RequestId, encode_frame_header};

use super::link::{Admission, LinkState};
use super::refusal;
use super::relay::{Attempt, Peer, Relay, Turn};

impl Relay {
    /// Gives the request to the best pod for `slot` that has not failed it, or ends it.
    pub(super) fn dispatch(&mut self, turn: Turn<'_>, request: RequestId, slot: Slot) {
        let Some(pending) = self.in_flight.get_mut(request) else { return };
        let view = turn.routing.ring.view();
        let mut tried = Tried::none();
        for pod in &pending.tried {
            if let Some(pod) = view.index_of(pod.as_str()) {
                tried.insert(pod);
            }
        }
        let patience = turn.routing.health.timeout;
        let mut is_full = false;
        for _ in 0..TRIED_MAX {
            let Ok(permit) = turn.routing.zmq_side.fleet.choose(slot, &tried) else { break };
            let pod = permit.pod();
            let key = self.by_pod.get(pod.as_usize()).copied().flatten();
            let place = key.and_then(|key| Some((key, self.links.get_mut(key)?)));
            let admission = place.as_ref().map(|(_, link)| link.admission(turn.now, patience));
            let (Some((key, link)), Some(Admission::Send | Admission::Wait)) = (place, admission)
            else {
                is_full |= admission == Some(Admission::Full);
                tried.insert(pod);
                continue;
            };
            link.in_flight += 1;
            pending.at = Some(Attempt { link: key, permit, sent: None });
            if admission == Some(Admission::Wait) {
                link.waiting.push(request);
            } else {
                self.send(request, key);
            }
            return;
        }
        let outcome = pending.attempts.outcome(false);
        let error = if is_full { refusal::pods_full(outcome) } else { refusal::no_pod(outcome) };
        self.fail(turn, request, &error);
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

    /// Decides about every request on a link that failed: retry, patience or error.
    ///
    /// `written` is how far the stream to the pod got; `loss` is what the failure means for a
    /// request that was in it.
    pub(super) fn fail_link(&mut self, turn: Turn<'_>, key: usize, written: u64, loss: Failure) {
        let affected: Vec<(RequestId, Failure)> = self
            .in_flight
            .iter()
            .filter_map(|(request, pending)| {
                let attempt = pending.at.as_ref().filter(|attempt| attempt.link == key)?;
                let failure = match attempt.sent {
                    None => Failure::Refused,
                    // A pod drops a message that ends before its last byte.
                    Some((_, end)) if loss == Failure::Lost && written < end => Failure::NotSent,
                    Some(_) => loss,
                };
                Some((request, failure))
            })
            .collect();
        for (request, failure) in affected {
            self.retry_or_fail(turn, request, failure);
        }
    }

    /// Queues the request on its link's connection, under its number.
    fn send(&mut self, request: RequestId, key: usize) {
        let (Some(pending), Some(link)) =
            (self.in_flight.get_mut(request), self.links.get_mut(key))
        else {
            return;
        };
        let (Some(attempt), LinkState::Ready { connection, .. }) =
            (&mut pending.at, &mut link.state)
        else {
            return;
        };
        let outbox = &mut connection.outbox;
        let start = outbox.queued();
        let number = request.to_bytes();
        outbox.encode(|tail| {
            encode_frame_header(tail, number.len(), true);
            tail.extend_from_slice(&number);
        });
        outbox.share(&pending.payload);
        attempt.sent = Some((start, outbox.queued()));
        self.schedule(Peer::Link(key));
    }

    fn retry_or_fail(&mut self, turn: Turn<'_>, request: RequestId, failure: Failure) {
        let Some(pending) = self.in_flight.get_mut(request) else { return };
        let progress = Progress { response_started: false, replayable: true };
        let wanted = pending.attempts.classify(failure, progress);
        let verdict = pending.attempts.failed(failure, progress, &turn.routing.zmq_side.budget);
        if verdict != wanted {
            self.shared.metrics.zmq.retry_budget_exhausted.increment();
        }
        match verdict {
            Verdict::Wait => {}
            Verdict::Fail(outcome) => {
                self.fail(turn, request, &refusal::attempt_failed(failure, outcome));
            }
            Verdict::Retry(_) => self.retry(turn, request),
        }
    }

    /// Takes the request off the pod that failed it and gives it to another.
    fn retry(&mut self, turn: Turn<'_>, request: RequestId) {
        // An answer to the attempt that failed may still come; it finds nobody under its number.
        let Some(request) = self.in_flight.renew(request) else { return };
        let Some(pending) = self.in_flight.get_mut(request) else { return };
        if let Some(attempt) = pending.at.take() {
            pending.tried.push(attempt.permit.pod_id().clone());
            if let Some(link) = self.links.get_mut(attempt.link) {
                link.in_flight -= 1;
            }
            attempt.permit.finish(Answer::Error);
        }
        self.shared.metrics.zmq.retries.increment();
        match pending.slot(turn.routing) {
            Ok(slot) => self.dispatch(turn, request, slot),
            // The key's place was changed by new settings while the request was in flight.
            Err(error) => self.fail(turn, request, &error),
        }
    }
}
