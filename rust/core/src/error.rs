//! What can be wrong with a view or a plan. Every message says what was found, what was expected
//! and what to do; `code()` is stable and is what programs compare.

use alloc::string::String;

use thiserror::Error;

/// A view that cannot be, or a document that does not hold one. Always the caller's mistake:
/// nothing was applied, and a retry with the same input fails again.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ViewError {
    /// There are no pods at all.
    #[error("the view has no pods: name at least one")]
    Empty,
    /// There are pods, but each one is draining or down.
    #[error(
        "none of the {pods} pods may own slots, since each is draining or down: \
         make at least one active, or add one"
    )]
    NoEligiblePod {
        /// How many pods the view has.
        pods: usize,
    },
    /// Two pods have the same id.
    #[error("the pod id {id:?} appears twice: give every pod an id of its own")]
    DuplicatePod {
        /// The id that appears twice.
        id: String,
    },
    /// The view has no pod of this id.
    #[error("the view has no pod {id:?}: the name may be misspelt, or the pod was removed")]
    UnknownPod {
        /// The id that was asked for.
        id: String,
    },
    /// An id is empty or too long.
    #[error("a pod id has {bytes} bytes: write 1 to 255 bytes of UTF-8")]
    BadId {
        /// The length of the id, in bytes.
        bytes: usize,
    },
    /// A weight is NaN or infinite.
    #[error("the weight {weight} is not a finite number: write one such as 1.0")]
    WeightNotFinite {
        /// The weight as given.
        weight: f64,
    },
    /// A weight is zero or negative.
    #[error("the weight {weight} is not above zero: to send a pod nothing, drain it instead")]
    WeightNotPositive {
        /// The weight as given.
        weight: f64,
    },
    /// A weight is too small or too large to keep in millionths.
    #[error("the weight {weight} is outside 0.000001 to 1100000: scale all weights alike")]
    WeightOutOfRange {
        /// The weight as given.
        weight: f64,
    },
    /// The number of slots is not a power of two.
    #[error("{slots} slots is not a power of two: write one from 2 to 16777216, such as 65536")]
    SlotsNotPowerOfTwo {
        /// The number as given.
        slots: u64,
    },
    /// The number of slots is a power of two, but too small or too large.
    #[error("{slots} slots is outside 2 to 16777216: write a power of two such as 65536")]
    SlotsOutOfRange {
        /// The number as given.
        slots: u64,
    },
    /// Epsilon is NaN or infinite.
    #[error("epsilon {epsilon} is not a finite number: write one from 0 to 10, such as 0.05")]
    EpsilonNotFinite {
        /// Epsilon as given.
        epsilon: f64,
    },
    /// Epsilon is negative or above ten.
    #[error("epsilon {epsilon} is outside 0 to 10: write one such as 0.05")]
    EpsilonOutOfRange {
        /// Epsilon as given.
        epsilon: f64,
    },
    /// There are more pods than a view can number.
    #[error("the view has {pods} pods, more than the {pods_max} that a view can hold")]
    TooManyPods {
        /// How many pods there are.
        pods: usize,
        /// The largest number of pods.
        pods_max: usize,
    },
    /// More pods may own slots than there are slots.
    #[error(
        "{pods} pods for {slots} slots: some would own nothing; set slots to a power of two \
         of at least 256 for each pod"
    )]
    MorePodsThanSlots {
        /// How many pods may own slots.
        pods: usize,
        /// How many slots there are.
        slots: u32,
    },
    /// The view after this one would have no number.
    #[error("the epoch is at its largest number: start a new history of views at epoch 1")]
    EpochExhausted,
    /// The document is not JSON.
    #[error("the view is not JSON: {reason} at line {line}, column {column}")]
    NotJson {
        /// What the parser expected.
        reason: String,
        /// The line of the fault, from 1.
        line: usize,
        /// The column of the fault, from 1.
        column: usize,
    },
    /// The document was written by a later release.
    #[error(
        "the view is a document of version {version}, and this release reads version 1: \
         update hashroute here, or write the view with this release"
    )]
    UnsupportedVersion {
        /// The version of the document.
        version: u64,
    },
    /// A field that must be there is not.
    #[error("the view lacks the field {path}: expected {expected}")]
    MissingField {
        /// Where the field belongs, such as `pods[3].id`.
        path: String,
        /// What the field holds.
        expected: &'static str,
    },
    /// A field that no view has.
    #[error("the view has an unknown field {path}: remove it; known here are {known}")]
    UnknownField {
        /// Where the field is, such as `pods[3].wieght`.
        path: String,
        /// The names that are known at this place.
        known: &'static str,
    },
    /// A field holds something else than it should.
    #[error("the field {path} of the view holds {got}: expected {expected}")]
    WrongValue {
        /// Where the field is.
        path: String,
        /// What the field should hold.
        expected: &'static str,
        /// What it holds.
        got: String,
    },
}

