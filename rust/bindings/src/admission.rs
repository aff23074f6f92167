//! `Guard` and `Admission`: which writes a pod may accept, one by one.
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashroute_coordination::{Record, WriteTag};
use hashroute_core::{Epoch, Slot};
use hashroute_dataplane::write::Target;
use hashroute_quorum as quorum;
use hashroute_quorum::Records;
use hashroute_sidecar::resource;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};

use crate::arguments::{argument, group_name};
use crate::failure::Failure;
use crate::keys::with_bytes;
use crate::refusal;
use crate::route::Ready;

/// Admits the writes that arrive at a pod: those of what its process owns, while it holds a lease.
///
/// Safe to share between threads. Nothing is cached: each admission reads the clock and the newest
/// record, so a process that was stopped and resumed refuses its first write.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Guard {
    guard: quorum::PodGuard,
    records: Records,
}

#[pymethods]
impl Guard {
    /// Decides on one write, and counts it as under way until the admission ends.
    ///
    /// Use it as `with guard.admit("AAPL") as admission:` or `async with`, around everything that
    /// the write does; hand `admission.term` to whatever stores the effect. What is written is given
    /// by a key, a slot or the name of a group; `epoch` and `term` are those that came with the
    /// write. Without them it is judged by this pod's own record alone.
    ///
    /// Raises:
    ///     NotOwnerError: another process owns it.
    ///     StaleTermError: it was routed by an older owner's term.
    ///     BehindError: it was routed by a record that this pod has not seen yet.
    ///     MovingError: it is on its way to another owner.
    ///     NoLeaseError: no majority of voters answers this pod, or it has left.
    ///     ParameterError: there is no such slot; none or several of key, slot and group are
    ///         given; or only one of epoch and term.
    ///     KeyTypeError, KeyRangeError, KeyEncodingError: as `Ring.owner`.
    #[pyo3(signature = (key = None, *, slot = None, group = None, epoch = None, term = None))]
    fn admit(
        &self,
        key: Option<&Bound<'_, PyAny>>,
        slot: Option<&Bound<'_, PyAny>>,
        group: Option<&Bound<'_, PyAny>>,
        epoch: Option<&Bound<'_, PyAny>>,
        term: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Admission> {
        let tag = tag(epoch, term)?;
        let target = match (key, slot, group) {
            (Some(key), None, None) => Target::Slot(self.slot_of(key)?),
            (None, Some(slot), None) => Target::Slot(self.checked_slot(slot)?),
            (None, None, Some(group)) => Target::Group(group_name(group)?),
            _ => {
                let text = "pass exactly one of key, slot and group: what the write writes";
                return Err(Failure::new("parameter", text).with("parameter", "key").into());
            }
        };
        self.guard
            .admit(&resource(&target), tag)
            .map(Admission::new)
            .map_err(|refused| refusal::failure(&target, &refused, Epoch::new(self.epoch())).into())
    }

    /// Returns the slot of `key` in the cluster's record.
    ///
    /// Raises:
    ///     NoLeaseError: this process knows no record yet.
    ///     KeyTypeError, KeyRangeError, KeyEncodingError: as `Ring.owner`.
    #[pyo3(signature = (key, /))]
    fn slot(&self, key: &Bound<'_, PyAny>) -> PyResult<u32> {
        self.slot_of(key).map(Slot::get)
    }

    /// The epoch of the newest record that this process knows; 0 if it knows none.
    #[getter]
    fn epoch(&self) -> u64 {
        self.records.newest().map_or(0, |record| record.epoch().get())
    }

    fn __repr__(&self) -> String {
        format!("<Guard at epoch {}>", self.epoch())
    }
}

impl Guard {
    pub(crate) fn new(guard: quorum::PodGuard, records: Records) -> Self {
        Self { guard, records }
    }

