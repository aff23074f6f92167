//! `Write`: the attempts of one write, for the clients.
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashroute_core::Epoch;
use hashroute_dataplane::refusal::{Refusal, Refused};
use hashroute_dataplane::retry::{Failure as Kind, Progress};
use hashroute_sidecar::{self as sidecar, Turn};
use pyo3::prelude::*;

use crate::error_reply::outcome_word;
use crate::failure::Failure;
use crate::refusal;
use crate::route::Route;

/// One write, over all its attempts. Each method says what to do next: a `Route` to send it to, a
/// `Wait`, or the error with which it ends.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Write(Mutex<sidecar::WriteRequest>);

/// What a write waits for: `resumed` is to be said after `seconds`, or when a record of at least
/// `record` is in force.
#[pyclass(frozen, get_all, module = "hashroute._hashroute")]
pub(crate) struct Wait {
    /// How long; None: until its pod answers.
    seconds: Option<f64>,
    /// From which epoch on it is worth another look; None if it is at a pod and stays there.
    record: Option<u64>,
}

#[pymethods]
impl Write {
    /// Says where it is sent first.
    fn begin(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut write = self.lock();
        let turn = write.begin();
        next(py, &write, turn)
    }

    /// The guard of the pod refused it, with this word and the epoch of its record.
    #[pyo3(signature = (word, epoch, *, response_started, replayable))]
    fn refused(
        &self,
        py: Python<'_>,
        word: &str,
        epoch: Option<u64>,
        response_started: bool,
        replayable: bool,
    ) -> PyResult<Py<PyAny>> {
        let Some(refusal) = Refusal::parse(word.as_bytes()) else {
            return Err(Failure::new("internal", format!("no refusal {word:?}")).into());
        };
        let refused = Refused { refusal, epoch: epoch.map(Epoch::new) };
        let mut write = self.lock();
        let turn = write.refused(refused, Progress { response_started, replayable });
        next(py, &write, turn)
    }

    /// The present attempt failed.
    #[pyo3(signature = (kind, *, response_started, replayable))]
    fn failed(
        &self,
        py: Python<'_>,
        kind: &str,
        response_started: bool,
        replayable: bool,
    ) -> PyResult<Py<PyAny>> {
        let kind = match kind {
            "refused" => Kind::Refused,
            "not_sent" => Kind::NotSent,
            "lost" => Kind::Lost,
            _ => return Err(Failure::new("internal", format!("no failure {kind:?}")).into()),
        };
        let mut write = self.lock();
        let turn = write.failed(kind, Progress { response_started, replayable });
        next(py, &write, turn)
    }

    /// Whether what it writes has another owner by now than the one that it is at.
    #[getter]
    fn has_moved(&self) -> bool {
        self.lock().has_moved()
    }

    /// What it writes has another owner by now.
    #[pyo3(signature = (*, response_started, replayable))]
    fn moved(
        &self,
        py: Python<'_>,
        response_started: bool,
        replayable: bool,
    ) -> PyResult<Py<PyAny>> {
        let mut write = self.lock();
        let turn = write.moved(Progress { response_started, replayable });
        next(py, &write, turn)
    }

    /// The time has come that was waited for, or another record is in force.
    fn resumed(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut write = self.lock();
        let turn = write.resumed();
        next(py, &write, turn)
    }

    /// Returns what is known of the effect of this write if it ends now; `sent` says whether the
    /// present attempt may have reached its pod.
    fn outcome(&self, sent: bool) -> &'static str {
        outcome_word(self.lock().outcome(sent))
    }
}

impl Write {
    pub(crate) fn new(write: sidecar::WriteRequest) -> Self {
        Self(Mutex::new(write))
    }

    fn lock(&self) -> MutexGuard<'_, sidecar::WriteRequest> {
        // A write is whole between any two calls, also if a thread panicked in one of them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn next(py: Python<'_>, write: &sidecar::WriteRequest, turn: Turn) -> PyResult<Py<PyAny>> {
    let seconds = |until| write.left(until).as_secs_f64();
    Ok(match turn {
        Turn::Send(route, permit) => Py::new(py, Route::new(*route, permit))?.into_any(),
        Turn::Wait { until, record } => {
            let wait = Wait { seconds: Some(seconds(until)), record: Some(record.get()) };
            Py::new(py, wait)?.into_any()
        }
        Turn::Stay { until } => {
            Py::new(py, Wait { seconds: until.map(seconds), record: None })?.into_any()
        }
        Turn::Fail(end) => PyErr::from(refusal::gave_up(end)).into_value(py).into_any(),
    })
}
