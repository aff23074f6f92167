//! What stands in etcd, as `proto/hashroute/v1/register.proto` describes it.
use hashroute_coordination::{Entry, Incarnation, Key, Revision, Value, Writer};
use hashroute_core::PodId;
use prost::Message;

use super::proto as etcd;
use crate::proto;
use crate::wire::{Codec, WireError, writer_in, writer_out};

/// The names of one cluster's keys, and what stands under them.
#[derive(Debug)]
pub(super) struct Keys {
    /// `PREFIX/CLUSTER/`
    root: String,
    codec: Codec,
}

impl Keys {
    pub(super) fn new(prefix: &str, cluster: &str) -> Self {
        let root = format!("{}/{cluster}/", prefix.trim_end_matches('/'));
        Self { root, codec: Codec::new(cluster.to_owned()) }
    }

    /// The first key of the cluster, and the first one after its last.
    pub(super) fn range(&self) -> (Vec<u8>, Vec<u8>) {
        let first = self.root.clone().into_bytes();
        let mut end = first.clone();
        // The root ends with '/', which is not the last of all bytes.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        (first, end)
    }

    pub(super) fn name(&self, key: &Key) -> Vec<u8> {
        let root = &self.root;
        let of = |kind: &str, writer: &Writer| {
            format!("{root}{kind}/{:016x}/{}", writer.incarnation.0, writer.pod)
        };
        let name = match key {
            Key::Record => format!("{root}record"),
            Key::Intent => format!("{root}intent"),
            Key::Beat(writer) => of("beats", writer),
            Key::Released(writer) => of("released", writer),
        };
        name.into_bytes()
    }

    /// The key of this name; none if it is not ours.
    pub(super) fn key(&self, name: &[u8]) -> Option<Key> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(&self.root)?;
        let (kind, writer) = match rest.split_once('/') {
            None if rest == "record" => return Some(Key::Record),
            None if rest == "intent" => return Some(Key::Intent),
            None => return None,
            Some(parts) => parts,
        };
        let (incarnation, pod) = writer.split_once('/')?;
        let incarnation = Incarnation(u64::from_str_radix(incarnation, 16).ok()?);
        let writer = Writer { pod: PodId::new(pod).ok()?, incarnation };
        match kind {
            "beats" => Some(Key::Beat(writer)),
            "released" => Some(Key::Released(writer)),
            _ => None,
        }
    }

    pub(super) fn value_out(&self, value: &Value) -> Vec<u8> {
        match value {
            Value::Record(record) => self.codec.record_out(record).encode_to_vec(),
            Value::Intent(record, by) => {
                let record = Some(self.codec.record_out(record));
                proto::Intent { record, by: Some(writer_out(by)) }.encode_to_vec()
            }
            Value::Alive => ALIVE.to_vec(),
            Value::Renounced => RENOUNCED.to_vec(),
            Value::Released(intent) => intent.0.to_string().into_bytes(),
        }
    }

    fn value(&mut self, key: &Key, bytes: &[u8]) -> Result<Value, WireError> {
        let missing = |field| WireError::Missing { field };
        Ok(match key {
            Key::Record => {
                let message = proto::Record::decode(bytes).map_err(|_| missing("record"))?;
                Value::Record(self.codec.record(&message)?)
            }
            Key::Intent => {
                let message = proto::Intent::decode(bytes).map_err(|_| missing("intent"))?;
                let record = message.record.ok_or(missing("intent.record"))?;
                let by = message.by.ok_or(missing("intent.by"))?;
                Value::Intent(self.codec.record(&record)?, writer_in(&by)?)
            }
            Key::Beat(_) if bytes == RENOUNCED => Value::Renounced,
            // Whatever else a later release may write there is a sign of life.
            Key::Beat(_) => Value::Alive,
            Key::Released(_) => {
                let text = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
                Value::Released(Revision(text.ok_or(missing("released"))?))
            }
        })
    }

    /// The first key of a process's sign of life, and the first one after the last.
    pub(super) fn beats(&self) -> (Vec<u8>, Vec<u8>) {
        let of = |end: char| format!("{}beats{end}", self.root).into_bytes();
        // '0' comes right after '/'.
        (of('/'), of('0'))
    }

    /// Where an operator writes down what it wants.
    pub(super) fn wish(&self, number: u64) -> Vec<u8> {
        format!("{}wishes/{number:016x}", self.root).into_bytes()
    }

    /// Whether the key is an operator's.
    pub(super) fn is_wish(&self, name: &[u8]) -> bool {
        name.strip_prefix(self.root.as_bytes()).is_some_and(|rest| rest.starts_with(b"wishes/"))
    }

    /// What etcd says of one key.
    ///
    /// # Errors
    ///
    /// [`WireError`]: what stands there is not what this release can read.
    pub(super) fn entry(&mut self, found: &etcd::KeyValue) -> Result<Option<Entry>, WireError> {
        let Some(key) = self.key(&found.key) else { return Ok(None) };
        let value = Some(self.value(&key, &found.value)?);
        Ok(Some(Entry { key, revision: revision(found.mod_revision), value }))
    }
}

/// etcd counts from 1, in signed numbers.
pub(super) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

const ALIVE: &[u8] = b"alive";
const RENOUNCED: &[u8] = b"renounced";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_whatever_the_pod_is_called() {
        let keys = Keys::new("/hashroute/", "desk");
        for pod in ["pod-a", "a/b/c", "ü", "record"] {
            let writer = Writer { pod: PodId::new(pod).unwrap(), incarnation: Incarnation(7) };
            for key in [Key::Beat(writer.clone()), Key::Released(writer.clone()), Key::Intent] {
                assert_eq!(keys.key(&keys.name(&key)), Some(key));
            }
        }
        assert_eq!(keys.name(&Key::Record), b"/hashroute/desk/record");
        let (first, end) = keys.range();
        assert_eq!((&first[..], &end[..]), (&b"/hashroute/desk/"[..], &b"/hashroute/desk0"[..]));
        for strange in [&b"/hashroute/other/record"[..], b"/hashroute/desk/beats/7", b"\xff"] {
            assert_eq!(keys.key(strange), None);
        }
    }
}
