//! The engine on etcd: the record and our leases lie in an etcd cluster that is there already.
//!
//! [`keys`] is what stands there, [`client`] speaks to one of etcd's [`members`], and [`shell`] is the loop around
//! [`hashroute_coordination::RegisterMember`], which decides. Of etcd we use transactions,
//! linearizable reads and the watch, whose order within a key is all that is relied on; not its
//! leases, which an old leader may confirm after a new one has ended them (etcd issues 12528, 15247).
mod client;
mod keys;
mod members;
mod operator;
mod shell;
#[cfg(test)]
mod tests;

/// The part of etcd's contract that we use.
#[allow(warnings, clippy::all, clippy::pedantic, reason = "made by build.rs")]
mod proto {
    tonic::include_proto!("etcdserverpb");
}

pub(crate) use operator::EtcdOperator;
pub(crate) use shell::{EtcdShell, EtcdStart, Seat};
