//! The key of a request as bytes: given as a Python key, or found in a serialized message.

use hashroute_dataplane::protobuf::{FieldLookup, FieldPath, FieldScan};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::failure::Failure;
use crate::keys::with_bytes;

/// Returns the key that the field at `path` holds, as its bytes; None if the message has none.
///
/// Raises:
///     ParameterError: `path` is no path of field numbers.
#[pyfunction]
#[pyo3(signature = (message, path, /))]
pub(crate) fn field_key<'py>(
    py: Python<'py>,
    message: &[u8],
    path: Vec<u32>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let path = FieldPath::try_from(path)
        .map_err(|error| Failure::new("parameter", error.to_string()).with("parameter", "path"))?;
    Ok(match FieldScan::new(&path).advance(message, message.len()) {
        FieldLookup::Found(key) => Some(PyBytes::new(py, key.as_bytes())),
        FieldLookup::NeedMore { .. }
        | FieldLookup::Missing
        | FieldLookup::TooFar
        | FieldLookup::Malformed => None,
    })
}

/// Returns the bytes that stand for `key`: what a message carries and what is hashed.
///
/// Raises as `Ring.owner` does.
#[pyfunction]
#[pyo3(signature = (key, /))]
pub(crate) fn key_bytes<'py>(key: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    with_bytes(key, |bytes| PyBytes::new(key.py(), bytes))
}
