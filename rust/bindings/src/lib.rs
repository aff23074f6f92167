//! The Python extension module `hashroute._hashroute`: converts, releases the interpreter lock,
//! maps errors. No rule of hashroute lives here.

#![deny(unsafe_code)]

mod admission;
mod arguments;
mod batch;
mod catalogue;
mod error_reply;
mod failure;
mod keys;
mod lanes;
mod node;
mod operator;
mod plan;
mod refusal;
mod request;
mod request_key;
mod ring;
mod route;
mod router;
mod shortcut;
mod sidecar;
mod tag;
mod view;
mod write;

use pyo3::prelude::*;

/// The native half of the `hashroute` package; use what `hashroute` exports.
#[pymodule(gil_used = false)]
mod _hashroute {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::admission::{Admission, Guard};
    #[pymodule_export]
    use super::error_reply::{raise_error_reply, refusal_frame, refusal_of};
    #[pymodule_export]
    use super::node::Node;
    #[pymodule_export]
    use super::operator::Operator;
    #[pymodule_export]
    use super::plan::Plan;
    #[pymodule_export]
    use super::request::Request;
    #[pymodule_export]
    use super::request_key::{field_key, key_bytes};
    #[pymodule_export]
    use super::ring::Ring;
    #[pymodule_export]
    use super::route::{Ready, Route};
    #[pymodule_export]
    use super::router::Router;
    #[pymodule_export]
    use super::sidecar::Sidecar;
    #[pymodule_export]
    use super::tag::Tag;
    #[pymodule_export]
    use super::view::View;
    #[pymodule_export]
    use super::write::{Wait, Write};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::shortcut::install(&module.py().get_type::<Ring>())
    }
}