    fn slot_of(&self, key: &Bound<'_, PyAny>) -> PyResult<Slot> {
        let record = self.record()?;
        match record.ring() {
            Some(ring) => with_bytes(key, |bytes| ring.slot(bytes)),
            None => Err(refusal::nobody_owns(record.epoch()).into()),
        }
    }

    fn checked_slot(&self, slot: &Bound<'_, PyAny>) -> PyResult<Slot> {
        let number: u32 = argument(slot, "slot", "an int of at least 0")?;
        let slots = self.record()?.view().parameters().slots();
        if number < slots {
            return Ok(Slot::new(number));
        }
        let text = format!("slot must be below {slots}, the slots of the cluster, not {number}");
        Err(Failure::new("parameter", text).with("parameter", "slot").into())
    }

    fn record(&self) -> PyResult<Record> {
        self.records.newest().ok_or_else(|| refusal::no_record().into())
    }
}

/// What came with a write, if anything did.
fn tag(
    epoch: Option<&Bound<'_, PyAny>>,
    term: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<WriteTag>> {
    const EXPECTED: &str = "an int from 0 to 2**64-1, or None";
    let number = |value: Option<&Bound<'_, PyAny>>, name| {
        value.map(|value| argument::<u64>(value, name, EXPECTED).map(Epoch::new)).transpose()
    };
    match (number(epoch, "epoch")?, number(term, "term")?) {
        (Some(epoch), Some(term)) => Ok(Some(WriteTag { epoch, term })),
        (None, None) => Ok(None),
        _ => {
            let text = "pass both epoch and term, as they came with the write, or neither";
            Err(Failure::new("parameter", text).with("parameter", "epoch").into())
        }
    }
}

/// One admitted write, which counts as under way until the end of the `with` block: what it wrote
/// goes to no other pod before that.
#[pyclass(frozen, module = "hashroute._hashroute")]
pub(crate) struct Admission {
    term: u64,
    epoch: u64,
    // Taken out at the end.
    held: Mutex<Option<quorum::Admission>>,
}

#[pymethods]
impl Admission {
    /// The fencing token: hand it to whatever stores the effect, which keeps the highest and
    /// refuses lower ones.
    #[getter]
    fn term(&self) -> u64 {
        self.term
    }

    /// The epoch under which the write was admitted.
    #[getter]
    fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A second look, right before the effect leaves: whether this process still holds a lease and
    /// owns what it writes. False after the end of the block. It makes the hole between guard and
    /// store smaller, and only the store's comparison of terms closes it.
    #[getter]
    fn is_valid(&self) -> bool {
        self.held().as_ref().is_some_and(quorum::Admission::is_valid)
    }

    /// Ends the write without a `with` block. Does nothing the second time.
    fn release(&self) {
        let ended = self.held().take();
        drop(ended);
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyResult<PyRef<'_, Self>> {
        if slf.held().is_none() {
            let text = "this write has ended; have the next one admitted by the guard";
            return Err(Failure::new("closed", text).into());
        }
        Ok(slf)
    }

    #[pyo3(signature = (_kind, _value, _traceback))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyType>>,
        _value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> bool {
        self.release();
        false
    }

    fn __aenter__(slf: PyRef<'_, Self>) -> PyResult<Ready> {
        let py = slf.py();
        let admission = Self::__enter__(slf)?;
        Ok(Ready::new(admission.into_pyobject(py)?.into_any().unbind()))
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
        Ready::new(PyBool::new(py, suppress).to_owned().into_any().unbind())
    }

    fn __repr__(&self) -> String {
        format!("<Admission under term {}>", self.term)
    }
}

impl Admission {
    fn new(admission: quorum::Admission) -> Self {
        let (term, epoch) = (admission.term().get(), admission.epoch().get());
        Self { term, epoch, held: Mutex::new(Some(admission)) }
    }

    fn held(&self) -> MutexGuard<'_, Option<quorum::Admission>> {
        // It is there or it is not, also if a thread panicked while it looked.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
