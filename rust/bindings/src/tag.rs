//! `Tag`: what travels with a write, as headers and as a frame. The bytes are in `docs/wire.md`.
use hashroute_core::{Epoch, Slot};
use hashroute_dataplane::grpc::{HEADER_EPOCH, HEADER_GROUP, HEADER_SLOT, HEADER_TERM};
use hashroute_dataplane::write::{self as dataplane, GroupName, TagError, TagParts, Target};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use crate::failure::Failure;

/// What a write writes, and by which record it was routed.
#[pyclass(frozen, eq, hash, module = "hashroute._hashroute")]
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tag(dataplane::Tag);

/// The parts of a tag in the order of `TagParts`, with their headers.
const HEADERS: [&str; 4] = [HEADER_SLOT, HEADER_GROUP, HEADER_EPOCH, HEADER_TERM];

#[pymethods]
impl Tag {
    /// Makes the tag of a slot or a group.
    #[new]
    #[pyo3(signature = (*, slot = None, group = None, epoch, term))]
    fn made(slot: Option<u32>, group: Option<&str>, epoch: u64, term: u64) -> PyResult<Self> {
        let target = match (slot, group) {
            (Some(slot), None) => Target::Slot(Slot::new(slot)),
            (None, Some(group)) => Target::Group(GroupName::new(group).map_err(|error| {
                Failure::new("parameter", error.to_string()).with("parameter", "group")
            })?),
            _ => {
                let text = "a tag has either a slot or a group";
                return Err(Failure::new("parameter", text).with("parameter", "slot").into());
            }
        };
        Ok(Self(dataplane::Tag { target, epoch: Epoch::new(epoch), term: Epoch::new(term) }))
    }

    /// Returns the tag in the metadata of a call, an iterable of names and values; None if there is
    /// no part of one.
    ///
    /// Raises:
    ///     UntaggedError: there is a part of a tag, and not one whole tag.
    #[staticmethod]
    #[pyo3(signature = (metadata, /))]
    fn from_metadata(metadata: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let mut found: [Option<Vec<u8>>; HEADERS.len()] = [const { None }; HEADERS.len()];
        for entry in metadata.try_iter()? {
            let entry = entry?;
            let name = entry.get_item(0)?;
            let name = name.cast::<PyString>()?.to_str()?;
            let Some(place) = HEADERS.iter().position(|header| *header == name) else { continue };
            let value = bytes_of(&entry.get_item(1)?)?;
            if found[place].replace(value).is_some() {
                return Err(untagged(TagError::NotWhole));
            }
        }
        let [slot, group, epoch, term] = found.each_ref().map(Option::as_deref);
        let tag = dataplane::Tag::from_parts(TagParts { slot, group, epoch, term });
        Ok(tag.map_err(untagged)?.map(Self))
    }

    /// Returns the tag in a frame; None if the frame does not claim to be one.
    ///
    /// Raises:
    ///     UntaggedError: it claims to be one and is not exactly one.
    #[staticmethod]
    #[pyo3(signature = (frame, /))]
    fn from_frame(frame: &[u8]) -> PyResult<Option<Self>> {
        Ok(dataplane::Tag::from_frame(frame).map_err(untagged)?.map(Self))
    }

    /// Returns the tag as metadata: pairs of names and values.
    fn to_metadata<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let target = match &self.0.target {
            Target::Slot(slot) => (HEADER_SLOT, slot.get().to_string()),
            Target::Group(group) => (HEADER_GROUP, group.encoded().into_owned()),
        };
        let epoch = (HEADER_EPOCH, self.0.epoch.get().to_string());
        let term = (HEADER_TERM, self.0.term.get().to_string());
        PyTuple::new(py, [target, epoch, term])
    }

    /// Returns the tag as a frame.
    fn to_frame<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.to_frame().as_bytes())
    }

    /// The slot that is written; None if it is a group.
    #[getter]
    fn slot(&self) -> Option<u32> {
        match &self.0.target {
            Target::Slot(slot) => Some(slot.get()),
            Target::Group(_) => None,
        }
    }

    /// The group that is written; None if it is a slot.
    #[getter]
    fn group(&self) -> Option<&str> {
        match &self.0.target {
            Target::Slot(_) => None,
            Target::Group(name) => Some(name.as_arc()),
        }
    }

    /// The epoch of the record by which the write was routed.
    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch.get()
    }

    /// The term of what is written in that record.
    #[getter]
    fn term(&self) -> u64 {
        self.0.term.get()
    }

    fn __repr__(&self) -> String {
        format!("<Tag {}>", self.0.to_frame())
    }
}

impl Tag {
    pub(crate) fn new(tag: dataplane::Tag) -> Self {
        Self(tag)
    }
}

fn bytes_of(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(text.to_str()?.as_bytes().to_vec()),
        Err(_) => Ok(value.cast::<PyBytes>()?.as_bytes().to_vec()),
    }
}

fn untagged(error: TagError) -> PyErr {
    Failure::new("untagged", format!("the write is not tagged: {error}")).into()
}
