//! The head of a request, and what is added to it for the pod.
use std::rc::Rc;
use std::time::Duration;

use hashroute_core::{Epoch, Slot};
use hashroute_dataplane::grpc::{
    HEADER_EPOCH, HEADER_GROUP, HEADER_SLOT, HEADER_STALE, HEADER_TERM, TimeoutError,
    format_timeout, parse_timeout,
};
use hashroute_dataplane::key::RequestHead;
use hashroute_dataplane::write::{Tag, TagError, TagParts, Target};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Version};

use super::exchange::IS_STALE;

/// The head of a request as its caller sent it, and the caller's address.
#[derive(Debug)]
pub(super) struct Head {
    parts: Parts,
    peer: Rc<str>,
}

/// What the pod is told of a request's route.
#[derive(Clone, Copy, Debug)]
pub(super) struct RouteNote<'a> {
    pub(super) slot: Slot,
    pub(super) term: Epoch,
    pub(super) epoch: &'a HeaderValue,
}

impl Head {
    /// Takes the head of a request from `peer`.
    pub(super) fn new(mut parts: Parts, peer: Rc<str>) -> Self {
        if parts.uri.authority().is_none() {
            // Without an authority HTTP/2 wants the form in which a proxy passes HTTP/1 on; what is
            // sent is the same: no `:authority`.
            parts.version = Version::HTTP_11;
        }
        Self { parts, peer }
    }

    /// The size of the headers as HTTP/2 counts it: names, values, and 32 bytes for each.
    pub(super) fn header_list_bytes(&self) -> usize {
        let sizes =
            self.parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
        sizes.sum()
    }

    /// How long the caller will wait; `None` for ever.
    pub(super) fn timeout(&self) -> Result<Option<Duration>, TimeoutError> {
        let timeout = self.parts.headers.get(&TIMEOUT);
        timeout.map(|value| parse_timeout(value.as_bytes())).transpose()
    }

    /// Adds the note for the pod, in place of any that the caller forged. Everything else goes as
    /// it came, in its order.
    pub(super) fn note(&mut self, note: RouteNote<'_>) {
        let headers = &mut self.parts.headers;
        headers.insert(SLOT, HeaderValue::from(note.slot.get()));
        headers.insert(TERM, HeaderValue::from(note.term.get()));
        headers.insert(EPOCH, note.epoch.clone());
    }

    /// Adds whether what it was routed by may be old, and takes out what only a router may say: a
    /// pod's guard believes it.
    pub(super) fn note_read(&mut self, is_stale: bool) {
        let headers = &mut self.parts.headers;
        headers.remove(GROUP);
        if is_stale {
            headers.insert(STALE, HeaderValue::from_static(IS_STALE));
        } else {
            headers.remove(STALE);
        }
    }

    /// Adds the tag of a write, in place of any that the caller forged.
    pub(super) fn note_write(&mut self, target: &Target, epoch: Epoch, term: Epoch) {
        let headers = &mut self.parts.headers;
        match target {
            Target::Slot(slot) => {
                headers.remove(GROUP);
                headers.insert(SLOT, HeaderValue::from(slot.get()));
            }
            Target::Group(group) => {
                headers.remove(SLOT);
                let encoded = HeaderValue::from_str(&group.encoded());
                // What is percent-encoded is a header value.
                headers.insert(GROUP, encoded.unwrap_or(HeaderValue::from_static("")));
            }
        }
        headers.insert(EPOCH, HeaderValue::from(epoch.get()));
        headers.insert(TERM, HeaderValue::from(term.get()));
        headers.remove(STALE);
    }

    /// Takes the term out: what a service finds under its name was admitted by its guard.
    pub(super) fn remove_term(&mut self) {
        self.parts.headers.remove(TERM);
    }

    /// The tag that came with the request.
    pub(super) fn tag(&self) -> Result<Option<Tag>, TagError> {
        Tag::from_parts(TagParts {
            slot: self.only(&SLOT)?,
            group: self.only(&GROUP)?,
            epoch: self.only(&EPOCH)?,
            term: self.only(&TERM)?,
        })
    }

    /// The value of a header that may be there once.
    fn only(&self, name: &HeaderName) -> Result<Option<&[u8]>, TagError> {
        let mut values = self.parts.headers.get_all(name).iter();
        let value = values.next();
        if values.next().is_some() {
            return Err(TagError::NotWhole);
        }
        Ok(value.map(HeaderValue::as_bytes))
    }

    /// Lowers the timeout to what is left of it, for a request that is sent again.
    pub(super) fn shorten_timeout(&mut self, left: Duration) {
        if let Ok(value) = HeaderValue::from_bytes(format_timeout(left).as_bytes()) {
            self.parts.headers.insert(TIMEOUT, value);
        }
    }

    /// The request as it is sent to a pod.
    pub(super) fn request(&self) -> Request<()> {
        Request::from_parts(self.parts.clone(), ())
    }
}

impl RequestHead for Head {
    fn path(&self) -> &[u8] {
        self.parts.uri.path().as_bytes()
    }

    fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.parts.headers.get(name).map(HeaderValue::as_bytes)
    }

    fn peer(&self) -> &[u8] {
        self.peer.as_bytes()
    }
}

const GROUP: HeaderName = HeaderName::from_static(HEADER_GROUP);
const STALE: HeaderName = HeaderName::from_static(HEADER_STALE);
const SLOT: HeaderName = HeaderName::from_static(HEADER_SLOT);
const TERM: HeaderName = HeaderName::from_static(HEADER_TERM);
const EPOCH: HeaderName = HeaderName::from_static(HEADER_EPOCH);
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
