//! Many keys at once: iterables key by key, arrays without the interpreter.

use hashroute_core::Ring;
use numpy::{
    Element, PyArrayDescrMethods, PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::failure::Failure;
use crate::keys::{is_single, with_bytes, with_plain_bytes};

/// The owners of `keys`, in their order.
///
/// # Errors
///
/// `KeyTypeError`, `KeyShapeError`, `KeyRangeError` or `KeyEncodingError`.
pub(crate) fn owners(ring: &Ring, keys: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
    if let Ok(list) = keys.cast::<PyList>() {
        // Nobody can change the copy meanwhile, so its keys need no reference count each.
        return owners_of_tuple(ring, &list.to_tuple());
    }
    if let Ok(tuple) = keys.cast::<PyTuple>() {
        return owners_of_tuple(ring, tuple);
    }
    if is_single(keys) {
        return Err(Failure::new(
            "key_type",
            "expected many keys and got one: write owner(key), or put it into a list",
        )
        .into());
    }
    if let Ok(array) = keys.cast::<PyUntypedArray>() {
        return owners_of_array(ring, array);
    }
    let keys = keys.try_iter().map_err(|_| {
        Failure::new(
            "key_type",
            format!("expected a list, tuple, array or other iterable of keys, not {}", shown(keys)),
        )
    })?;
    keys.map(|key| owner_of_key(ring, &key?)).collect()
}

fn owners_of_tuple(ring: &Ring, keys: &Bound<'_, PyTuple>) -> PyResult<Vec<u16>> {
    let mut owners = Vec::with_capacity(keys.len());
    for key in keys.iter_borrowed() {
        // Nearly all keys are plain; for them no result that may be an error is passed around.
        owners.push(match with_plain_bytes(&key, |bytes| owner(ring, bytes)) {
            Some(owner) => owner,
            None => owner_of_key(ring, &key)?,
        });
    }
    Ok(owners)
}

fn owner_of_key(ring: &Ring, key: &Bound<'_, PyAny>) -> PyResult<u16> {
    with_bytes(key, |bytes| owner(ring, bytes))
}

fn owners_of_array(ring: &Ring, array: &Bound<'_, PyUntypedArray>) -> PyResult<Vec<u16>> {
    if array.ndim() != 1 {
        return Err(Failure::new(
            "key_shape",
            format!(
                "an array of keys has one dimension, and this one has {}; write keys.ravel() if \
                 its order is the one you mean",
                array.ndim()
            ),
        )
        .into());
    }
    let kind = array.dtype().kind();
    if kind == b'S' {
        return owners_of_texts(ring, array);
    }
    if kind == b'i' || kind == b'u' {
        let array = in_place(array)?;
        if let Ok(numbers) = array.extract::<PyReadonlyArray1<'_, i64>>() {
            return Ok(owners_of_numbers(ring, &numbers, i64::to_le_bytes));
        }
        if let Ok(numbers) = array.extract::<PyReadonlyArray1<'_, u64>>() {
            return Ok(owners_of_numbers(ring, &numbers, u64::to_le_bytes));
        }
    }
    Err(Failure::new(
        "key_type",
        format!(
            "an array of keys has dtype int64, uint64 or S (fixed-width bytes), and this one has \
             {}; write keys.astype('int64') for other integers, keys.tolist() for str",
            array.dtype()
        ),
    )
    .into())
}

/// The array itself, or a copy if its elements do not lie where Rust may read them: at addresses
/// that their type wants, a whole number of elements apart. A column of packed records does not.
fn in_place<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    let itemsize = isize::try_from(array.dtype().itemsize())?;
    let is_whole = |stride: &isize| stride % itemsize == 0;
    if array.strides().iter().all(is_whole) && array.is_aligned() {
        return Ok(array.clone());
    }
    let copied = array.call_method1("copy", ("C",))?;
    Ok(copied.cast_into::<PyUntypedArray>()?)
}

fn owners_of_numbers<T: Element + Copy + Send + Sync>(
    ring: &Ring,
    numbers: &PyReadonlyArray1<'_, T>,
    bytes: impl Fn(T) -> [u8; 8] + Send + Sync,
) -> Vec<u16> {
    let owner_of = |number: &T| owner(ring, &bytes(*number));
    // A slice has a length that the compiler can trust; that spares a third of the instructions.
    match numbers.as_slice() {
        Ok(slice) => numbers.py().detach(|| slice.iter().map(owner_of).collect()),
        Err(_) => {
            let view = numbers.as_array();
            numbers.py().detach(|| view.iter().map(owner_of).collect())
        }
    }
}

/// NumPy pads each element with zero bytes and shows it without them; so does this.
fn owners_of_texts(ring: &Ring, array: &Bound<'_, PyUntypedArray>) -> PyResult<Vec<u16>> {
    let py = array.py();
    let width = array.dtype().itemsize();
    if width == 0 {
        return Ok(vec![owner(ring, &[]); array.len()]);
    }
    let numpy = py.import("numpy")?;
    let packed = numpy.call_method1("ascontiguousarray", (array,))?;
    let bytes = packed.call_method1("view", (numpy.getattr("uint8")?,))?;
    let bytes = bytes.extract::<PyReadonlyArray1<'_, u8>>()?;
    let bytes = bytes.as_slice()?;
    Ok(py.detach(|| bytes.chunks_exact(width).map(|text| owner(ring, unpadded(text))).collect()))
}

fn owner(ring: &Ring, key: &[u8]) -> u16 {
    ring.owner_of_key(key).get()
}

fn unpadded(text: &[u8]) -> &[u8] {
    match text.split_last() {
        // A text that fills its width is known from one byte, whatever its length.
        Some((last, _)) if *last != 0 => text,
        _ => {
            let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            text.get(..end).unwrap_or_default()
        }
    }
}

fn shown(keys: &Bound<'_, PyAny>) -> String {
    keys.get_type().name().map_or_else(|_| "this object".to_owned(), |name| name.to_string())
}
