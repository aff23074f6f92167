//! `Sidecar`: the native data plane, hosted by a Python process that never takes part in a request.

use std::sync::{PoisonError, RwLock};

use hashroute_core::Epoch;
use hashroute_sidecar as sidecar;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::seconds;
use crate::failure::{Failure, detached};

/// A running sidecar. Every method runs with the interpreter lock released.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Sidecar {
    addresses: sidecar::Addresses,
    // Taken out by `stop`, which ends it.
    running: RwLock<Option<sidecar::Sidecar>>,
}

#[pymethods]
impl Sidecar {
    /// Listens and starts the threads of the data plane.
    ///
    /// Raises:
    ///     ConfigurationError: the settings cannot be used.
    ///     StartError: an address cannot be listened on. Nothing is left running.
    #[new]
    fn new(py: Python<'_>, settings_json: &str) -> PyResult<Self> {
        let running = detached(py, || {
            let settings = sidecar::Settings::from_json(settings_json).map_err(Failure::from)?;
            sidecar::Sidecar::start(settings).map_err(Failure::from)
        })?;
        Ok(Self { addresses: running.addresses().clone(), running: RwLock::new(Some(running)) })
    }

    /// Returns the addresses really listened on, by what listens there; None for what is off.
    fn addresses<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let addresses = PyDict::new(py);
        addresses.set_item("grpc", self.addresses.grpc.as_deref())?;
        addresses.set_item("zmq", self.addresses.zmq.as_deref())?;
        addresses.set_item("quorum", self.addresses.quorum.as_deref())?;
        addresses.set_item("guard_grpc", self.addresses.guard_grpc.as_deref())?;
        addresses.set_item("guard_zmq", self.addresses.guard_zmq.as_deref())?;
        Ok(addresses)
    }

    /// Replaces the settings at once; requests under way keep what they began with.
    ///
    /// Raises:
    ///     ConfigurationError: the settings cannot be used; then the old ones stay in force.
    ///     ClosedError: the sidecar was stopped.
    fn apply(&self, py: Python<'_>, settings_json: &str) -> PyResult<()> {
        detached(py, || {
            let settings = sidecar::Settings::from_json(settings_json).map_err(Failure::from)?;
            self.with_running(|running| running.apply(settings))?.map_err(Failure::from)
        })
    }

    /// Returns all figures of this moment as JSON.
    ///
    /// Raises:
    ///     ClosedError: the sidecar was stopped.
    fn snapshot(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || {
            let snapshot = self.with_running(sidecar::Sidecar::snapshot)?;
            serde_json::to_string(&snapshot)
                .map_err(|error| Failure::new("internal", format!("snapshot: {error}")))
        })
    }

    /// Makes a change of the quorum's record, as `Operator.change` does, through the own member or a
    /// voter; returns the epoch of the record with it.
    ///
    /// Raises:
    ///     ChangeRefusedError: it cannot be made, or was not agreed on.
    ///     DeadlineExceededError: no answer in time; it may yet be made.
    ///     UnavailableError: nobody who could make it can be reached.
    ///     SettingError: the sidecar takes no part in a quorum.
    ///     ClosedError: the sidecar was stopped.
    ///     ParameterError: `patience_seconds` is negative or not finite.
    fn change(
        &self,
        py: Python<'_>,
        change_json: &str,
        patience_seconds: &Bound<'_, PyAny>,
    ) -> PyResult<u64> {
        let patience = seconds(patience_seconds, "patience_seconds")?;
        detached(py, || {
            self.with_running(|running| {
                let node = running.node().ok_or_else(|| {
                    Failure::new("setting", "this sidecar takes no part in a quorum: add [quorum]")
                        .with("setting", "quorum".to_owned())
                })?;
                node.change_json(change_json, patience).map(Epoch::get).map_err(Failure::from)
            })?
        })
    }

    /// Takes nothing new, finishes what is in flight, and ends; returns whether all of it finished
    /// within `grace_seconds`. A second call returns True at once.
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
}

impl Sidecar {
    fn with_running<T>(&self, act: impl FnOnce(&sidecar::Sidecar) -> T) -> Result<T, Failure> {
        // It is there or it is not, also if a thread panicked while it looked.
        match self.running.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(running) => Ok(act(running)),
            None => Err(Failure::new("closed", "the sidecar was stopped; start another one")),
        }
    }
}
