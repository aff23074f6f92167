//! What a request-reply message carries: the envelope, the key, and our own error replies.

use core::fmt;

use super::frame::{encode_frame, frames};
use crate::error::{ErrorCode, Outcome};
use crate::refusal::{Refusal, Refused};
use crate::write::{Tag, parse_number};
use hashroute_core::Epoch;

/// A message in its two parts, both raw frame bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Envelope<'a> {
    /// The frames up to and including the first empty one: the way back to whoever asked.
    pub frames: &'a [u8],
    /// The frames after it: for [`super::nth_frame`].
    pub content: &'a [u8],
}

/// Splits a message after its first empty frame; `None` if it has none.
///
/// REQ puts the empty frame first; with `ZMQ_REQ_CORRELATE` a number comes before it, and DEALER and
/// ROUTER clients may put frames of their own there. All of it comes back with the reply.
#[must_use]
pub fn split_envelope(message: &[u8]) -> Option<Envelope<'_>> {
    let mut length: usize = 0;
    for frame in frames(message) {
        length = length.checked_add(frame.raw.len())?;
        if frame.body.is_empty() {
            let (frames, content) = message.split_at_checked(length)?;
            return Some(Envelope { frames, content });
        }
    }
    None
}

/// Splits off the first frame's body; `None` unless at least one more frame follows.
#[must_use]
pub fn split_first_frame(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = frames(message).next().filter(|frame| frame.more)?;
    Some((first.body, message.get(first.raw.len()..)?))
}

/// Whether `reply` begins with the frames of `envelope`, however their lengths are encoded, and
/// has at least one frame after them.
#[must_use]
pub fn same_frames(envelope: &[u8], reply: &[u8]) -> bool {
    if let Some(rest) = reply.strip_prefix(envelope) {
        return !rest.is_empty();
    }
    let mut answered = frames(reply);
    frames(envelope).all(|saved| answered.next().is_some_and(|frame| frame.body == saved.body))
        && answered.next().is_some()
}

/// Splits the tag of a write off the content of a message: the body of its first frame, if that
/// claims to be a tag, and the frames after it.
#[must_use]
pub fn split_tag(content: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let first = frames(content).next().filter(|frame| Tag::is_claimed_by(frame.body));
    match first.and_then(|frame| Some((frame.body, content.get(frame.raw.len()..)?))) {
        Some((tag, rest)) => (Some(tag), rest),
        None => (None, content),
    }
}

/// Appends the frames of an envelope, and says in the last of them whether a frame follows it.
pub fn encode_envelope(output: &mut Vec<u8>, envelope: &[u8], is_followed: bool) {
    let mut rest = frames(envelope).peekable();
    while let Some(frame) = rest.next() {
        encode_frame(output, frame.body, is_followed || rest.peek().is_some());
    }
}

/// The reply a client gets from the relay itself.
///
/// On the wire it is the request's envelope and then exactly one frame, because a REQ client that
/// reads a single frame would be stuck with the rest:
/// `HASHROUTE-ERROR <CODE> outcome=<not-applied|unknown> <text>`, with `refusal=<word>` and
/// `epoch=<number>` before the text where a guard refused a write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ErrorReply {
    /// What happened.
    pub code: ErrorCode,
    /// Whether a pod may have carried the request out.
    pub outcome: Outcome,
    /// Why a guard did not admit it, if that is what happened.
    pub refused: Option<Refused>,
    /// One sentence for people.
    pub text: String,
}

impl ErrorReply {
    /// The whole reply: the frames of `envelope`, then this error as one frame.
    #[must_use]
    pub fn encode(&self, envelope: &[u8]) -> Vec<u8> {
        let mut message = Vec::new();
        // Encoded again rather than copied: an envelope that was a whole message says that no
        // frame follows its last one.
        encode_envelope(&mut message, envelope, true);
        encode_frame(&mut message, self.to_string().as_bytes(), false);
        message
    }

    /// Reads the content of a reply; `None` if it is not one of ours.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(body).ok()?.strip_prefix(MARK)?.strip_prefix(' ')?;
        let (code, rest) = text.split_once(' ')?;
        let (outcome, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let outcome = outcome.strip_prefix("outcome=")?;
        let (refused, text) = parse_refused(text);
        Some(Self {
            code: ErrorCode::ALL.into_iter().find(|known| known.as_str() == code)?,
            outcome: [Outcome::NotApplied, Outcome::Unknown]
                .into_iter()
                .find(|known| known.as_str() == outcome)?,
            refused,
            text: text.to_owned(),
        })
    }
}

/// Takes the words about a refusal off the beginning of a text. What is not exactly that is text.
fn parse_refused(text: &str) -> (Option<Refused>, &str) {
    let refusal = value(text, "refusal=");
    let refusal = refusal.and_then(|(word, rest)| Some((Refusal::parse(word.as_bytes())?, rest)));
    let Some((refusal, rest)) = refusal else { return (None, text) };
    let epoch = value(rest, "epoch=");
    let epoch = epoch.and_then(|(digits, rest)| Some((parse_number(digits.as_bytes())?, rest)));
    match epoch {
        Some((epoch, rest)) => (Some(Refused { refusal, epoch: Some(Epoch::new(epoch)) }), rest),
        None => (Some(Refused { refusal, epoch: None }), rest),
    }
}

/// The value of the first word, if that has this name, and what follows it.
fn value<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let rest = text.strip_prefix(name)?;
    Some(rest.split_once(' ').unwrap_or((rest, "")))
}

impl fmt::Display for ErrorReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK} {} outcome={}", self.code, self.outcome)?;
        if let Some(refused) = self.refused {
            write!(f, " refusal={}", refused.refusal)?;
            if let Some(epoch) = refused.epoch {
                write!(f, " epoch={epoch}")?;
            }
        }
        write!(f, " {}", self.text)
    }
}

/// How a client tells an error reply from a pod's.
const MARK: &str = "HASHROUTE-ERROR";
