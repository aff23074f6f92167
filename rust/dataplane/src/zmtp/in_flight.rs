//! The requests that wait for an answer, by a number that travels with them.

use core::time::Duration;

/// The number under which one attempt of a request travels to a pod and back.
///
/// It names a place in the table and a generation, so an answer to an earlier attempt, or to a
/// request that has ended, is recognised and dropped.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RequestId(u64);

impl RequestId {
    /// The bytes of the frame that carries it.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// Reads that frame; `None` if it has another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u64::from_be_bytes(bytes)))
    }

    const fn new(place: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | place as u64)
    }

    fn place(self) -> u32 {
        u32::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(NOWHERE)
    }

    const fn generation(self) -> u64 {
        self.0 >> 32
    }
}

/// A bounded table of requests, ordered by deadline.
///
/// Every operation but iteration costs O(1); memory grows to the highest number in flight, and the
/// places are used again.
#[derive(Debug)]
pub struct InFlight<T> {
    places: Vec<Place<T>>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: usize,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    deadline: Duration,
    /// Neighbours in the order of insertion; `next` also links the free places.
    previous: u32,
    next: u32,
    value: Option<T>,
}

const NOWHERE: u32 = u32::MAX;

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: NOWHERE, oldest: NOWHERE, newest: NOWHERE, len: 0 }
    }
}

impl<T> InFlight<T> {
    /// The number of requests in the table.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a request that must have ended by `deadline`.
    ///
    /// Requests expire in the order in which they came: one whose deadline is earlier than that of
    /// an older one (the time to live was shortened) waits for the older one to end.
    ///
    /// # Errors
    ///
    /// Gives `value` back if every number is taken; the caller's own bound is far below.
    pub fn insert(&mut self, deadline: Duration, value: T) -> Result<RequestId, T> {
        let index = if let Some(free) = self.place(self.free) {
            let index = self.free;
            self.free = free.next;
            index
        } else {
            match u32::try_from(self.places.len()) {
                Ok(index) if index != NOWHERE => {
                    self.places.push(Place::vacant());
                    index
                }
                _ => return Err(value),
            }
        };
        let previous = self.newest;
        let Some(place) = self.place_mut(index) else { return Err(value) };
        place.deadline = deadline;
        place.previous = previous;
        place.next = NOWHERE;
        place.value = Some(value);
        let id = RequestId::new(index, place.generation);
        match self.place_mut(previous) {
            Some(before) => before.next = index,
            None => self.oldest = index,
        }
        self.newest = index;
        self.len = self.len.saturating_add(1);
        Ok(id)
    }

    /// The request of this attempt, if it still waits.
    #[must_use]
    pub fn get(&self, id: RequestId) -> Option<&T> {
        self.place(id.place()).filter(|place| place.is(id))?.value.as_ref()
    }

    /// The request of this attempt, if it still waits.
    pub fn get_mut(&mut self, id: RequestId) -> Option<&mut T> {
        self.place_mut(id.place()).filter(|place| place.is(id))?.value.as_mut()
    }

    /// Ends the wait of this attempt's request.
    pub fn remove(&mut self, id: RequestId) -> Option<T> {
        let free = self.free;
        let place = self.place_mut(id.place()).filter(|place| place.is(id))?;
        let value = place.value.take()?;
        let (previous, next) = (place.previous, place.next);
        place.generation = place.generation.wrapping_add(1);
        place.next = free;
        self.free = id.place();
        match self.place_mut(previous) {
            Some(before) => before.next = next,
            None => self.oldest = next,
        }
        match self.place_mut(next) {
            Some(after) => after.previous = previous,
            None => self.newest = previous,
        }
        self.len = self.len.saturating_sub(1);
        Some(value)
    }

    /// Starts another attempt of the same request: a new number, the same deadline.
    ///
    /// An answer under the old number finds nobody from now on.
    pub fn renew(&mut self, id: RequestId) -> Option<RequestId> {
        let place = self.place_mut(id.place()).filter(|place| place.is(id))?;
        place.generation = place.generation.wrapping_add(1);
        Some(RequestId::new(id.place(), place.generation))
    }

    /// Takes out the oldest request if its deadline has come. Call until it returns `None`.
    pub fn expire(&mut self, now: Duration) -> Option<T> {
        let place = self.place(self.oldest).filter(|place| place.deadline <= now)?;
        self.remove(RequestId::new(self.oldest, place.generation))
    }

    /// Every request in the table, in no particular order. Cost: O(highest number in flight).
    pub fn iter(&self) -> impl Iterator<Item = (RequestId, &T)> {
        (0..).zip(&self.places).filter_map(|(index, place)| {
            Some((RequestId::new(index, place.generation), place.value.as_ref()?))
        })
    }

    fn place(&self, index: u32) -> Option<&Place<T>> {
        self.places.get(usize::try_from(index).ok()?)
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        self.places.get_mut(usize::try_from(index).ok()?)
    }
}

impl<T> Place<T> {
    const fn vacant() -> Self {
        Self {
            generation: 0,
            deadline: Duration::ZERO,
            previous: NOWHERE,
            next: NOWHERE,
            value: None,
        }
    }

    fn is(&self, id: RequestId) -> bool {
        self.value.is_some() && u64::from(self.generation) == id.generation()
    }
}
