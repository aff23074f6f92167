//! The guard of a pod: admits writes from any thread, by the rules of `hashroute_coordination`.
//!
//! The thread that keeps the lease never waits for one that writes. After each thing that happened
//! to it, it publishes what its [`Member`] is now; an admission takes the gate's lock, reads what is
//! published, then the clock, and counts itself as under way before it lets go of the lock. What is
//! published can only be older than the member, and so:
//!
//! - an older lease ends earlier;
//! - a release begins by publishing, and only then looks, under the gate's lock, at what is under
//!   way: every write that was admitted by what was published before is among it;
//! - what a newer record takes from the member was released before that, or its lease had ended.
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hashroute_coordination::{
    Member, Record, RegisterMember, Resource, WriteRefusal, WriteTag, Writer,
};
use hashroute_core::Epoch;
use slab::Slab;
use tokio::sync::Notify;

use crate::clock;

/// Admits the writes that arrive at a pod. Cheap to clone; all clones are one guard.
#[derive(Clone, Debug)]
pub struct PodGuard {
    gate: Arc<Gate>,
}

/// One admitted write. It counts as under way until it is dropped: a release of what it wrote
/// waits for it.
#[derive(Debug)]
pub struct Admission {
    gate: Arc<Gate>,
    resource: Resource,
    number: usize,
    epoch: Epoch,
    term: Epoch,
}

impl PodGuard {
    pub(crate) fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Decides on one write by the clock read now. A write without a tag was routed by nobody: it
    /// is judged by this pod's own record alone.
    ///
    /// Cost: a lock that is never held for longer than an admission takes, a reading of the clock,
    /// and no allocation that is not reused.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`]: nothing may be written.
    pub fn admit(
        &self,
        resource: &Resource,
        tag: Option<WriteTag>,
    ) -> Result<Admission, WriteRefusal> {
        let mut under_way = self.gate.lock();
        let answer = self.gate.judge(&under_way, resource, tag);
        match answer {
            Ok((epoch, term)) => {
                under_way.admitted += 1;
                let number = under_way.writes.insert(resource.clone());
                drop(under_way);
                let (gate, resource) = (Arc::clone(&self.gate), resource.clone());
                Ok(Admission { gate, resource, number, epoch, term })
            }
            Err(refusal) => {
                under_way.refused[place(&refusal)] += 1;
                Err(refusal)
            }
        }
    }
}

impl Admission {
    /// The fencing token: to be handed to whatever stores the effect.
    #[must_use]
    pub fn term(&self) -> Epoch {
        self.term
    }

    /// The epoch under which the write was admitted.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A second look, right before the effect leaves: whether this process still holds a lease and
    /// what it writes, under the term of the admission. A release that has begun meanwhile waits
    /// for this very write, and so does not end it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let published = self.gate.published.load();
        let Some(member) = published.as_deref() else { return false };
        let Some(record) = member.record() else { return false };
        !self.gate.is_dead.load(Ordering::Acquire)
            && record.owner(&self.resource).as_ref() == Some(member.writer())
            && record.term(&self.resource) == Some(self.term)
            && member.lease_end().is_some_and(|end| clock::now() < end)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut under_way = self.gate.lock();
        under_way.writes.remove(self.number);
        let number = self.number;
        let mut somebody_waits = under_way.is_closed && under_way.writes.is_empty();
        for release in &mut under_way.releases {
            if let Some(place) = release.waits_for.iter().position(|write| *write == number) {
                release.waits_for.swap_remove(place);
                somebody_waits |= release.waits_for.is_empty();
            }
        }
        drop(under_way);
        if somebody_waits {
            self.gate.ended.notify_one();
        }
    }
}

/// What decides on writes: the member, of one engine or the other.
pub(crate) trait Decides: fmt::Debug + Send + Sync {
    /// Who this process is.
    fn writer(&self) -> &Writer;
    /// The record that counts here.
    fn record(&self) -> Option<&Record>;
    /// The instant from which on nothing may be written; `None` without a lease.
    fn lease_end(&self) -> Option<Duration>;
    /// Decides on one write.
    fn admit(
        &self,
        now: Duration,
        resource: &Resource,
        tag: WriteTag,
    ) -> Result<Epoch, WriteRefusal>;
}

impl Decides for Member {
    fn writer(&self) -> &Writer {
        self.writer()
    }

    fn record(&self) -> Option<&Record> {
        Some(self.record())
    }

    fn lease_end(&self) -> Option<Duration> {
        self.lease().end()
    }

    fn admit(
        &self,
        now: Duration,
        resource: &Resource,
        tag: WriteTag,
    ) -> Result<Epoch, WriteRefusal> {
        self.admit(now, resource, tag)
    }
}

impl Decides for RegisterMember {
    fn writer(&self) -> &Writer {
        self.writer()
    }

