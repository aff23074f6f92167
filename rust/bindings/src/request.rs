//! `Request`: the attempts of one request, for the clients.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashroute_dataplane::retry::{Failure as Kind, Progress, Verdict};
use hashroute_sidecar as sidecar;
use pyo3::prelude::*;

use crate::error_reply::outcome_word;
use crate::failure::Failure;
use crate::route::Route;

/// One request, over all its attempts.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Request(Mutex<sidecar::Request>);

#[pymethods]
impl Request {
    /// Chooses the pod for the next attempt, one that was not tried.
    ///
    /// Raises:
    ///     NoPodError: every pod that serves was tried, or none serves.
    fn attempt(&self) -> PyResult<Route> {
        let (route, permit) = self.lock().attempt().map_err(Failure::from)?;
        Ok(Route::new(route, permit))
    }

    /// Decides what a failure of the present attempt means: `retry` with another `attempt`; `wait`
    /// where it is; or the outcome of the request, which has failed.
    #[pyo3(signature = (kind, *, response_started, replayable))]
    fn failed(
        &self,
        kind: &str,
        response_started: bool,
        replayable: bool,
    ) -> PyResult<&'static str> {
        let kind = match kind {
            "refused" => Kind::Refused,
            "not_sent" => Kind::NotSent,
            "lost" => Kind::Lost,
            "pod_down" => Kind::PodDown,
            _ => return Err(Failure::new("internal", format!("no failure {kind:?}")).into()),
        };
        Ok(match self.lock().failed(kind, Progress { response_started, replayable }) {
            Verdict::Retry(_) => "retry",
            Verdict::Wait => "wait",
            Verdict::Fail(outcome) => outcome_word(outcome),
        })
    }

    /// Returns what is known of the effect of this request if it ends now; `sent` says whether the
    /// present attempt may have reached its pod.
    fn outcome(&self, sent: bool) -> &'static str {
        outcome_word(self.lock().outcome(sent))
    }
}

impl Request {
    pub(crate) fn new(request: sidecar::Request) -> Self {
        Self(Mutex::new(request))
    }

    fn lock(&self) -> MutexGuard<'_, sidecar::Request> {
        // A request is whole between any two calls, also if a thread panicked in one of them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
