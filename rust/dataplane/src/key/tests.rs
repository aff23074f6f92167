use super::*;
use crate::protobuf::SCAN_BYTES_MAX;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
struct Head(BTreeMap<&'static str, Vec<u8>>);

impl RequestHead for Head {
    fn path(&self) -> &[u8] {
        b"/shop.Orders/Place"
    }

    fn metadata(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    fn peer(&self) -> &[u8] {
        b"10.0.0.7"
    }
}

fn head(name: &'static str, value: &[u8]) -> Head {
    Head(BTreeMap::from([(name, value.to_vec())]))
}

/// Sources as a configuration has them.
fn sources(json: &str) -> KeySources {
    serde_json::from_str(json).unwrap()
}

fn found(bytes: &[u8]) -> KeyLookup<'_> {
    KeyLookup::Found(Key::from(bytes))
}

fn whole(message: &[u8]) -> Body<'_> {
    Body::Message { arrived: message, message_bytes: message.len() }
}

/// The text of the error that these sources give for a request without metadata.
fn text(json: &str, body: Body<'_>) -> String {
    let (sources, head) = (sources(json), Head::default());
    let lookup = KeySearch::new(&sources).advance(&head, body);
    let KeyLookup::Missing(missing) = lookup else { panic!("{lookup:?}") };
    missing.to_string()
}

const FIELD: &str = r#"[{"field": [1]}]"#;
const ALL: &str = r#"[{"metadata": "X-Key"}, {"field": [1]}, "path", "peer"]"#;

