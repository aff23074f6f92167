//! How much a message may hold. What is longer is refused, and what this process makes never is.

/// The most slots of a view that voters agree on. A view alone may have more.
pub(crate) const SLOTS_MAX: u32 = 1 << 20;
/// The longest name of a cluster or group, zone or address, in bytes; that of a pod is the same.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The most groups of a record.
pub(crate) const GROUPS_MAX: usize = 4_096;
/// The most candidates of all groups of a record together.
pub(crate) const CANDIDATES_MAX: usize = 65_535;
/// The longest message, in bytes: holds the largest record with a writer for each of its pods
/// beside it. Clients and servers must be told, for their own default is less.
pub(crate) const MESSAGE_BYTES_MAX: usize = 144 << 20;
