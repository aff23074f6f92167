//! What a call of `hashroute.Ring.owner` costs without the lookup: the floor under it.

use std::ffi::CStr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

/// A class that is bound as `Ring` is and hands out the one string it was made with.
#[pyclass(frozen, subclass)]
struct Noop {
    id: Py<PyString>,
}

#[pymethods]
impl Noop {
    #[new]
    fn new(id: Py<PyString>) -> Self {
        Self { id }
    }

    /// Takes a key and returns the string, as PyO3 binds methods.
    #[pyo3(signature = (key, /))]
    fn general(&self, key: &Bound<'_, PyAny>) -> PyResult<Py<PyString>> {
        Ok(self.id.clone_ref(key.py()))
    }
}

/// The same by the convention for exactly one argument, as `Ring.owner` is bound.
unsafe extern "C" fn short(noop: *mut ffi::PyObject, _: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: called attached, and only on instances: the method descriptor checks that.
    unsafe {
        let noop = Borrowed::from_ptr(Python::assume_attached(), noop).cast_unchecked::<Noop>();
        noop.get().id.clone_ref(noop.py()).into_ptr()
    }
}

fn install(class: &Bound<'_, PyType>) -> PyResult<()> {
    const NAME: &CStr = c"short";
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunction: short },
        ml_flags: ffi::METH_O,
        ml_doc: std::ptr::null(),
    }));
    // SAFETY: a type and a definition that is never freed; a new reference or an exception.
    let method = unsafe {
        let method = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
        Bound::from_owned_ptr_or_err(class.py(), method)?
    };
    class.setattr("short", method)
}

/// The floors of the Python benchmarks.
#[pymodule(gil_used = false)]
mod hashroute_noop {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::Noop;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::install(&module.py().get_type::<Noop>())
    }
}
