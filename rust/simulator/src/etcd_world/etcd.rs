//! etcd as its clients see it: one history of commits, and transactions that are done whole or not
//! at all. What fails is between it and them.

use std::collections::BTreeMap;
use std::time::Duration;

use hashroute_coordination::{Entry, Key, Record, Revision, Transaction, Value};

/// What etcd holds, and what it did.
pub(super) struct Etcd {
    keys: BTreeMap<Key, (Revision, Value)>,
    /// What each commit changed, from the second one on.
    log: Vec<Vec<Entry>>,
    /// The watches from before this commit are ended.
    compacted: Revision,
    /// It has no leader before this.
    pub(super) stopped_until: Duration,
}

impl Etcd {
    /// An operator has made a cluster with this first record.
    pub(super) fn new(record: Record) -> Self {
        Self {
            keys: BTreeMap::from([(Key::Record, (Revision(1), Value::Record(record)))]),
            log: Vec::new(),
            compacted: Revision(0),
            stopped_until: Duration::ZERO,
        }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.log.len() as u64 + 1)
    }

    fn read(&self, key: &Key) -> Entry {
        let known = self.keys.get(key);
        Entry {
            key: key.clone(),
            revision: known.map_or(self.revision(), |it| it.0),
            value: known.map(|it| it.1.clone()),
        }
    }

    /// What stands under the key, and since which commit.
    pub(super) fn value(&self, key: &Key) -> Option<(Revision, &Value)> {
        self.keys.get(key).map(|(revision, value)| (*revision, value))
    }

    pub(super) fn read_all(&self) -> Vec<Entry> {
        self.keys.keys().map(|key| self.read(key)).collect()
    }

    /// Whether a key that is there was changed after that commit.
    pub(super) fn has_newer(&self, than: Revision) -> bool {
        self.keys.values().any(|(revision, _)| *revision > than)
    }

    /// Does the transaction; returns the commit, or what it asked for if its conditions do not hold.
    /// One that writes nothing is no commit of its own.
    pub(super) fn transact(&mut self, asked: &Transaction) -> Result<Revision, Vec<Entry>> {
        let stands = |(key, revision): &(Key, Revision)| {
            self.keys.get(key).map_or(Revision(0), |it| it.0) == *revision
        };
        if !asked.when.iter().all(stands) {
            return Err(asked.otherwise.iter().map(|key| self.read(key)).collect());
        }
        let revision = Revision(self.revision().0 + 1);
        let mut changed = Vec::new();
        for (key, value) in &asked.then {
            match value {
                Some(value) => drop(self.keys.insert(key.clone(), (revision, value.clone()))),
                None if self.keys.remove(key).is_none() => continue,
                None => {}
            }
            changed.push(Entry { key: key.clone(), revision, value: value.clone() });
        }
        if !changed.is_empty() {
            self.log.push(changed);
        }
        Ok(self.revision())
    }

    /// What the commit changed.
    pub(super) fn commit(&self, revision: Revision) -> &[Entry] {
        let place = usize::try_from(revision.0).ok().and_then(|it| it.checked_sub(2));
        place.and_then(|place| self.log.get(place)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn compact(&mut self) {
        self.compacted = self.revision();
    }

    /// Whether a watch can be told what came after this commit.
    pub(super) fn remembers(&self, after: Revision) -> bool {
        after.0 + 1 >= self.compacted.0
    }
}
