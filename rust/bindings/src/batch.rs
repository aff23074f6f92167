//! Many keys at once: iterables key by key, arrays without the interpreter.

use hashroute_core::Ring;
use numpy::{
    Element, PyArrayDescrMethods, PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use crate::failure::Failure;
use crate::keys::{is_single, with_bytes, with_plain_bytes};
use crate::lanes;
use crate::shortcut;

/// The owners of `keys`, in their order.
///
/// # Errors
///
/// `KeyTypeError`, `KeyShapeError`, `KeyRangeError` or `KeyEncodingError`.
pub(crate) fn owners(ring: &Ring, keys: &Bound<'_, PyAny>) -> PyResult<Vec<u16>> {
    if let Ok(list) = keys.cast::<PyList>() {
        return owners_of_list(ring, list);
    }
    if let Ok(tuple) = keys.cast::<PyTuple>() {
        return owners_of_tuple(ring, tuple, Vec::with_capacity(tuple.len()));
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

fn owners_of_list(ring: &Ring, list: &Bound<'_, PyList>) -> PyResult<Vec<u16>> {
    let mut owners = Vec::with_capacity(list.len());
    shortcut::owners_while_plain(ring, list, &mut owners);
    if owners.len() == list.len() {
        return Ok(owners);
    }
    // Asking an unusual key for its bytes may run Python code, but nobody can change the copy.
    owners_of_tuple(ring, &list.to_tuple(), owners)
}

/// Adds the owners of the keys behind those whose owners are known.
fn owners_of_tuple(
    ring: &Ring,
    keys: &Bound<'_, PyTuple>,
    mut owners: Vec<u16>,
) -> PyResult<Vec<u16>> {
    for key in keys.iter_borrowed().skip(owners.len()) {
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
            return owners_of_numbers(ring, &numbers, i64::to_le_bytes);
        }
        if let Ok(numbers) = array.extract::<PyReadonlyArray1<'_, u64>>() {
            return owners_of_numbers(ring, &numbers, u64::to_le_bytes);
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

/// The array itself, or a copy if its elements are not a slice to Rust: one behind the other, at
/// addresses that their type wants.
fn in_place<'py>(array: &Bound<'py, PyUntypedArray>) -> PyResult<Bound<'py, PyUntypedArray>> {
    if array.is_c_contiguous() && array.is_aligned() {
        return Ok(array.clone());
    }
    let copied = array.call_method1("copy", ("C",))?;
    Ok(copied.cast_into::<PyUntypedArray>()?)
}

fn owners_of_numbers<T: Element + Copy + Send + Sync>(
    ring: &Ring,
    numbers: &PyReadonlyArray1<'_, T>,
    bytes: impl Fn(T) -> [u8; 8] + Copy + Send + Sync,
) -> PyResult<Vec<u16>> {
    let slice = numbers.as_slice()?;
    Ok(numbers.py().detach(|| lanes::owners(ring, slice, bytes)))
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
    Ok(py.detach(|| match width {
        8 => owners_of_width::<8>(ring, bytes),
        12 => owners_of_width::<12>(ring, bytes),
        16 => owners_of_width::<16>(ring, bytes),
        _ => bytes.chunks_exact(width).map(|text| owner(ring, unpadded(text))).collect(),
    }))
}

/// For a text that fills a width which the compiler knows, it leaves out all that XXH3 does to
/// find out how long its input is.
fn owners_of_width<const WIDTH: usize>(ring: &Ring, bytes: &[u8]) -> Vec<u16> {
    let texts = bytes.as_chunks::<WIDTH>().0.iter();
    texts
        .map(|text| match text.last() {
            Some(0) => owner(ring, unpadded(text)),
            _ => owner(ring, text),
        })
        .collect()
}

#[inline(always)]
fn owner(ring: &Ring, key: &[u8]) -> u16 {
    ring.owner_of_key(key).get()
}

/// A text without the zero bytes at its end. Many bytes are looked at together: a text says
/// nothing about the length of the next, so a branch for each byte would often be guessed wrongly.
fn unpadded(text: &[u8]) -> &[u8] {
    let mut end = text;
    while let Some((before, last)) = end.split_last_chunk::<16>() {
        if let Some(zeros) = zeros_at_end(u128::from_le_bytes(*last)) {
            return end.get(..end.len() - zeros).unwrap_or(end);
        }
        end = before;
    }
    if let Some((before, last)) = end.split_last_chunk::<8>() {
        // Shifted by eight bytes, so that only zeros are added at the front.
        if let Some(zeros) = zeros_at_end(u128::from(u64::from_le_bytes(*last)) << 64) {
            return end.get(..end.len() - zeros).unwrap_or(end);
        }
        end = before;
    }
    let length = end.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    end.get(..length).unwrap_or(end)
}

/// How many zero bytes there are above the highest byte that is not zero, unless all are.
fn zeros_at_end(bytes: u128) -> Option<usize> {
    (bytes != 0).then(|| bytes.leading_zeros() as usize / 8)
}

fn shown(keys: &Bound<'_, PyAny>) -> String {
    keys.get_type().name().map_or_else(|_| "this object".to_owned(), |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_with_its_last_byte_that_is_not_zero() {
        for width in 0..40 {
            for length in 0..=width {
                let mut text = vec![0; width];
                for (place, byte) in text.iter_mut().enumerate().take(length) {
                    // Zero bytes inside are part of it.
                    *byte = u8::from(place + 1 == length || place % 3 == 0);
                }
                assert_eq!(unpadded(&text), &text[..length]);
            }
        }
    }
}
