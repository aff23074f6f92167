//! How long resources are without a writer, measured in quiet clusters that lose one pod.

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure;

/// All of them.
#[must_use]
pub fn figures() -> Vec<Figure> {
    Vec::new()
}
