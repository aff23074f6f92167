//! The history of the cluster: the record chosen for each epoch, without gaps.

use hashroute_coordination::Record;
use hashroute_core::Epoch;

/// The chosen records, from the first one on.
#[derive(Clone, Hash)]
pub(crate) struct Chosen(Vec<Record>);

impl Chosen {
    pub(crate) fn new(genesis: Record) -> Self {
        Self(vec![genesis])
    }

    pub(crate) fn genesis(&self) -> &Record {
        &self.0[0]
    }

    pub(crate) fn latest(&self) -> &Record {
        &self.0[self.0.len() - 1]
    }

    /// The latest record, and the one before it.
    pub(crate) fn last_two(&self) -> impl Iterator<Item = &Record> {
        self.0.iter().rev().take(2)
    }

    pub(crate) fn get(&self, epoch: Epoch) -> Option<&Record> {
        self.0.get(self.place(epoch)?)
    }

    /// The record of this epoch and all after it.
    pub(crate) fn since(&self, epoch: Epoch) -> &[Record] {
        let place = self.place(epoch).unwrap_or_default();
        self.0.get(place..).unwrap_or_default()
    }

    /// The last record before this epoch.
    pub(crate) fn before(&self, epoch: Epoch) -> Option<&Record> {
        self.0.get(..self.place(epoch)?.min(self.0.len()))?.last()
    }

    /// The next record is chosen.
    pub(crate) fn push(&mut self, record: Record) {
        assert!(self.latest().epoch().next().ok() == Some(record.epoch()), "there are no gaps");
        self.0.push(record);
    }

    fn place(&self, epoch: Epoch) -> Option<usize> {
        usize::try_from(epoch.get().checked_sub(self.genesis().epoch().get())?).ok()
    }
}
