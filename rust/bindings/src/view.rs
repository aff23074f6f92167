//! `View`: the pods and parameters of a ring, as values.

use std::sync::Arc;

use hashroute_core as core;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::arguments::argument;
use crate::failure::Failure;

/// What decides a mapping: pods, parameters and the number of the view. Immutable.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct View(pub(crate) core::View);

/// A pod as Python's `Pod` takes it: id, weight, zone, state, grpc, zmq.
type PodFields = (String, f64, Option<String>, &'static str, Option<String>, Option<String>);

#[pymethods]
impl View {
    #[new]
    #[pyo3(signature = (pods, *, slots, epsilon, seed))]
    fn new(
        pods: &Bound<'_, PyList>,
        slots: &Bound<'_, PyAny>,
        epsilon: &Bound<'_, PyAny>,
        seed: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let parameters = core::Parameters::new(
            argument(slots, "slots", "an int, a power of two such as 65536")?,
            argument(epsilon, "epsilon", "a number from 0 to 10 such as 0.05")?,
            argument(seed, "seed", "an int from 0 to 2**64-1")?,
        )
        .map_err(Failure::from)?;
        let pods = pods.iter().map(|one| pod(&one)).collect::<PyResult<Vec<_>>>()?;
        let view = core::View::new(core::Epoch::new(1), parameters, pods);
        Ok(Self(view.map_err(Failure::from)?))
    }

    /// Returns the view that `to_json` described.
    #[staticmethod]
    fn from_json(text: &Bound<'_, PyAny>) -> PyResult<Self> {
        let text: String = argument(text, "text", "the JSON of a view, as a str")?;
        Ok(Self(core::View::from_json(&text).map_err(Failure::from)?))
    }

    /// Returns the view as JSON.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// Returns the fields of each pod, sorted by id.
    fn pods(&self) -> Vec<PodFields> {
        self.0.pods().iter().map(fields).collect()
    }

    /// Returns the next view, with one more pod.
    fn with_pod(&self, added: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(self.0.with_pod(pod(added)?).map_err(Failure::from)?))
    }

    /// Returns the next view, without this pod.
    fn without_pod(&self, id: &Bound<'_, PyAny>) -> PyResult<Self> {
        Ok(Self(self.0.without_pod(&pod_id(id)?).map_err(Failure::from)?))
    }

    /// Returns the next view, in which this pod has another weight.
    fn with_weight(&self, id: &Bound<'_, PyAny>, weight: &Bound<'_, PyAny>) -> PyResult<Self> {
        let id = pod_id(id)?;
        let weight = weight_of(&id, weight)?;
        Ok(Self(self.0.with_weight(&id, weight).map_err(Failure::from)?))
    }

    /// Returns the next view, in which this pod is in another state.
    fn with_state(&self, id: &Bound<'_, PyAny>, state: &Bound<'_, PyAny>) -> PyResult<Self> {
        let state = pod_state(state)?;
        Ok(Self(self.0.with_state(&pod_id(id)?, state).map_err(Failure::from)?))
    }

    /// Returns what is allowed in this view but not wise, a sentence each.
    fn advice(&self) -> Vec<String> {
        self.0.advice().iter().map(ToString::to_string).collect()
    }

    /// Returns whether both describe the same pods and parameters; the epoch is not compared.
    fn same_mapping(&self, other: &Self) -> bool {
        self.0.parameters() == other.0.parameters() && self.0.pods() == other.0.pods()
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch().get()
    }

    #[getter]
    fn slots(&self) -> u32 {
        self.0.parameters().slots()
    }

    #[getter]
    fn epsilon(&self) -> f64 {
        self.0.parameters().epsilon()
    }

    #[getter]
    fn seed(&self) -> u64 {
        self.0.parameters().seed()
    }
}

/// The pod that a Python `Pod` describes.
fn pod(value: &Bound<'_, PyAny>) -> PyResult<core::Pod> {
    let id = pod_id(&value.getattr("id")?)?;
    let address = |name| argument(&value.getattr(name)?, name, "an address as a str, or None");
    let zone: Option<String> = argument(&value.getattr("zone")?, "zone", "a str or None")?;
    Ok(core::Pod {
        weight: weight_of(&id, &value.getattr("weight")?)?,
        id: core::PodId::new(&id).map_err(Failure::from)?,
        zone: zone.map(Arc::from),
        state: pod_state(&value.getattr("state")?)?,
        addresses: core::Addresses { grpc: address("grpc")?, zmq: address("zmq")? },
    })
}

fn fields(pod: &core::Pod) -> PodFields {
    (
        pod.id.as_str().to_owned(),
        pod.weight.as_f64(),
        pod.zone.as_deref().map(str::to_owned),
        pod.state.as_str(),
        pod.addresses.grpc.clone(),
        pod.addresses.zmq.clone(),
    )
}

pub(crate) fn pod_id(value: &Bound<'_, PyAny>) -> PyResult<String> {
    argument(value, "a pod id", "a str, or a Pod where one is described")
}

fn weight_of(id: &str, value: &Bound<'_, PyAny>) -> PyResult<core::Weight> {
    let weight: f64 = argument(value, "weight", "a number such as 1.0")?;
    let weight = core::Weight::new(weight)
        .map_err(|error| Failure::from(error).about(&format!("pod {id:?}")).with("pod", id))?;
    Ok(weight)
}

fn pod_state(value: &Bound<'_, PyAny>) -> PyResult<core::PodState> {
    const EXPECTED: &str = "'joining', 'active', 'draining' or 'down'";
    let word: String = argument(value, "state", EXPECTED)?;
    core::PodState::from_name(&word).ok_or_else(|| {
        Failure::new("parameter", format!("state must be {EXPECTED}, not {word:?}"))
            .with("parameter", "state")
            .into()
    })
}