#[test]
fn the_first_source_that_has_a_key_gives_it() {
    let all = sources(ALL);
    let metadata = head("x-key", b"from metadata");
    assert_eq!(KeySearch::new(&all).advance(&metadata, Body::Unread), found(b"from metadata"));

    let bare = Head::default();
    let mut search = KeySearch::new(&all);
    let asked = search.advance(&bare, Body::Unread);
    assert_eq!(asked, KeyLookup::NeedsBody { message_bytes: 0 });
    assert_eq!(search.advance(&bare, whole(b"\x0a\x03abc")), found(b"abc"));

    let mut search = KeySearch::new(&all);
    assert_eq!(search.advance(&bare, whole(b"")), found(b"/shop.Orders/Place"));
    let peer = sources(r#"["peer"]"#);
    assert_eq!(KeySearch::new(&peer).advance(&bare, Body::Unread), found(b"10.0.0.7"));
}

#[test]
fn a_key_in_the_body_is_found_as_the_body_arrives() {
    let message = b"\x12\x02xx\x0a\x03abc";
    let bare = Head::default();
    let sources = sources(FIELD);
    let mut search = KeySearch::new(&sources);
    for end in 0..message.len() {
        let body = Body::Message { arrived: &message[..end], message_bytes: message.len() };
        let lookup = search.advance(&bare, body);
        assert!(matches!(lookup, KeyLookup::NeedsBody { message_bytes } if message_bytes > end));
    }
    assert_eq!(search.advance(&bare, whole(message)), found(b"abc"));
}

#[test]
fn a_second_field_is_looked_for_from_the_beginning_of_the_message() {
    let sources = sources(r#"[{"field": [9]}, {"field": [1]}]"#);
    let bare = Head::default();
    let lookup = KeySearch::new(&sources).advance(&bare, whole(b"\x0a\x03abc\x12\x00"));
    assert_eq!(lookup, found(b"abc"));
}

#[test]
fn an_empty_value_and_a_huge_one_are_keys() {
    let sources = sources(r#"[{"metadata": "x-key"}]"#);
    for value in [Vec::new(), vec![0xff; SCAN_BYTES_MAX]] {
        let head = head("x-key", &value);
        assert_eq!(KeySearch::new(&sources).advance(&head, Body::Unread), found(&value));
    }
}

#[test]
fn binary_metadata_is_decoded() {
    let sources = sources(r#"[{"metadata": "x-key-bin"}]"#);
    for value in ["AP8=", "AP8", " AP8= ", "AP8,AAAA"] {
        let head = head("x-key-bin", value.as_bytes());
        assert_eq!(KeySearch::new(&sources).advance(&head, Body::Unread), found(b"\x00\xff"));
    }
    let damaged = head("x-key-bin", b"?");
    let KeyLookup::Missing(missing) = KeySearch::new(&sources).advance(&damaged, Body::Unread)
    else {
        panic!("what is not base64 is no key");
    };
    assert_eq!(missing.misses[0].1, Miss::NotBase64);
}

#[test]
fn a_missing_key_is_explained_source_by_source() {
    let both = r#"[{"metadata": "x-key"}, {"field": [5, 2]}]"#;
    assert_eq!(
        text(both, Body::Compressed),
        "the request has no routing key: metadata:x-key is not sent; field:5.2 cannot be read \
         because the first message is compressed. Send it, or set on_missing = \"any\" for this \
         route"
    );
}

#[test]
fn each_reason_for_a_missing_field_has_its_words() {
    let late = [&[0x12, 0x80, 0x80, 0x40][..], &vec![0; SCAN_BYTES_MAX], b"\x0a\x01k"].concat();
    let cases = [
        (Body::Compressed, "compressed"),
        (Body::Unframed, "not framed"),
        (Body::Absent, "there is no message"),
        (Body::TooLong, "as is buffered"),
        (whole(b""), "is not in the first message"),
        (whole(b"\x07"), "not protobuf"),
        (whole(&late), "first MiB"),
    ];
    for (body, words) in cases {
        let text = text(FIELD, body);
        assert!(text.contains("field:1 ") && text.contains(words), "{text}");
    }
}

#[test]
fn a_compressed_message_does_not_hide_the_sources_after_it() {
    let bare = Head::default();
    let sources = sources(ALL);
    let lookup = KeySearch::new(&sources).advance(&bare, Body::Compressed);
    assert_eq!(lookup, found(b"/shop.Orders/Place"));
}

#[test]
fn a_source_that_cannot_be_is_refused_with_what_to_write() {
    let cases = [
        ("[]", "1 to 8 key sources"),
        (r#"["path","path","path","path","path","path","path","path","path"]"#, "not 9"),
        (r#"[{"metadata": ""}]"#, "metadata name"),
        (r#"[{"metadata": ":path"}]"#, "metadata name"),
        (r#"[{"field": [0]}]"#, "between 1 and 536870911"),
        (r#"[{"field": []}]"#, "1 to 8 field numbers"),
        (r#"["host"]"#, "unknown variant `host`"),
    ];
    for (json, words) in cases {
        let error = serde_json::from_str::<KeySources>(json).unwrap_err().to_string();
        assert!(error.contains(words), "{json}: {error}");
    }
}

#[test]
fn integers_are_the_keys_that_python_makes_of_them() {
    assert_eq!(Key::from_integer(258).as_bytes(), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Key::from_decoded(vec![1]), Key::from(&[1][..]));
    assert_eq!(format!("{:?}", Key::from(&b"a\n"[..])), r#"Key("a\n")"#);
}

proptest! {
    #[test]
    fn a_search_ends_whatever_the_request(
        value in prop::option::of(any::<Vec<u8>>()), message: Vec<u8>,
        numbers in prop::collection::vec(1_u32..5, 1..4),
    ) {
        let name = MetadataName::new("x-key-bin").unwrap();
        let field = FieldPath::new(&numbers).unwrap();
        let sources = vec![KeySource::Metadata(name), KeySource::Field(field)];
        let sources = KeySources::new(sources).unwrap();
        let head = Head(value.into_iter().map(|value| ("x-key-bin", value)).collect());
        let lookup = KeySearch::new(&sources).advance(&head, whole(&message));
        let asks = matches!(lookup, KeyLookup::NeedsBody { .. });
        prop_assert!(!asks, "a whole message leaves nothing to ask for");
    }
}
