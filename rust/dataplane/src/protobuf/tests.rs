use super::*;
use proptest::prelude::*;

fn path(numbers: &[u32]) -> FieldPath {
    FieldPath::new(numbers).unwrap()
}

/// Looks in a message that has arrived whole.
fn look<'a>(numbers: &[u32], message: &'a [u8]) -> FieldLookup<'a> {
    FieldScan::new(&path(numbers)).advance(message, message.len())
}

fn found(bytes: &[u8]) -> FieldLookup<'_> {
    FieldLookup::Found(Key::from(bytes))
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes.push(low & 0x7f);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// A field as a serializer would have it.
#[derive(Debug, Clone)]
enum Value {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Vec<u8>),
    Message(Vec<(u32, Value)>),
    Group(Vec<(u32, Value)>),
}

fn encode(fields: &[(u32, Value)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, value) in fields {
        let tag = |wire: u64| varint(u64::from(*number) << 3 | wire);
        match value {
            Value::Varint(value) => bytes.extend([tag(0), varint(*value)].concat()),
            Value::Fixed64(value) => bytes.extend([tag(1), value.to_le_bytes().to_vec()].concat()),
            Value::Fixed32(value) => bytes.extend([tag(5), value.to_le_bytes().to_vec()].concat()),
            Value::Bytes(value) => {
                bytes.extend([tag(2), varint(value.len() as u64), value.clone()].concat());
            }
            Value::Message(fields) => {
                let inner = encode(fields);
                bytes.extend([tag(2), varint(inner.len() as u64), inner].concat());
            }
            Value::Group(fields) => bytes.extend([tag(3), encode(fields), tag(4)].concat()),
        }
    }
    bytes
}

/// The slow obvious twin: walks the fields as values, not as bytes. `Err` is a malformed message.
fn first(fields: &[(u32, Value)], path: &[u32]) -> Result<Option<Vec<u8>>, ()> {
    let (wanted, rest) = path.split_first().ok_or(())?;
    for (_, value) in fields.iter().filter(|(number, _)| number == wanted) {
        match value {
            Value::Group(_) => {}
            Value::Message(inner) if rest.is_empty() => return Ok(Some(encode(inner))),
            Value::Message(inner) => match first(inner, rest)? {
                None => {}
                found => return Ok(found),
            },
            Value::Bytes(bytes) if rest.is_empty() => return Ok(Some(bytes.clone())),
            Value::Bytes(_) => return Err(()),
            _ if !rest.is_empty() => {}
            Value::Varint(value) | Value::Fixed64(value) => {
                return Ok(Some(value.to_le_bytes().to_vec()));
            }
            Value::Fixed32(value) => return Ok(Some(u64::from(*value).to_le_bytes().to_vec())),
        }
    }
    Ok(None)
}

fn fields() -> impl Strategy<Value = Vec<(u32, Value)>> {
    let leaf = prop_oneof![
        any::<u64>().prop_map(Value::Varint),
        any::<u64>().prop_map(Value::Fixed64),
        any::<u32>().prop_map(Value::Fixed32),
        // The first byte is no tag that a parser knows, so bytes are never a message by chance.
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|mut bytes| {
            bytes.insert(0, 7);
            Value::Bytes(bytes)
        }),
    ];
    let number = prop_oneof![1_u32..4, Just(16), Just(NUMBER_MAX)];
    let value = leaf.prop_recursive(3, 24, 4, move |inner| {
        let fields = prop::collection::vec((1_u32..4, inner), 0..4);
        prop_oneof![fields.clone().prop_map(Value::Message), fields.prop_map(Value::Group)]
    });
    prop::collection::vec((number, value), 0..6)
}

#[test]
fn a_string_an_embedded_message_and_integers_are_keys() {
    let message = encode(&[
        (1, Value::Bytes(b"EURUSD".to_vec())),
        (2, Value::Message(vec![(3, Value::Varint(7))])),
        (4, Value::Fixed32(9)),
    ]);
    assert_eq!(look(&[1], &message), found(b"EURUSD"));
    assert_eq!(look(&[2], &message), found(&[0x18, 7]));
    assert_eq!(look(&[2, 3], &message), found(&7_u64.to_le_bytes()));
    assert_eq!(look(&[4], &message), found(&9_u64.to_le_bytes()));
}

#[test]
fn a_negative_integer_is_the_key_that_python_makes_of_it() {
    let message = encode(&[(1, Value::Varint((-5_i64).cast_unsigned()))]);
    assert_eq!(look(&[1], &message), found(&(-5_i64).to_le_bytes()));
}

#[test]
fn the_first_occurrence_counts_also_across_a_repeated_message() {
    let message = encode(&[
        (5, Value::Message(vec![(9, Value::Varint(0))])),
        (5, Value::Message(vec![(2, Value::Bytes(b"first".to_vec()))])),
        (5, Value::Message(vec![(2, Value::Bytes(b"second".to_vec()))])),
    ]);
    assert_eq!(look(&[5, 2], &message), found(b"first"));
}

#[test]
fn an_empty_string_that_was_written_is_a_key_and_one_that_was_not_is_missing() {
    assert_eq!(look(&[1], &encode(&[(1, Value::Bytes(Vec::new()))])), found(b""));
    assert_eq!(look(&[1], b""), FieldLookup::Missing);
}

