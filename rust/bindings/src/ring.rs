//! `Ring`: lookups for one key and for many.

use hashroute_core as core;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::arguments::argument;
use crate::batch;
use crate::failure::{Failure, detached};
use crate::keys::with_bytes;
use crate::plan::Plan;
use crate::view::View;

/// The assignment of a view. Python's `Ring` extends it, so a lookup meets no Python code.
#[pyclass(frozen, subclass, module = "hashroute._hashroute")]
pub(crate) struct Ring {
    pub(crate) ring: core::Ring,
    /// One string a pod, made once: a lookup hands out a reference to it.
    ids: Box<[Py<PyString>]>,
}

#[pymethods]
impl Ring {
    /// `before` is a ring to make this one from: the result is the same, and there sooner.
    #[new]
    #[pyo3(signature = (view, before = None))]
    fn new(py: Python<'_>, view: &View, before: Option<&Self>) -> PyResult<Self> {
        let view = view.0.clone();
        let ring = detached(py, || match before {
            Some(before) => before.ring.follow(view),
            None => core::Ring::build(view),
        })?;
        let pods = ring.view().pods().iter();
        let ids = pods.map(|pod| PyString::intern(py, pod.id.as_str()).unbind()).collect();
        Ok(Self { ring, ids })
    }

    /// Returns the id of the pod that owns `key`.
    ///
    /// A `str` key is its UTF-8 bytes, an `int` its 8 bytes little-endian (so -1 and 2**64-1 are
    /// one key), bytes-like objects are themselves; `bool` is refused. Takes no lock and allocates
    /// nothing for `str`, `bytes` and `int`.
    ///
    /// Raises:
    ///     KeyTypeError: `key` is of another type.
    ///     KeyRangeError: an int outside -2**63 .. 2**64-1.
    ///     KeyEncodingError: a str with lone surrogates.
    #[pyo3(signature = (key, /))]
    fn owner(&self, key: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
        let owner = with_bytes(key, |bytes| self.ring.owner_of_key(bytes))?;
        Ok(self.id(key.py(), owner.get()))
    }

    /// Returns the slot of `key`, from 0 to slots - 1: the same in every view of as many slots.
    ///
    /// Raises as `owner` does.
    #[pyo3(signature = (key, /))]
    fn slot(&self, key: &Bound<'_, PyAny>) -> PyResult<u32> {
        with_bytes(key, |bytes| self.ring.slot(bytes).get())
    }

    /// Returns the owner's id for each of `keys`, in their order.
    ///
    /// Takes what `owner_indices` takes.
    #[pyo3(signature = (keys, /))]
    fn owners<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = keys.py();
        let owners = batch::owners(&self.ring, keys)?;
        PyList::new(py, owners.into_iter().map(|owner| self.id(py, owner)))
    }

    /// Returns the owner of each of `keys` as its place in `pods`: a uint16 array of shape (n,).
    ///
    /// `keys` is a list, tuple or other iterable of keys, or an array of one dimension: int64 or
    /// uint64 (each element an int key) or fixed-width bytes `S` (each without its padding, as
    /// NumPy shows it). Arrays are looked up with the interpreter lock released; they must not be
    /// written to meanwhile.
    ///
    /// Raises:
    ///     KeyTypeError: a key, or the dtype of the array, is none of these; or `keys` is one key.
    ///     KeyShapeError: the array does not have one dimension.
    ///     KeyRangeError, KeyEncodingError: as `owner`.
    #[pyo3(signature = (keys, /))]
    fn owner_indices<'py>(&self, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<u16>>> {
        Ok(PyArray1::from_vec(keys.py(), batch::owners(&self.ring, keys)?))
    }

    /// Returns the first `n` pods of the key's preference list; all of them if `n` is None.
    ///
    /// The owner comes first, then the pods in the order in which they would inherit the key,
    /// different zones first. Pods that own no slots are not in it, so it may be shorter than `n`.
    ///
    /// Raises:
    ///     ParameterError: `n` is negative.
    ///     KeyTypeError, KeyRangeError, KeyEncodingError: as `owner`.
    #[pyo3(signature = (key, n = None))]
    fn preference<'py>(
        &self,
        key: &Bound<'py, PyAny>,
        n: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let py = key.py();
        let n = n.map_or(Ok(usize::MAX), |n| argument(n, "n", "an int of at least 0, or None"))?;
        let slot = with_bytes(key, |bytes| self.ring.slot(bytes))?;
        let pods: Vec<_> =
            self.ring.preference(slot).take(n).map(|pod| self.id(py, pod.get())).collect();
        PyTuple::new(py, pods)
    }

    /// Returns the part of all slots that each pod owns, by id; they sum to 1.
    fn shares<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shares = PyDict::new(py);
        for (id, share) in self.ids.iter().zip(self.ring.shares()) {
            shares.set_item(id, share)?;
        }
        Ok(shares)
    }

    /// The owner of each slot as its place in `pods`: a uint16 array of shape (slots,), a copy.
    #[getter]
    fn table<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u16>> {
        PyArray1::from_slice(py, self.ring.owners())
    }

    /// 16 hexadecimal digits over the table: two processes with the same digest route alike.
    #[getter]
    fn digest(&self) -> String {
        format!("{:016x}", self.ring.digest())
    }

    /// The view of this ring.
    #[getter]
    fn view(&self) -> View {
        View(self.ring.view().clone())
    }

    /// Returns the plan that leads from this ring to `to`.
    fn plan_to(
        &self,
        py: Python<'_>,
        to: &Self,
        slots_per_step: Option<&Bound<'_, PyAny>>,
        warm_up_steps: &Bound<'_, PyAny>,
    ) -> PyResult<Plan> {
        let slots_per_step = slots_per_step
            .map(|slots| argument(slots, "slots_per_step", "an int of at least 1, or None"))
            .transpose()?;
        let warm_up_steps = argument(warm_up_steps, "warm_up_steps", "an int of at least 1")?;
        let options = core::PlanOptions { slots_per_step, warm_up_steps };
        detached(py, || self.ring.plan_with(&to.ring, options).map_err(Failure::from)).map(Plan)
    }
}

impl Ring {
    /// The id of the pod that owns the key of these bytes.
    #[inline]
    pub(crate) fn owner_id(&self, py: Python<'_>, key: &[u8]) -> Option<Py<PyString>> {
        let owner = self.ring.owner_of_key(key);
        self.ids.get(usize::from(owner.get())).map(|id| id.clone_ref(py))
    }

    /// The string of the pod at `place`, which comes from this ring's own table.
    #[inline]
    fn id(&self, py: Python<'_>, place: u16) -> Py<PyString> {
        self.ids[usize::from(place)].clone_ref(py)
    }
}
