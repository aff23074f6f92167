//! The rules of a configuration: which requests find their key where, and what may be repeated.

use crate::key::{KeySource, KeySources, KeySourcesError, MetadataName};
use crate::write::GroupName;
use core::fmt;
use serde::Deserialize;
use thiserror::Error;

/// One rule: what holds for the requests whose path matches.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Document")]
pub struct Route {
    /// Which requests.
    pub pattern: Pattern,
    /// Where their key is looked for.
    pub sources: KeySources,
    /// What becomes of a request without a key.
    pub on_missing: OnMissing,
    /// Whether a request may be applied twice without harm.
    pub idempotent: bool,
    /// What has one writer, if the requests write.
    pub writes: Option<Writes>,
}

/// What requests write that has one writer at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writes {
    /// The slot of their key.
    Slot,
    /// Whatever the leader of this group keeps.
    Group(GroupName),
}

/// A rule as it is written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "match")]
    pattern: Pattern,
    #[serde(rename = "key")]
    sources: Vec<KeySource>,
    on_missing: OnMissing,
    idempotent: bool,
    #[serde(default)]
    write: bool,
    #[serde(default)]
    group: Option<GroupName>,
}

impl TryFrom<Document> for Route {
    type Error = KeySourcesError;

    /// A rule of a group needs no key, and may come without a place to look for one.
    fn try_from(document: Document) -> Result<Self, KeySourcesError> {
        let Document { pattern, sources, on_missing, idempotent, write, group } = document;
        let sources = if group.is_some() && sources.is_empty() {
            default_sources()
        } else {
            KeySources::new(sources)?
        };
        let writes = group.map(Writes::Group).or_else(|| write.then_some(Writes::Slot));
        Ok(Self { pattern, sources, on_missing, idempotent, writes })
    }
}

/// What becomes of a request without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// It is refused, with a text that says what was looked for.
    Reject,
    /// It goes to any pod, in turn.
    Any,
}

/// Which paths a rule is for: `/*`, `/package.Service/*` or `/package.Service/Method`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    /// What the path begins with, or is.
    text: Box<str>,
    is_prefix: bool,
}

/// A pattern that is none of the three.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{0:?} matches no gRPC path: write \"/*\", \"/package.Service/*\" or \"/package.Service/Method\""
)]
pub struct PatternError(String);

impl Pattern {
    /// Checks and keeps a pattern.
    ///
    /// # Errors
    ///
    /// [`PatternError`] if it is none of the three forms.
    pub fn new(pattern: &str) -> Result<Self, PatternError> {
        let error = || PatternError(pattern.to_owned());
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '*', ' ', '?', '#']);
        let rest = pattern.strip_prefix('/').ok_or_else(error)?;
        let is_prefix = match rest.split_once('/') {
            None if rest == "*" => true,
            Some((service, "*")) if is_name(service) => true,
            Some((service, method)) if is_name(service) && is_name(method) => false,
            None | Some(_) => return Err(error()),
        };
        let text = pattern.strip_suffix('*').unwrap_or(pattern);
        Ok(Self { text: text.into(), is_prefix })
    }

    /// Whether the rule is for requests of this path.
    #[must_use]
    pub fn matches(&self, path: &[u8]) -> bool {
        let text = self.text.as_bytes();
        if self.is_prefix { path.starts_with(text) } else { path == text }
    }

    /// What every path matches.
    fn everything() -> Self {
        Self { text: "/".into(), is_prefix: true }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(pattern: String) -> Result<Self, PatternError> {
        Self::new(&pattern)
    }
}

/// The rules of a configuration, in its order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<Route>")]
pub struct RouteTable {
    routes: Box<[Route]>,
    fallback: Route,
}

impl RouteTable {
    /// A table of these rules. Where none matches, the key is the metadata [`HEADER_KEY`](crate::grpc::HEADER_KEY), a
    /// request without it goes to any pod, and nothing is taken to be idempotent.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        let fallback = Route {
            pattern: Pattern::everything(),
            sources: default_sources(),
            on_missing: OnMissing::Any,
            idempotent: false,
            writes: None,
        };
        Self { routes: routes.into(), fallback }
    }

    /// The rules, in their order.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The first rule that matches. Cost: linear in the rules before it.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> &Route {
        self.routes.iter().find(|route| route.pattern.matches(path)).unwrap_or(&self.fallback)
    }
}

impl From<Vec<Route>> for RouteTable {
    fn from(routes: Vec<Route>) -> Self {
        Self::new(routes)
    }
}

fn default_sources() -> KeySources {
    KeySources::from(KeySource::Metadata(MetadataName::hashroute_key()))
}

#[cfg(test)]
mod tests;