#[test]
fn what_is_no_message_is_malformed() {
    let cases: [(&str, &[u8]); 9] = [
        ("field number 0", &[0x02, 0]),
        ("wire type 6", &[0x0e]),
        ("a length beyond the end", &[0x12, 5, b'x']),
        ("a tag cut short", &[0x80]),
        ("a fixed field cut short", &[0x11, 0, 0]),
        ("a varint of eleven bytes", &[0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ("a varint of more than 64 bits", &[0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
        ("a group that was not opened", &[0x14]),
        ("a group that is not closed", &[0x13]),
    ];
    for (what, message) in cases {
        assert_eq!(look(&[1], message), FieldLookup::Malformed, "{what}");
    }
}

#[test]
fn an_embedded_message_cannot_reach_beyond_its_end() {
    // Field 1 holds one byte, the beginning of a string of three bytes that would lie outside.
    let message = [0x0a, 2, 0x12, 3, b'a', b'b', b'c'];
    assert_eq!(look(&[1, 2], &message), FieldLookup::Malformed);
}

#[test]
fn what_an_embedded_message_cuts_short_is_not_waited_for() {
    // Field 1 ends within a tag, and the rest of the message around it has not arrived.
    let lookup = FieldScan::new(&path(&[1, 2])).advance(&[0x0a, 1, 0x80], 100);
    assert_eq!(lookup, FieldLookup::Malformed);
}

#[test]
fn a_search_asks_for_no_more_than_it_needs() {
    let message = encode(&[(9, Value::Bytes(vec![0; 300])), (1, Value::Bytes(b"key".to_vec()))]);
    let mut scan = FieldScan::new(&path(&[1]));
    let mut arrived = 0;
    let mut asked = Vec::new();
    while let FieldLookup::NeedMore { message_bytes } =
        scan.advance(&message[..arrived], message.len())
    {
        asked.push(message_bytes);
        arrived = message_bytes;
    }
    // A tag, a two-byte length, the tag behind the skipped bytes, a length, the key.
    assert_eq!(asked, [1, 2, 3, 304, 305, 308]);
    assert_eq!(scan.advance(&message, message.len()), found(b"key"));
}

#[test]
fn a_field_may_be_long_but_not_begin_too_late() {
    let long = encode(&[(1, Value::Bytes(vec![b'k'; 2 * SCAN_BYTES_MAX]))]);
    assert_eq!(look(&[1], &long), found(&vec![b'k'; 2 * SCAN_BYTES_MAX]));
    let late =
        encode(&[(2, Value::Bytes(vec![0; SCAN_BYTES_MAX])), (1, Value::Bytes(b"late".to_vec()))]);
    assert_eq!(look(&[1], &late), FieldLookup::TooFar);
}

#[test]
fn a_path_has_one_to_eight_numbers_that_fields_can_have() {
    assert_eq!(FieldPath::new(&[]), Err(FieldPathError::Length(0)));
    assert_eq!(FieldPath::new(&[1; 9]), Err(FieldPathError::Length(9)));
    assert_eq!(FieldPath::new(&[1, 0]), Err(FieldPathError::Number(0)));
    assert_eq!(FieldPath::new(&[1 << 29]), Err(FieldPathError::Number(1 << 29)));
    assert_eq!(path(&[5, 2]).to_string(), "5.2");
    assert_eq!(path(&[1; 8]).numbers(), [1; 8]);
}

proptest! {
    #[test]
    fn a_search_agrees_with_its_slow_twin_however_the_message_is_cut(
        fields in fields(),
        wanted in prop::collection::vec(1_u32..4, 1..4),
        step in 1_usize..8,
    ) {
        let message = encode(&fields);
        let lookup = look(&wanted, &message);
        match first(&fields, &wanted) {
            Ok(Some(bytes)) => prop_assert_eq!(&lookup, &found(&bytes)),
            Ok(None) => prop_assert_eq!(&lookup, &FieldLookup::Missing),
            Err(()) => prop_assert_eq!(&lookup, &FieldLookup::Malformed),
        }
        let mut scan = FieldScan::new(&path(&wanted));
        for end in (0..message.len()).step_by(step) {
            let early = scan.advance(&message[..end], message.len());
            if let FieldLookup::NeedMore { message_bytes } = early {
                prop_assert!(message_bytes > end);
            } else {
                prop_assert_eq!(early, lookup);
                return Ok(());
            }
        }
        prop_assert_eq!(scan.advance(&message, message.len()), lookup);
    }

    #[test]
    fn a_search_ends_on_any_bytes(
        message: Vec<u8>, numbers in prop::collection::vec(1_u32..20, 1..9), longer in 0_usize..50,
    ) {
        let mut scan = FieldScan::new(&path(&numbers));
        for end in 0..=message.len() {
            let lookup = scan.advance(&message[..end], message.len() + longer);
            if !matches!(lookup, FieldLookup::NeedMore { .. }) {
                break;
            }
        }
        let asks = matches!(look(&numbers, &message), FieldLookup::NeedMore { .. });
        prop_assert!(!asks, "a whole message leaves nothing to ask for");
    }
}
