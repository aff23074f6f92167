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

const fn stands_for_itself(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'%'
}

fn hex_digit(nibble: u8) -> char {
    HEX.get(usize::from(nibble)).copied().map_or('0', char::from)
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

    /// What a gRPC library makes of the header.
    fn decode(encoded: &str) -> String {
        let mut pieces = encoded.split('%');
        let mut decoded = pieces.next().unwrap().as_bytes().to_vec();
        for piece in pieces {
            let (digits, rest) = piece.split_at(2);
            decoded.push(u8::from_str_radix(digits, 16).unwrap());
            decoded.extend(rest.bytes());
        }
        String::from_utf8(decoded).unwrap()
    }

    proptest! {
        #[test]
        fn a_message_survives_the_wire(message in ".*") {
            let encoded = percent_encode_message(&message);
            prop_assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(decode(&encoded), message);
        }
    }
}
