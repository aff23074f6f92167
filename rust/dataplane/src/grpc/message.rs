//! The percent-encoding of `grpc-message`.

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Encodes the text of an error for the `grpc-message` header.
///
/// Printable ASCII except `%` stands for itself; every other byte of the UTF-8 text is written as
/// `%` and two upper-case hexadecimal digits. Allocates only if there is something to encode.
#[must_use]
pub fn percent_encode_message(message: &str) -> Cow<'_, str> {
    if message.bytes().all(stands_for_itself) {
        return Cow::Borrowed(message);
    }
    let mut encoded = String::with_capacity(message.len().saturating_mul(3));
    for byte in message.bytes() {
        if stands_for_itself(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(hex_digit(byte >> 4));
            encoded.push(hex_digit(byte & 15));
        }
    }
    Cow::Owned(encoded)
}

/// Decodes a `grpc-message` header, for a log or an error of our own.
///
/// Never refuses: a `%` without two hexadecimal digits stands for itself, and bytes that are not
/// UTF-8 become U+FFFD, because a damaged message is still worth reading.
#[must_use]
pub fn percent_decode_message(value: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if let (b'%', [high, low, after @ ..]) = (*first, tail)
            && let (Some(high), Some(low)) = (hex_value(*high), hex_value(*low))
        {
            decoded.push((high << 4) | low);
            rest = after;
        } else {
            decoded.push(*first);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

fn hex_digit(nibble: u8) -> char {
    HEX.get(usize::from(nibble)).copied().map_or('0', char::from)
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_text_is_passed_on_without_a_copy() {
        assert!(matches!(percent_encode_message("no key: x=1 ~"), Cow::Borrowed(_)));
    }

    #[test]
    fn what_a_header_cannot_carry_is_encoded() {
        assert_eq!(percent_encode_message("50% of\nµ"), "50%25 of%0A%C2%B5");
    }

    #[test]
    fn a_damaged_encoding_is_still_readable() {
        assert_eq!(percent_decode_message(b"100%"), "100%");
        assert_eq!(percent_decode_message(b"%4"), "%4");
        assert_eq!(percent_decode_message(b"%zz%41"), "%zzA");
        assert_eq!(percent_decode_message(b"%FF"), "\u{fffd}");
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire(message in ".*") {
            let encoded = percent_encode_message(&message);
            prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(percent_decode_message(encoded.as_bytes()), message);
        }

        #[test]
        fn decoding_never_panics(value: Vec<u8>) {
            let _ = percent_decode_message(&value);
        }
    }
}
