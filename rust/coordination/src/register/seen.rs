//! What a member has seen of the store.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Entry, Key, Revision, Value};
use crate::record::{Record, Writer};

/// The newest state of each key that this member was told of, and since when it has not seen a
/// newer one.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    keys: BTreeMap<Key, Sighting>,
}

#[derive(Clone, Debug)]
struct Sighting {
    revision: Revision,
    value: Option<Value>,
    since: Duration,
}

impl Seen {
    /// Takes over what is newer than what is known; returns whether it was.
    pub(super) fn take(&mut self, now: Duration, entry: Entry) -> bool {
        let Entry { key, revision, value } = entry;
        if self.keys.get(&key).is_some_and(|known| known.revision >= revision) {
            return false;
        }
        self.keys.insert(key, Sighting { revision, value, since: now });
        true
    }

    /// Of everything that is there at `revision` this is all: what is not among it is gone.
    pub(super) fn take_all(&mut self, now: Duration, revision: Revision, entries: Vec<Entry>) {
        let present: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
        for (key, known) in &mut self.keys {
            if known.value.is_some() && known.revision <= revision && !present.contains(key) {
                *known = Sighting { revision, value: None, since: now };
            }
        }
        for entry in entries {
            self.take(now, entry);
        }
    }

    /// The condition that the key is as it was last seen.
    pub(super) fn unchanged(&self, key: Key) -> (Key, Revision) {
        let known = self.keys.get(&key).filter(|known| known.value.is_some());
        let revision = known.map_or(Revision(0), |known| known.revision);
        (key, revision)
    }

    /// The record, and the commit that made it.
    pub(super) fn record(&self) -> Option<(&Record, Revision)> {
        let known = self.keys.get(&Key::Record)?;
        match known.value.as_ref()? {
            Value::Record(record) => Some((record, known.revision)),
            Value::Intent(..) | Value::Alive | Value::Renounced | Value::Released(_) => None,
        }
    }

    /// The commit that removed the key, or one after which it was not there.
    pub(super) fn gone(&self, key: &Key) -> Option<Revision> {
        self.keys.get(key).filter(|known| known.value.is_none()).map(|known| known.revision)
    }

    /// The last commit that is known to have changed the intent.
    pub(super) fn intent_at(&self) -> Revision {
        self.keys.get(&Key::Intent).map_or(Revision(0), |known| known.revision)
    }

    /// The intent, its revision, who wrote it, and since when it was seen.
    pub(super) fn intent(&self) -> Option<(&Record, Revision, &Writer, Duration)> {
        let known = self.keys.get(&Key::Intent)?;
        match known.value.as_ref()? {
            Value::Intent(record, by) => Some((record, known.revision, by, known.since)),
            Value::Record(_) | Value::Alive | Value::Renounced | Value::Released(_) => None,
        }
    }

    /// Since when no new beat of the process was seen; from the first look on if there is none.
    pub(super) fn silent_since(&mut self, now: Duration, writer: &Writer) -> Duration {
        let unknown = Sighting { revision: Revision(0), value: None, since: now };
        self.keys.entry(Key::Beat(writer.clone())).or_insert(unknown).since
    }

    /// The same, if there was a look.
    pub(super) fn silence(&self, writer: &Writer) -> Option<Duration> {
        Some(self.keys.get(&Key::Beat(writer.clone()))?.since)
    }

    pub(super) fn has_renounced(&self, writer: &Writer) -> bool {
        let beat = self.keys.get(&Key::Beat(writer.clone()));
        beat.is_some_and(|known| known.value == Some(Value::Renounced))
    }

    /// Whether the process has stopped for the intent of this revision; for any, if none is given.
    pub(super) fn has_released(&self, writer: &Writer, intent: Option<Revision>) -> bool {
        let released = self.keys.get(&Key::Released(writer.clone()));
        let said = released.and_then(|known| known.value.as_ref());
        said.is_some_and(|said| intent.is_none_or(|it| *said == Value::Released(it)))
    }

    /// Beats and releases of processes that no record will name again.
    pub(super) fn strangers(&self, record: &Record) -> Vec<Key> {
        let is_stranger = |key: &Key| match key {
            Key::Beat(writer) | Key::Released(writer) => !record.names(writer),
            Key::Record | Key::Intent => false,
        };
        let known =
            self.keys.iter().filter(|(key, known)| known.value.is_some() && is_stranger(key));
        known.map(|(key, _)| key.clone()).collect()
    }

    /// Forgets what is gone and names nobody of the record.
    pub(super) fn tidy(&mut self, record: &Record) {
        self.keys.retain(|key, known| {
            known.value.is_some()
                || match key {
                    Key::Beat(writer) | Key::Released(writer) => record.names(writer),
                    Key::Record | Key::Intent => true,
                }
        });
    }
}