impl ViewError {
    /// The stable name of the situation, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "empty_view",
            Self::NoEligiblePod { .. } => "no_eligible_pod",
            Self::DuplicatePod { .. } => "duplicate_pod",
            Self::UnknownPod { .. } => "unknown_pod",
            Self::BadId { .. } => "bad_id",
            Self::WeightNotFinite { .. } => "weight_not_finite",
            Self::WeightNotPositive { .. } => "weight_not_positive",
            Self::WeightOutOfRange { .. } => "weight_out_of_range",
            Self::SlotsNotPowerOfTwo { .. } => "slots_not_power_of_two",
            Self::SlotsOutOfRange { .. } => "slots_out_of_range",
            Self::EpsilonNotFinite { .. } => "epsilon_not_finite",
            Self::EpsilonOutOfRange { .. } => "epsilon_out_of_range",
            Self::TooManyPods { .. } => "too_many_pods",
            Self::MorePodsThanSlots { .. } => "more_pods_than_slots",
            Self::EpochExhausted => "epoch_exhausted",
            Self::NotJson { .. } => "not_json",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::MissingField { .. } => "missing_field",
            Self::UnknownField { .. } => "unknown_field",
            Self::WrongValue { .. } => "wrong_value",
        }
    }
}

/// Why no plan leads from one ring to another.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The two rings divide the keys differently.
    #[error(
        "one ring has {from} slots and the other {to}: a plan moves slots, so both need the \
         same number; changing it moves nearly every key at once"
    )]
    SlotsDiffer {
        /// The slots of the ring that the plan would start from.
        from: u32,
        /// The slots of the ring that the plan would lead to.
        to: u32,
    },
    /// The two views together have more pods than a plan can number.
    #[error(
        "the two views together have {pods} pods, more than the {pods_max} that a plan can hold: \
         go through a view in between"
    )]
    TooManyPods {
        /// How many pods there are.
        pods: usize,
        /// The largest number of pods.
        pods_max: usize,
    },
    /// A step that moves nothing gets nowhere.
    #[error("slots_per_step is 0: allow at least 1 slot in a step, or leave it out for one step")]
    ZeroSlotsPerStep,
    /// A pod that never takes its share does not join.
    #[error("warm_up_steps is 0: 1 lets a joining pod take its share at once, more spread it")]
    ZeroWarmUpSteps,
    /// The plan does not start from this ring.
    #[error(
        "the plan does not start from this ring: {slots} slots have another owner; plan again from \
         the ring in use"
    )]
    OtherRing {
        /// How many slots have another owner in the ring than where the plan starts.
        slots: u32,
    },
    /// Full pods would have to exchange slots, and no pod has one place to spare.
    #[error(
        "no plan: {pods} full pods exchange slots in a circle, a step may move {slots_per_step}, \
         and no pod has a free place; allow {pods} slots in a step, or raise epsilon"
    )]
    NoSlack {
        /// How many pods the circle has: a step of as many slots would do.
        pods: u32,
        /// How many slots a step may move.
        slots_per_step: u32,
    },
}

impl PlanError {
    /// The stable name of the situation, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::SlotsDiffer { .. } => "slots_differ",
            Self::TooManyPods { .. } => "too_many_pods",
            Self::ZeroSlotsPerStep => "zero_slots_per_step",
            Self::ZeroWarmUpSteps => "zero_warm_up_steps",
            Self::OtherRing { .. } => "other_ring",
            Self::NoSlack { .. } => "no_slack",
        }
    }
}
