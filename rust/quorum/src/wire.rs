//! Between the messages of the wire and the types of `hashroute_coordination`. Reading is total:
//! whatever the bytes, it ends with a value that the rest may trust, or with a [`WireError`].
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashroute_coordination::{ClusterId, Record};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use crate::proto;

mod change;
mod error;
mod limits;
mod message;
mod record;
mod terms;

pub(crate) use change::{change_in as change, change_out};
pub(crate) use error::WireError;
pub(crate) use limits::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX};
pub(crate) use message::{ballot_in, ballot_out};
pub(crate) use record::{
    check_view, cluster_id_out, digest, voter_id_in, voter_id_out, voter_out, writer_in, writer_out,
};

/// Writes and reads the messages of one cluster. Remembers the last few records, as a message and
/// as a value: to read one builds its ring, which takes milliseconds, and the same one comes from
/// every voter.
#[derive(Debug)]
pub(crate) struct Codec {
    cluster: String,
    recent: Mutex<VecDeque<(proto::Record, Record)>>,
}

impl Codec {
    /// A codec for the cluster of this name.
    pub(crate) fn new(cluster: String) -> Self {
        Self { cluster, recent: Mutex::new(VecDeque::with_capacity(RECENT_MAX)) }
    }

    /// The name of the cluster.
    pub(crate) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Writes a record.
    pub(crate) fn record_out(&self, record: &Record) -> proto::Record {
        let known = self.recent().iter().find(|(_, it)| it == record).map(|it| it.0.clone());
        known.unwrap_or_else(|| {
            let message = record::record_out(&self.cluster, record);
            self.remember(message.clone(), record.clone());
            message
        })
    }

    /// Reads a record.
    ///
    /// # Errors
    ///
    /// [`WireError`]: it is of another cluster, breaks a limit or a rule of records, or its table
    /// is not the one that this release makes of its view.
    pub(crate) fn record(&mut self, message: &proto::Record) -> Result<Record, WireError> {
        let known = self.recent().iter().find(|(it, _)| it == message).map(|it| it.1.clone());
        if let Some(record) = known {
            return Ok(record);
        }
        let near = self.recent().front().map(|(_, it)| it.clone());
        let record = record::record_in(&self.cluster, message, near.as_ref())?;
        self.remember(message.clone(), record.clone());
        Ok(record)
    }

    fn remember(&self, message: proto::Record, record: Record) {
        let mut recent = self.recent();
        recent.truncate(RECENT_MAX - 1);
        recent.push_front((message, record));
    }

    /// What is kept is only ever pushed whole, so a thread that died while it held the lock left
    /// nothing half done.
    fn recent(&self) -> MutexGuard<'_, VecDeque<(proto::Record, Record)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The id of a cluster: a hash of its name and its first record, whose own `cluster_id` does not
/// enter it. Two foundings that differ in anything give two ids.
pub(crate) fn cluster_id(name: &str, first: &proto::Record) -> ClusterId {
    let canonical =
        proto::Record { cluster_id: Vec::new(), cluster: name.to_owned(), ..first.clone() };
    ClusterId(xxh3_128(&canonical.encode_to_vec()))
}

/// How many records are remembered: the one that counts, the next one that is being decided, and
/// those of processes that are behind.
const RECENT_MAX: usize = 4;

#[cfg(test)]
mod tests;
