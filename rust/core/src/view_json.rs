//! The JSON document of a view, read field by field so that every error names its place.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use crate::error::ViewError;
use crate::id::{Epoch, PodId};
use crate::pod::{Addresses, Pod, PodState};
use crate::view::{Parameters, View};
use crate::weight::Weight;

/// The version of the document that this release writes and reads.
const VERSION: u64 = 1;

impl View {
    /// Writes the view as a JSON document of version 1: one line, pods sorted by id, so equal
    /// views give equal bytes.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_value(self).to_string()
    }

    /// Reads a document that [`View::to_json`] wrote, or that a person did: `epoch`, `slots`,
    /// `epsilon`, `seed` and a pod's `weight`, `zone`, `state` and `addresses` may be left out.
    ///
    /// # Errors
    ///
    /// [`ViewError::NotJson`], [`ViewError::UnsupportedVersion`] before anything else is read,
    /// [`ViewError::MissingField`], [`ViewError::UnknownField`], [`ViewError::WrongValue`], and
    /// what [`View::new`] and its parts refuse.
    pub fn from_json(document: &str) -> Result<Self, ViewError> {
        let value = serde_json::from_str(document).map_err(|error| ViewError::NotJson {
            reason: reason_of(&error),
            line: error.line(),
            column: error.column(),
        })?;
        from_value(value)
    }
}

