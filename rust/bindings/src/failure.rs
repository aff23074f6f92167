//! How a native error becomes a Python one, and how long calls leave the interpreter alone.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

/// A native error on its way to Python: the code that chooses the class, the text, the data.
#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    data: Vec<(&'static str, Datum)>,
}

/// One typed attribute of an error.
#[derive(Debug, IntoPyObject)]
pub(crate) enum Datum {
    Text(String),
    Number(f64),
    Count(u64),
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: Vec::new() }
    }

    /// Adds an attribute; the class of the code must know it.
    pub(crate) fn with(mut self, attribute: &'static str, datum: impl Into<Datum>) -> Self {
        self.data.push((attribute, datum.into()));
        self
    }

    /// Says in front of the text what the error is about.
    pub(crate) fn about(mut self, subject: &str) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    fn raise(self, py: Python<'_>) -> PyResult<PyErr> {
        static OF_CODE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let of_code = OF_CODE.import(py, "hashroute.errors", "of_code")?;
        let data = PyDict::new(py);
        for (attribute, datum) in self.data {
            data.set_item(attribute, datum)?;
        }
        Ok(PyErr::from_value(of_code.call((self.code, self.message), Some(&data))?))
    }
}

/// Whatever goes wrong while an error is made is itself the error to show.
impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        Python::attach(|py| failure.raise(py).unwrap_or_else(|error| error))
    }
}

impl From<String> for Datum {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<f64> for Datum {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Datum {
    fn from(count: usize) -> Self {
        Self::Count(u64::try_from(count).unwrap_or(u64::MAX))
    }
}

impl From<u64> for Datum {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

/// Runs `work` with the interpreter released and maps its error; for every call that may be long.
///
/// A panic is a defect of ours: it becomes an `InternalError` here, never an exception outside
/// the tree.
pub(crate) fn detached<T, E>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> PyResult<T>
where
    T: Send,
    E: Into<Failure> + Send,
{
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(error.into().into()),
        Err(panic) => Err(Failure::new("internal", panic_text(panic.as_ref())).into()),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    format!("a defect in hashroute: {text}; please report it with this text")
}
