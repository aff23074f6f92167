//! Which bytes stand for a Python key.
//!
//! A `str` is its UTF-8 bytes, an `int` its 8 bytes little-endian in two's complement, bytes-like
//! objects are themselves. Subclasses count as what they extend, and whatever has `__index__`
//! (NumPy's integers) as an `int`; `bool` does not, since a truth value as a key is a mistake.

use pyo3::PyTypeInfo;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyInt, PyString};

use crate::failure::Failure;
use crate::shortcut;

/// Calls `read` with the bytes of `key`: no copy for `str` and `bytes`.
///
/// # Errors
///
/// `KeyTypeError`, `KeyRangeError` or `KeyEncodingError`; each says what a key may be.
#[inline]
pub(crate) fn with_bytes<R>(key: &Bound<'_, PyAny>, read: impl Fn(&[u8]) -> R) -> PyResult<R> {
    match with_plain_bytes(key, &read) {
        Some(done) => Ok(done),
        None => with_unusual_bytes(key, read),
    }
}

/// Does as [`with_bytes`] for nearly all keys: `str`, `bytes`, and `int` below 2**63, but no
/// subclass of them. None for every other key, good or bad; runs no Python code.
#[inline]
pub(crate) fn with_plain_bytes<R>(key: &Bound<'_, PyAny>, read: impl Fn(&[u8]) -> R) -> Option<R> {
    if let Some(text) = exactly::<PyString>(key) {
        return text.to_str().ok().map(|text| read(text.as_bytes()));
    }
    if let Some(bytes) = exactly::<PyBytes>(key) {
        return Some(read(bytes.as_bytes()));
    }
    let number = shortcut::small_int(exactly::<PyInt>(key)?)?;
    Some(read(&number.to_le_bytes()))
}

/// A cast that only compares pointers: PyO3's own makes an error, and drops it, where it fails.
#[inline]
fn exactly<'a, 'py, T: PyTypeInfo>(key: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    if key.is_exact_instance_of::<T>() { key.cast_exact::<T>().ok() } else { None }
}

/// Whether `keys` is one key, where many were asked for.
pub(crate) fn is_single(keys: &Bound<'_, PyAny>) -> bool {
    keys.is_instance_of::<PyString>()
        || keys.is_instance_of::<PyBytes>()
        || keys.is_instance_of::<PyByteArray>()
        || keys.is_instance_of::<PyInt>()
}

#[cold]
fn with_unusual_bytes<R>(key: &Bound<'_, PyAny>, read: impl Fn(&[u8]) -> R) -> PyResult<R> {
    if let Ok(text) = key.cast::<PyString>() {
        return Ok(read(utf8(text)?));
    }
    if let Ok(bytes) = key.cast::<PyBytes>() {
        return Ok(read(bytes.as_bytes()));
    }
    if key.is_instance_of::<PyBool>() {
        return Err(wrong_type(key, "; pass int(key) if the numbers 0 and 1 are meant"));
    }
    if let Some(bytes) = int_bytes(key)? {
        return Ok(read(&bytes));
    }
    // NumPy's floats have a buffer too, which says nothing about a key: unsigned bytes only.
    match PyBuffer::<u8>::get(key) {
        Ok(buffer) => Ok(read(&buffer.to_vec(key.py())?)),
        Err(_) => Err(wrong_type(key, "")),
    }
}

fn utf8<'a>(text: &'a Bound<'_, PyString>) -> PyResult<&'a [u8]> {
    text.to_str().map(str::as_bytes).map_err(|_| {
        Failure::new(
            "key_encoding",
            "a str key holds lone surrogates, so it has no UTF-8 form; pass the original bytes, \
             for instance os.fsencode(key)",
        )
        .into()
    })
}

/// The 8 bytes of `key`, or none if it is not an integer. What its `__index__` raises comes through.
fn int_bytes(key: &Bound<'_, PyAny>) -> PyResult<Option<[u8; 8]>> {
    let py = key.py();
    match key.extract::<i64>() {
        Ok(number) => return Ok(Some(number.to_le_bytes())),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => return Ok(None),
        Err(error) if !error.is_instance_of::<PyOverflowError>(py) => return Err(error),
        Err(_) => {}
    }
    // The upper half of the unsigned range has the bytes of the negative numbers.
    match key.extract::<u64>() {
        Ok(number) => Ok(Some(number.to_le_bytes())),
        Err(error) if !error.is_instance_of::<PyOverflowError>(py) => Err(error),
        Err(_) => Err(Failure::new(
            "key_range",
            "an int key must lie in -2**63 .. 2**64-1, the range of 8 bytes; pass str(key) or \
             the bytes of a larger number",
        )
        .into()),
    }
}

fn wrong_type(key: &Bound<'_, PyAny>, advice: &str) -> PyErr {
    let kind = key.get_type();
    let kind = kind.name().map_or_else(|_| "an object".to_owned(), |name| name.to_string());
    Failure::new("key_type", format!("a key is a str, bytes-like or int, not {kind}{advice}"))
        .into()
}