impl Serialize for View {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        to_value(self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for View {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_value(Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

fn to_value(view: &View) -> Value {
    let parameters = view.parameters();
    let pods: Vec<Value> = view.pods().iter().map(pod_to_value).collect();
    serde_json::json!({
        "version": VERSION,
        "epoch": view.epoch().get(),
        "slots": parameters.slots(),
        "epsilon": parameters.epsilon(),
        "seed": parameters.seed(),
        "pods": pods,
    })
}

fn pod_to_value(pod: &Pod) -> Value {
    serde_json::json!({
        "id": pod.id.as_str(),
        "weight": pod.weight.as_f64(),
        "zone": pod.zone.as_deref(),
        "state": pod.state.as_str(),
        "addresses": {
            "grpc": pod.addresses.grpc.as_deref(),
            "zmq": pod.addresses.zmq.as_deref(),
        },
    })
}

fn from_value(value: Value) -> Result<View, ViewError> {
    let mut fields = Fields::open(value, String::new())?;
    let version = fields.number("version")?.ok_or_else(|| fields.missing("version", NUMBER))?;
    if version != VERSION {
        return Err(ViewError::UnsupportedVersion { version });
    }
    let defaults = Parameters::default();
    let epoch = fields.number("epoch")?.unwrap_or(1);
    let slots = fields.number("slots")?.unwrap_or_else(|| u64::from(defaults.slots()));
    let epsilon = fields.fraction("epsilon")?.unwrap_or_else(|| defaults.epsilon());
    let seed = fields.number("seed")?.unwrap_or_else(|| defaults.seed());
    let pods = fields.list("pods")?.ok_or_else(|| fields.missing("pods", LIST))?;
    fields.close("version, epoch, slots, epsilon, seed, pods")?;
    let pods = pods
        .into_iter()
        .enumerate()
        .map(|(place, pod)| pod_from_value(pod, format!("pods[{place}].")))
        .collect::<Result<Vec<_>, _>>()?;
    View::new(Epoch::new(epoch), Parameters::new(slots, epsilon, seed)?, pods)
}

fn pod_from_value(value: Value, path: String) -> Result<Pod, ViewError> {
    let mut fields = Fields::open(value, path)?;
    let id = fields.text("id")?.ok_or_else(|| fields.missing("id", TEXT))?;
    let weight = fields.fraction("weight")?;
    let zone = fields.text("zone")?;
    let state = fields.text("state")?;
    let addresses = fields.take("addresses");
    fields.close("id, weight, zone, state, addresses")?;
    Ok(Pod {
        id: PodId::new(&id)?,
        weight: weight.map_or(Ok(Weight::ONE), Weight::new)?,
        zone: zone.map(Arc::from),
        state: match state {
            None => PodState::default(),
            Some(word) => PodState::from_name(&word).ok_or_else(|| ViewError::WrongValue {
                path: fields.path_of("state"),
                expected: "one of joining, active, draining, down",
                got: format!("{word:?}"),
            })?,
        },
        addresses: match addresses {
            None => Addresses::default(),
            Some(value) => addresses_from_value(value, fields.path_of("addresses."))?,
        },
    })
}

fn addresses_from_value(value: Value, path: String) -> Result<Addresses, ViewError> {
    let mut fields = Fields::open(value, path)?;
    let addresses = Addresses { grpc: fields.text("grpc")?, zmq: fields.text("zmq")? };
    fields.close("grpc, zmq")?;
    Ok(addresses)
}

const NUMBER: &str = "an integer from 0 to 18446744073709551615";
const FRACTION: &str = "a number";
const TEXT: &str = "a string";
const LIST: &str = "a list of pods";

/// The fields of one JSON object that nobody has read yet.
struct Fields {
    left: Map<String, Value>,
    /// What precedes the name of a field of this object, such as `pods[3].`.
    path: String,
}

impl Fields {
    fn open(value: Value, path: String) -> Result<Self, ViewError> {
        match value {
            Value::Object(left) => Ok(Self { left, path }),
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => Err(ViewError::WrongValue {
                path: match path.trim_end_matches('.') {
                    "" => "(the whole document)".to_owned(),
                    path => path.to_owned(),
                },
                expected: "an object",
                got: describe(&other),
            }),
        }
    }

    /// Refuses what is left: a misspelt field must not be taken for its default.
    fn close(&self, known: &'static str) -> Result<(), ViewError> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => Err(ViewError::UnknownField { path: self.path_of(name), known }),
        }
    }

    /// Takes a field out; `null` is the same as no field.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name).filter(|value| !value.is_null())
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, ViewError> {
        self.read(name, NUMBER, |value| value.as_u64())
    }

    fn fraction(&mut self, name: &str) -> Result<Option<f64>, ViewError> {
        self.read(name, FRACTION, |value| value.as_f64())
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ViewError> {
        self.read(name, TEXT, |value| value.as_str().map(ToOwned::to_owned))
    }

    fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ViewError> {
        self.read(name, LIST, |value| value.as_array().cloned())
    }

    fn read<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        convert: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, ViewError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match convert(&value) {
            Some(converted) => Ok(Some(converted)),
            None => Err(ViewError::WrongValue {
                path: self.path_of(name),
                expected,
                got: describe(&value),
            }),
        }
    }

    fn missing(&self, name: &str, expected: &'static str) -> ViewError {
        ViewError::MissingField { path: self.path_of(name), expected }
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }
}

/// Names a value in an error: short scalars in full, the rest by kind.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.len() <= 64 => format!("{text:?}"),
        Value::String(_) => "a long string".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The parser's words without the position, which the error carries as numbers.
fn reason_of(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = concat!(
        r#"{"version":1,"epoch":7,"slots":1024,"epsilon":0.1,"seed":18446744073709551615,"#,
        r#""pods":[{"id":"b","weight":2.5,"zone":"rack-1","state":"joining","#,
        r#""addresses":{"grpc":"127.0.0.1:50051","zmq":null}},{"id":"a"}]}"#
    );

    /// The error of `DOCUMENT` with one part replaced.
    fn refused(part: &str, by: &str) -> ViewError {
        assert!(DOCUMENT.contains(part));
        View::from_json(&DOCUMENT.replace(part, by)).unwrap_err()
    }

    #[test]
    fn a_document_is_read_and_written_back() {
        let view = View::from_json(DOCUMENT).unwrap();
        assert_eq!(view.epoch(), Epoch::new(7));
        assert_eq!(view.parameters(), Parameters::new(1024, 0.1, u64::MAX).unwrap());
        let [a, b] = view.pods() else { panic!("two pods") };
        assert_eq!(*a, Pod::new(PodId::new("a").unwrap()));
        assert_eq!(b.weight, Weight::new(2.5).unwrap());
        assert_eq!(b.zone.as_deref(), Some("rack-1"));
        assert_eq!(b.state, PodState::Joining);
        assert_eq!(b.addresses.grpc.as_deref(), Some("127.0.0.1:50051"));
        assert_eq!(b.addresses.zmq, None);

        assert_eq!(View::from_json(&view.to_json()), Ok(view.clone()));
        let embedded = serde_json::to_string(&view).unwrap();
        assert_eq!(serde_json::from_str::<View>(&embedded).unwrap(), view);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let view = View::from_json(r#"{"version":1,"pods":[{"id":"a"}]}"#).unwrap();
        assert_eq!(view.epoch(), Epoch::new(1));
        assert_eq!(view.parameters(), Parameters::default());
    }

    #[test]
    fn a_document_of_a_later_release_is_refused_before_its_fields_are_read() {
        let later = refused(r#""version":1,"#, r#""version":2,"novelty":true,"#);
        assert_eq!(later, ViewError::UnsupportedVersion { version: 2 });
        let unmarked = refused(r#""version":1,"#, "");
        assert!(matches!(unmarked, ViewError::MissingField { path, .. } if path == "version"));
    }

    #[test]
    fn a_misspelt_or_missing_field_is_named_with_its_place() {
        let path_of = |error: ViewError| {
            let (ViewError::UnknownField { path, .. } | ViewError::MissingField { path, .. }) =
                error
            else {
                panic!("{error}")
            };
            path
        };
        assert_eq!(path_of(refused("epsilon", "epsilom")), "epsilom");
        assert_eq!(path_of(refused("weight", "wieght")), "pods[0].wieght");
        assert_eq!(path_of(refused("grpc", "rest")), "pods[0].addresses.rest");
        assert_eq!(path_of(refused(r#"{"id":"a"}"#, "{}")), "pods[1].id");
        assert_eq!(path_of(refused(r#""pods":"#, r#""podz":"#)), "pods");
    }

    #[test]
    fn a_field_of_another_kind_is_named_with_what_it_holds() {
        for (part, by, path, got) in [
            ("1024", "-1", "slots", "-1"),
            ("1024", "\"many\"", "slots", "\"many\""),
            ("0.1", "[]", "epsilon", "a list"),
            ("2.5", "true", "pods[0].weight", "true"),
            ("\"joining\"", "\"asleep\"", "pods[0].state", "\"asleep\""),
            ("{\"id\":\"a\"}", "17", "pods[1]", "17"),
            ("{\"id\":\"a\"}", "{\"id\":{}}", "pods[1].id", "an object"),
        ] {
            let ViewError::WrongValue { path: at, got: held, .. } = refused(part, by) else {
                panic!("{by} instead of {part}")
            };
            assert_eq!((at.as_str(), held.as_str()), (path, got));
        }
        assert_eq!(View::from_json("[]").unwrap_err().code(), "wrong_value");
    }

    #[test]
    fn what_is_not_json_is_refused_with_the_place() {
        let ViewError::NotJson { line, column, reason } =
            View::from_json("{\n  \"version\": oops}").unwrap_err()
        else {
            panic!("read it")
        };
        assert_eq!((line, column, reason.as_str()), (2, 14, "expected value"));
    }

    #[test]
    fn the_values_themselves_are_checked_too() {
        assert_eq!(refused("1024", "1000").code(), "slots_not_power_of_two");
        assert_eq!(refused("2.5", "0").code(), "weight_not_positive");
        assert_eq!(refused(r#""id":"a""#, r#""id":"b""#).code(), "duplicate_pod");
        assert_eq!(refused(r#""id":"a""#, r#""id":"""#).code(), "bad_id");
    }
}
