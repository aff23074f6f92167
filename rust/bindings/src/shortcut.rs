//! The short ways into `Ring.owner` and through a list of keys.
//!
//! PyO3 binds every method by the calling convention that also takes keywords, and parses its
//! arguments into a buffer. A lookup has one positional argument and takes less time than that, so
//! the class gets a method of the convention for exactly one argument (`METH_O`), which answers
//! for a plain `str`, `bytes` or `int` key and hands everything else to the method that PyO3 made.
#![expect(unsafe_code, reason = "CPython's own calling convention; each block says why it holds")]

use std::ffi::CString;
use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyList, PyType};

use crate::keys::with_plain_bytes;
use crate::ring::Ring;

/// The method that PyO3 made: it takes every key and raises every error.
static GENERAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Puts the short way before the `owner` of `class`, which is the class of [`Ring`].
///
/// # Errors
///
/// What the interpreter raises when it is out of memory.
pub(crate) fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let general = class.getattr("owner")?;
    let doc: String = general.getattr("__doc__")?.extract()?;
    let doc = CString::new(format!("owner($self, key, /)\n--\n\n{doc}"))?;
    // The class lives as long as the process, and points to both.
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"owner".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: owner },
        ml_flags: ffi::METH_O,
        ml_doc: CString::into_raw(doc),
    }));
    GENERAL.get_or_init(py, || general.unbind());
    // SAFETY: `class` is a type, `definition` and what it points to are never freed, and `owner`
    // has the signature that METH_O asks for. The call returns a new reference or raises.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(py, method)?
    };
    class.setattr("owner", method)
}

/// `Ring.owner(key)` as the interpreter calls it: a new reference, or null and an exception.
unsafe extern "C" fn owner(
    ring: *mut ffi::PyObject,
    key: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this attached, with references that outlive the call, and its
    // method descriptor has checked that `ring` is an instance of the class it was installed in.
    let (ring, key) = unsafe {
        let py = Python::assume_attached();
        let ring = Borrowed::from_ptr(py, ring).cast_unchecked::<Ring>();
        (ring, Borrowed::from_ptr(py, key))
    };
    // Nothing here can panic, and PyO3 need not know that the thread is attached.
    match with_plain_bytes(&key, |bytes| ring.get().owner_id(key.py(), bytes)).flatten() {
        Some(id) => id.into_ptr(),
        None => owner_of_any(&ring, &key),
    }
}

#[cold]
fn owner_of_any(ring: &Bound<'_, Ring>, key: &Bound<'_, PyAny>) -> *mut ffi::PyObject {
    // SAFETY: all three are live objects, the null ends the list, and the calling thread is
    // attached, as the token in `ring` proves. The answer is already what the interpreter expects.
    unsafe {
        match GENERAL.get(ring.py()) {
            Some(general) => ffi::PyObject_CallFunctionObjArgs(
                general.as_ptr(),
                ring.as_ptr(),
                key.as_ptr(),
                ptr::null_mut::<ffi::PyObject>(),
            ),
            None => {
                ffi::PyErr_BadInternalCall();
                ptr::null_mut()
            }
        }
    }
}

/// Whether threads run Python code at the same time: objects of such a CPython are larger, since
/// they know the thread that made them.
const IS_FREE_THREADED: bool = size_of::<ffi::PyObject>() > 2 * size_of::<usize>();

/// How many keys of a list are asked of memory before the first of them is read.
const BLOCK: usize = 32;

/// Adds the owners of `keys` to `owners`, up to the first key that is not plain. Under the
/// interpreter lock nobody can change the list meanwhile, so it is read where it is; without the
/// lock it must be copied first, and this adds nothing.
pub(crate) fn owners_while_plain(
    ring: &hashroute_core::Ring,
    keys: &Bound<'_, PyList>,
    owners: &mut Vec<u16>,
) {
    if IS_FREE_THREADED {
        return;
    }
    let count = keys.len();
    let mut block = [ptr::null_mut(); BLOCK];
    for first in (0..count).step_by(BLOCK) {
        let places = first..count.min(first.saturating_add(BLOCK));
        for (key, place) in block.iter_mut().zip(places.clone()) {
            let Ok(place) = ffi::Py_ssize_t::try_from(place) else { return };
            // SAFETY: `keys` is a list, and `place` is below its length.
            *key = unsafe { ffi::PyList_GetItem(keys.as_ptr(), place) };
            fetch(*key);
        }
        for key in block.iter().take(places.len()) {
            // SAFETY: nothing in these loops runs Python code or gives the interpreter lock up
            // before they end, so the list keeps its length and its items.
            let key = unsafe { Borrowed::from_ptr(keys.py(), *key) };
            match with_plain_bytes(&key, |bytes| ring.owner_of_key(bytes).get()) {
                Some(owner) => owners.push(owner),
                None => return,
            }
        }
    }
}

/// Asks memory for a key: a short text lies behind its head, in the same line or the next. The keys
/// of a long list lie anywhere, and waiting for one after the other takes longer than their hashes.
#[inline]
fn fetch(key: *mut ffi::PyObject) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = key.cast::<i8>();
        // SAFETY: a hint, which reads nothing and is ignored for an address that is none.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line);
            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(64));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = key;
}

/// The value of `number`, if it lies in -2**63 .. 2**63-1. PyO3's own conversion asks the
/// interpreter whether an exception is set; this one is told, in a third of the time.
#[inline]
pub(crate) fn small_int(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: `number` is an int, so nothing is called or raised, and `overflow` outlives the call.
    let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
    (overflow == 0).then_some(value)
}
