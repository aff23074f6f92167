//! The Python extension module `hashroute._hashroute`: converts, releases the interpreter lock,
//! maps errors. No rule of hashroute lives here.

mod arguments;
mod batch;
mod catalogue;
mod failure;
mod field;
mod keys;
mod plan;
mod request;
mod ring;
mod route;
mod router;
mod sidecar;
mod view;

use pyo3::prelude::*;

/// The native half of the `hashroute` package; use what `hashroute` exports.
#[pymodule(gil_used = false)]
mod _hashroute {
    #[pymodule_export]
    use super::field::field_key;
    #[pymodule_export]
    use super::plan::Plan;
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::ring::Ring;
    #[pymodule_export]
    use super::route::{Ready, Route};
    #[pymodule_export]
    use super::router::Router;
    #[pymodule_export]
    use super::sidecar::Sidecar;
    #[pymodule_export]
    use super::view::View;
}