    fn record(&self) -> Option<&Record> {
        self.record()
    }

    fn lease_end(&self) -> Option<Duration> {
        self.lease_end()
    }

    fn admit(
        &self,
        now: Duration,
        resource: &Resource,
        tag: WriteTag,
    ) -> Result<Epoch, WriteRefusal> {
        self.admit(now, resource, tag)
    }
}

/// What the thread that keeps the lease shares with those that write.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    published: ArcSwapOption<Box<dyn Decides>>,
    under_way: Mutex<UnderWay>,
    /// Whether the node ended without giving up its lease: nothing is valid any more.
    is_dead: AtomicBool,
    /// Told when something that was waited for has ended.
    pub(crate) ended: Notify,
}

/// Admitted writes that have not ended, and who waits for them.
#[derive(Debug, Default)]
struct UnderWay {
    writes: Slab<Resource>,
    releases: Vec<Release>,
    is_closed: bool,
    admitted: u64,
    refused: [u64; REFUSALS.len()],
}

#[derive(Debug)]
struct Release {
    record: Record,
    waits_for: Vec<usize>,
}

/// What a gate has counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct GateFigures {
    pub(crate) admitted: u64,
    pub(crate) under_way: u64,
    pub(crate) refused: Vec<(&'static str, u64)>,
}

impl Gate {
    /// From now on writes are judged by this.
    pub(crate) fn publish(&self, member: &(impl Decides + Clone + 'static)) {
        self.published.store(Some(Arc::new(Box::new(member.clone()))));
    }

    /// A release has begun and is published: it waits for every write under way of what this
    /// process owns and loses in `record`. Writes of what it lost before by the end of its lease
    /// are over for everybody but themselves, and nobody waits for them.
    pub(crate) fn quiesce(&self, record: &Record) {
        let published = self.published.load();
        let Some(member) = published.as_deref() else { return };
        let Some(present) = member.record() else { return };
        let me = Some(member.writer());
        let loses = |resource: &Resource| {
            present.owner(resource).as_ref() == me && record.owner(resource).as_ref() != me
        };
        let mut under_way = self.lock();
        let lost = under_way.writes.iter().filter(|(_, resource)| loses(resource));
        let waits_for: Vec<usize> = lost.map(|(number, _)| number).collect();
        let is_over = waits_for.is_empty();
        under_way.releases.push(Release { record: record.clone(), waits_for });
        drop(under_way);
        if is_over {
            self.ended.notify_one();
        }
    }

    /// The releases whose writes have all ended since this was called last.
    pub(crate) fn quiesced(&self) -> Vec<Record> {
        let mut under_way = self.lock();
        let over = under_way.releases.extract_if(.., |release| release.waits_for.is_empty());
        over.map(|release| release.record).collect()
    }

    /// Another record counts: what was released for it, or for one that never came, is decided.
    pub(crate) fn forget_releases(&self) {
        self.lock().releases.clear();
    }

    /// Admits nothing more; what is under way goes on.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Nothing is valid any more.
    pub(crate) fn die(&self) {
        self.close();
        self.is_dead.store(true, Ordering::Release);
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().writes.is_empty()
    }

    pub(crate) fn figures(&self) -> GateFigures {
        let under_way = self.lock();
        let refused = REFUSALS.iter().copied().zip(under_way.refused).collect();
        let count = u64::try_from(under_way.writes.len()).unwrap_or(u64::MAX);
        GateFigures { admitted: under_way.admitted, under_way: count, refused }
    }

    /// The epoch and the term under which the write is admitted, if it is.
    fn judge(
        &self,
        under_way: &UnderWay,
        resource: &Resource,
        tag: Option<WriteTag>,
    ) -> Result<(Epoch, Epoch), WriteRefusal> {
        let published = self.published.load();
        let member = published.as_deref().filter(|_| !under_way.is_closed);
        let member = member.ok_or(WriteRefusal::NoLease)?;
        let (record, now) = (member.record().ok_or(WriteRefusal::NoLease)?, clock::now());
        let tag = tag.unwrap_or_else(|| {
            let epoch = record.epoch();
            WriteTag { epoch, term: record.term(resource).unwrap_or(epoch) }
        });
        Ok((record.epoch(), member.admit(now, resource, tag)?))
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The words of the wire for refusals, in the order in which they are counted.
const REFUSALS: [&str; 5] = ["not-owner", "stale-term", "behind", "moving", "no-lease"];

fn place(refusal: &WriteRefusal) -> usize {
    match refusal {
        WriteRefusal::NotOwner { .. } => 0,
        WriteRefusal::StaleTerm { .. } => 1,
        WriteRefusal::Behind { .. } => 2,
        WriteRefusal::Moving { .. } => 3,
        WriteRefusal::NoLease => 4,
    }
}
