//! `Node`: one process's part in a cluster, hosted by a Python process.
use std::sync::{PoisonError, RwLock};

use hashroute_core::Epoch;
use hashroute_quorum as quorum;
use hashroute_quorum::Records;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::admission::Guard;
use crate::arguments::{argument, seconds};
use crate::failure::{Failure, detached};
use crate::view::View;

/// A running node. Calls that may wait run with the interpreter lock released.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Node {
    address: Option<String>,
    records: Records,
    guard: Option<quorum::PodGuard>,
    // Taken out by `stop`, which waits for the calls that are under way.
    running: RwLock<Option<quorum::Node>>,
}

#[pymethods]
impl Node {
    /// Starts the thread that keeps the lease; the cluster need not be reachable.
    ///
    /// Raises:
    ///     ConfigurationError: the settings cannot be used.
    ///     StartError: an address or a disk cannot be used. Nothing is left running.
    #[new]
    fn new(py: Python<'_>, settings_json: &str) -> PyResult<Self> {
        let running = detached(py, || {
            let settings = quorum::NodeSettings::from_json(settings_json).map_err(Failure::from)?;
            quorum::Node::start(settings).map_err(Failure::from)
        })?;
        Ok(Self {
            address: running.address().map(str::to_owned),
            records: running.records().into(),
            guard: running.guard(),
            running: RwLock::new(Some(running)),
        })
    }

    /// The address really listened on; None for a process that does not vote.
    #[getter]
    fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The guard of the pod that this process is the member of; None if it is of none.
    #[getter]
    fn guard(&self) -> Option<Guard> {
        Some(Guard::new(self.guard.clone()?, self.records.clone()))
    }

    /// Whether no majority of voters was heard for so long that what is known may be old.
    ///
    /// Raises:
    ///     ClosedError: the node was stopped.
    #[getter]
    fn is_stale(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || self.with_running(quorum::Node::is_stale))
    }

    /// The epoch of the newest record that is known; 0 if none is.
    #[getter]
    fn epoch(&self) -> u64 {
        self.records.newest().map_or(0, |record| record.epoch().get())
    }

    /// Returns the newest record as JSON; None if none is known.
    fn record_json(&self, py: Python<'_>) -> PyResult<Option<String>> {
        detached(py, || {
            let Some(record) = self.records.newest() else { return Ok(None) };
            let text = serde_json::to_string(&quorum::record_json(&record));
            text.map(Some).map_err(|error| Failure::new("internal", format!("record: {error}")))
        })
    }

    /// Returns the view of the newest record; None if none is known, or no pod of it owns slots.
    fn view(&self) -> Option<View> {
        let record = self.records.newest()?;
        record.ring().map(|_| View(record.view().clone()))
    }

    /// Returns the term of each slot in the newest record: a uint64 array of shape (slots,), a copy.
    /// Empty if no record is known.
    fn terms<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u64>> {
        let record = self.records.newest();
        PyArray1::from_slice(py, record.as_ref().map_or(&[], |record| record.slot_terms()))
    }

    /// Waits until a record of a later epoch than `above` is known, for at most
    /// `patience_seconds`; returns the epoch of the newest, 0 if none is known.
    ///
    /// Raises:
    ///     ParameterError: `patience_seconds` is negative or not finite.
    fn wait_for_epoch(
        &self,
        py: Python<'_>,
        above: &Bound<'_, PyAny>,
        patience_seconds: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let above = Epoch::new(argument(above, "above", "an epoch, an int from 0 to 2**64-1")?);
        let patience = seconds(patience_seconds, "patience_seconds")?;
        detached(py, || {
            let newest = self.records.wait_above(above, patience);
            Ok::<_, Failure>(newest.map_or(0, |record| record.epoch().get()))
        })
    }

    /// Makes a change of the record, given as JSON with one key such as `{"drain": {"pod": …}}`;
    /// returns the epoch of the record with it.
    ///
    /// Raises as `drain`.
    fn change(
        &self,
        py: Python<'_>,
        change_json: &str,
        patience_seconds: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let patience = seconds(patience_seconds, "patience_seconds")?;
        detached(py, || {
            let epoch = self.with_running(|running| running.change_json(change_json, patience))?;
            epoch.map(Epoch::get).map_err(Failure::from)
        })
    }

    /// Gives up in good order what the own pod owns; returns the epoch of the record without it.
    ///
    /// Raises:
    ///     ChangeRefusedError: it was not agreed on.
    ///     DeadlineExceededError: no answer in time; it may yet be made.
    ///     UnavailableError: nobody who could make it can be reached.
    ///     ClosedError: the node was stopped.
    fn drain(&self, py: Python<'_>, patience_seconds: &Bound<'_, PyAny>) -> PyResult<u64> {
        let patience = seconds(patience_seconds, "patience_seconds")?;
        detached(py, || {
            let epoch = self.with_running(|running| running.drain(patience))?;
            epoch.map(Epoch::get).map_err(Failure::from)
        })
    }

    /// Returns all figures of this moment as JSON.
    ///
    /// Raises:
    ///     ClosedError: the node was stopped.
    fn snapshot(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || {
            let snapshot = self.with_running(quorum::Node::snapshot)?;
            serde_json::to_string(&snapshot)
                .map_err(|error| Failure::new("internal", format!("snapshot: {error}")))
        })
    }

    /// Ends in good order: admits nothing more, waits for the writes under way, gives the lease
    /// back, and stops. Returns whether all of them ended within `grace_seconds`; if not, the lease
    /// runs out by itself. A second call returns True at once.
    ///
    /// Raises:
    ///     ParameterError: `grace_seconds` is negative or not finite.
    fn stop(&self, py: Python<'_>, grace_seconds: &Bound<'_, PyAny>) -> PyResult<bool> {
        let grace = seconds(grace_seconds, "grace_seconds")?;
        detached(py, || {
            let running = self.running.write().unwrap_or_else(PoisonError::into_inner).take();
            Ok::<_, Failure>(running.is_none_or(|running| running.stop(grace)))
        })
    }

    fn __repr__(&self) -> String {
        format!("<Node at epoch {}>", self.epoch())
    }
}

impl Node {
    pub(crate) fn records(&self) -> Records {
        self.records.clone()
    }

    fn with_running<T>(&self, act: impl FnOnce(&quorum::Node) -> T) -> Result<T, Failure> {
        // It is there or it is not, also if a thread panicked while it looked.
        match self.running.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(running) => Ok(act(running)),
            None => Err(Failure::new("closed", "the node was stopped; start another one")),
        }
    }
}
