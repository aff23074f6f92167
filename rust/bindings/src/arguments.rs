//! Conversion of arguments that are not keys, each with an error that names the argument.

use std::time::Duration;

use hashroute_dataplane::write::GroupName;
use pyo3::conversion::FromPyObjectOwned;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;

use crate::failure::Failure;

/// Converts `value`, which the caller knows as `name` and as `expected`.
///
/// # Errors
///
/// `ArgumentTypeError` if it is of another type, `ParameterError` if it is out of range.
pub(crate) fn argument<'py, T: FromPyObjectOwned<'py>>(
    value: &Bound<'py, PyAny>,
    name: &'static str,
    expected: &str,
) -> PyResult<T> {
    value.extract::<T>().map_err(|error| {
        let error: PyErr = error.into();
        let text = shown(value);
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            Failure::new("parameter", format!("{name} must be {expected}, not {text}"))
                .with("parameter", name)
                .into()
        } else {
            Failure::new("argument_type", format!("{name} must be {expected}, not {text}")).into()
        }
    })
}

/// The repr of `value`, short enough for a message.
fn shown(value: &Bound<'_, PyAny>) -> String {
    const CHARACTERS_MAX: usize = 60;
    let text = value.repr().map_or_else(|_| "an object".to_owned(), |text| text.to_string());
    if text.chars().count() <= CHARACTERS_MAX {
        return text;
    }
    let head: String = text.chars().take(CHARACTERS_MAX).collect();
    format!("{head}…")
}

/// Converts a time in seconds.
///
/// # Errors
///
/// As [`argument`]; a time is finite and not negative.
pub(crate) fn seconds(value: &Bound<'_, PyAny>, name: &'static str) -> PyResult<Duration> {
    const EXPECTED: &str = "a number of seconds, finite and not negative";
    let seconds: f64 = argument(value, name, EXPECTED)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        Failure::new("parameter", format!("{name} must be {EXPECTED}, not {seconds}"))
            .with("parameter", name)
            .into()
    })
}

/// Converts the name of a group.
///
/// # Errors
///
/// As [`argument`]; a name has 1 to 255 bytes.
pub(crate) fn group_name(value: &Bound<'_, PyAny>) -> PyResult<GroupName> {
    let name: String = argument(value, "group", "the name of a group, a str")?;
    GroupName::new(&name).map_err(|error| {
        Failure::new("parameter", error.to_string()).with("parameter", "group").into()
    })
}
