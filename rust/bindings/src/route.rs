//! `Route`: where one attempt goes, as a context manager, sync and async.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashroute_dataplane::fleet::{Answer, Permit};
use hashroute_dataplane::health::Event;
use hashroute_dataplane::write::{self as dataplane, Target};
use hashroute_sidecar as sidecar;
use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};

use crate::failure::Failure;
use crate::tag::Tag;

/// The pod for one request, which counts as in flight there until the end of the `with` block.
///
/// What the block meets at the pod is not guessed from exceptions: `failed` and `succeeded` say
/// it. A block that says nothing counts as a request that ended well, or in an error if it raised.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Route {
    route: sidecar::Route,
    held: Mutex<Held>,
}

struct Held {
    permit: Option<Permit>,
    answer: Option<Answer>,
}

#[pymethods]
impl Route {
    /// The id of the pod.
    #[getter]
    fn pod(&self) -> &str {
        self.route.pod().map_or("", |pod| pod.id.as_str())
    }

    /// Its address over the router's transport; None if it has none.
    #[getter]
    fn address(&self) -> Option<&str> {
        self.route.address()
    }

    /// The slot of the key; None for a write of what a group keeps.
    #[getter]
    fn slot(&self) -> Option<u32> {
        match self.route.target() {
            Target::Slot(slot) => Some(slot.get()),
            Target::Group(_) => None,
        }
    }

    /// The group whose leader this is; None for a request with a key.
    #[getter]
    fn group(&self) -> Option<&str> {
        match self.route.target() {
            Target::Slot(_) => None,
            Target::Group(name) => Some(name.as_arc()),
        }
    }

    /// What a write carries for the pod's guard: slot or group, epoch and term.
    #[getter]
    fn tag(&self) -> Tag {
        Tag::new(dataplane::Tag {
            target: self.route.target().clone(),
            epoch: self.route.epoch(),
            term: self.route.term(),
        })
    }

    /// The epoch at which the present owner of slot or group got it: by the record of the quorum
    /// that is followed, else in this router's own history of views.
    #[getter]
    fn term(&self) -> u64 {
        self.route.term().get()
    }

    /// The epoch of the view or record by which the pod was chosen.
    #[getter]
    fn epoch(&self) -> u64 {
        self.route.epoch().get()
    }

    /// Why this pod: `owner`, `spill` (those before it are busy), `failover` (they are down or
    /// were tried) or `last_resort` (no pod is thought to be well).
    #[getter]
    fn reason(&self) -> &'static str {
        self.route.reason().as_str()
    }

    /// Says that the pod answered well; one that was under suspicion is cleared.
    fn succeeded(&self) {
        self.route.observe(Event::RequestSucceeded);
        self.held().answer = Some(Answer::Ok);
    }

    /// Says what went wrong at the pod.
    ///
    /// `"refused"` (no connection could be made) and `"lost"` (it ended before the answer) take the
    /// pod out of the way at once; `"deadline"` five times in a row makes it a suspect; `"error"`
    /// (it answered, with an error) is not held against it.
    ///
    /// Raises:
    ///     ParameterError: `kind` is none of these.
    fn failed(&self, kind: &str) -> PyResult<()> {
        let event = match kind {
            "refused" => Event::ConnectionRefused,
            "lost" => Event::ConnectionLost,
            "deadline" => Event::DeadlineExceeded,
            "error" => Event::RequestSucceeded,
            _ => {
                let text =
                    format!("kind must be 'refused', 'lost', 'deadline' or 'error', not {kind:?}");
                return Err(Failure::new("parameter", text).with("parameter", "kind").into());
            }
        };
        self.route.observe(event);
        self.held().answer = Some(Answer::Error);
        Ok(())
    }

    /// Ends the request without a `with` block. Does nothing the second time.
    fn release(&self) {
        let (permit, answer) = {
            let mut held = self.held();
            (held.permit.take(), held.answer)
        };
        match (permit, answer) {
            (Some(permit), Some(answer)) => permit.finish(answer),
            // A request that was given up without a word counts as neither.
            (permit, _) => drop(permit),
        }
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        if slf.held().permit.is_none() {
            let text = "this route was released; acquire another one for another request";
            return Err(Failure::new("closed", text).into());
        }
        Ok(slf)
    }

    #[pyo3(signature = (kind, _value, _traceback))]
    fn __exit__(
        &self,
        kind: Option<&Bound<'_, PyType>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> bool {
        let unsaid = if kind.is_none() { Answer::Ok } else { Answer::Error };
        self.held().answer.get_or_insert(unsaid);
        self.release();
        false
    }

    fn __aenter__(slf: PyRef<'_, Self>) -> PyResult<Ready> {
        let py = slf.py();
        let route = Self::__enter__(slf)?;
        Ok(Ready(route.into_pyobject(py)?.into_any().unbind()))
    }

    #[pyo3(signature = (kind, value, traceback))]
    fn __aexit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyType>>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> Ready {
        let suppress = self.__exit__(kind, value, traceback);
        Ready(PyBool::new(py, suppress).to_owned().into_any().unbind())
    }

    fn __repr__(&self) -> String {
        let address = self.address().unwrap_or("no address");
        format!("<Route to {:?} at {address}, {}>", self.pod(), self.reason())
    }
}

impl Route {
    pub(crate) fn new(route: sidecar::Route, permit: Permit) -> Self {
        Self { route, held: Mutex::new(Held { permit: Some(permit), answer: None }) }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Both fields are whole between any two statements, also if a thread panicked in between.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An awaitable that has its result already: entering a route never waits.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Ready(Py<PyAny>);

impl Ready {
    pub(crate) fn new(result: Py<PyAny>) -> Self {
        Self(result)
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        Err(PyStopIteration::new_err((self.0.clone_ref(py),)))
    }
}
