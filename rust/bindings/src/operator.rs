//! `Operator`: founds a cluster, looks at it, and changes its record, from outside.
use std::collections::BTreeMap;

use hashroute_coordination::LeaseParameters;
use hashroute_core::{Epoch, PodId, View};
use hashroute_quorum as quorum;
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::failure::{Failure, detached};

/// Calls the processes of a cluster. Every method waits, with the interpreter lock released.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Operator(quorum::Operator);

#[pymethods]
impl Operator {
    /// Makes an operator of `{"cluster", "voters", "tls", "timeout_ms"}`. Nothing is called yet.
    ///
    /// Raises:
    ///     ConfigurationError: the settings, or a certificate, cannot be used.
    ///     StartError: the system gives no event queue.
    #[new]
    fn new(py: Python<'_>, settings_json: &str) -> PyResult<Self> {
        detached(py, || {
            let settings = quorum::OperatorSettings::from_json(settings_json)?;
            quorum::Operator::new(settings).map_err(Failure::from)
        })
        .map(Self)
    }

    /// Asks every process who it is; returns JSON, a list in the order of the settings. Each entry
    /// has `address` and either `error` or `cluster`, `voter_id`, `record` and `snapshot`.
    fn describe(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || {
            let described: Vec<_> = self.0.describe().into_iter().map(description).collect();
            text(&Value::Array(described))
        })
    }

    /// Founds the cluster, and returns its first record as JSON. `groups_json` is
    /// `{name: [pod, …]}`. Repeating it after a part of it failed finishes it.
    ///
    /// Raises:
    ///     ConfigurationError: a document is none, or the lease is not safe.
    ///     UnavailableError, ChangeRefusedError: a voter cannot be reached, or has another record.
    fn found(
        &self,
        py: Python<'_>,
        view_json: &str,
        lease_json: &str,
        groups_json: &str,
    ) -> PyResult<String> {
        let view = View::from_json(view_json).map_err(Failure::from)?;
        let lease: quorum::LeaseSettings = document(lease_json, "the lease")?;
        let lease = LeaseParameters::from(lease).check();
        let lease = lease.map_err(|error| Failure::from(quorum::SettingsError::from(error)))?;
        let groups: BTreeMap<String, Vec<String>> = document(groups_json, "the groups")?;
        let groups = groups.into_iter().map(group).collect::<Result<Vec<_>, Failure>>()?;
        detached(py, || {
            let record = self.0.found(&view, lease, &groups).map_err(Failure::from)?;
            text(&quorum::record_json(&record))
        })
    }

    /// Makes a change of the record, given as JSON with one key such as `{"drain": {"pod": …}}`;
    /// returns the epoch of the record with it.
    ///
    /// Raises:
    ///     ChangeRefusedError: it cannot be made, or was not agreed on.
    ///     DeadlineExceededError: no answer in time; it may yet be made.
    ///     UnavailableError: nobody who could make it can be reached.
    ///     BaseException: whatever the handler of a signal raised meanwhile. On etcd the change is
    ///         withdrawn then, if nobody has taken it up; the cause says what came of it.
    fn change(&self, py: Python<'_>, change_json: &str) -> PyResult<u64> {
        let mut raised: Option<PyErr> = None;
        let made = detached(py, || {
            let is_called_off = || {
                if raised.is_none() {
                    raised = Python::attach(|py| py.check_signals()).err();
                }
                raised.is_some()
            };
            let made = self.0.change_unless(change_json, is_called_off);
            made.map(Epoch::get).map_err(Failure::from)
        });
        let Some(raised) = raised else { return made };
        raised.set_cause(py, made.err());
        Err(raised)
    }
}

fn description(asked: Result<quorum::Description, quorum::CallError>) -> Value {
    match asked {
        Ok(described) => json!({
            "address": described.address,
            "cluster": described.cluster,
            "voter_id": described.voter_id,
            "record": described.record.as_ref().map(quorum::record_json),
            "snapshot": serde_json::from_str::<Value>(&described.snapshot).unwrap_or_default(),
        }),
        Err(error) => json!({ "address": error.address, "error": error.reason }),
    }
}

fn group((name, candidates): (String, Vec<String>)) -> Result<(String, Vec<PodId>), Failure> {
    let candidates = candidates.iter().map(|pod| PodId::new(pod).map_err(Failure::from));
    Ok((name, candidates.collect::<Result<_, _>>()?))
}

fn document<T: for<'de> Deserialize<'de>>(text: &str, what: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::new("settings_malformed", format!("{what} are not what is expected: {error}"))
    })
}

fn text(value: &Value) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::new("internal", format!("a document: {error}")))
}
