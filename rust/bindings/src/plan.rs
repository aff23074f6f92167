//! `Plan`: the steps from one ring to another.

use hashroute_core as core;
use pyo3::prelude::*;
use pyo3::types::PyString;

/// A plan; Python's `Plan` is made from it.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Plan(pub(crate) core::Plan);

/// A move: slot, id of the pod that gives, id of the pod that takes.
type Move<'py> = (u32, Bound<'py, PyString>, Bound<'py, PyString>);

#[pymethods]
impl Plan {
    /// Returns for each step its moves: slot, id of the source, id of the target.
    fn steps<'py>(&self, py: Python<'py>) -> Vec<Vec<Move<'py>>> {
        let ids: Vec<_> =
            self.0.pods().iter().map(|id| PyString::intern(py, id.as_str())).collect();
        let id = |place: core::PodIndex| ids[place.as_usize()].clone();
        let moves = |step: &core::Step| {
            step.moves.iter().map(|one| (one.slot.get(), id(one.from), id(one.to))).collect()
        };
        self.0.steps().iter().map(moves).collect()
    }

    /// How many slots have another owner at the end.
    #[getter]
    fn moved_slots(&self) -> u32 {
        self.0.moved_slots()
    }

    /// How many any assignment would have to move.
    #[getter]
    fn least_slots(&self) -> u32 {
        self.0.least_slots()
    }
}
