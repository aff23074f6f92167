//! Base64 as gRPC writes binary metadata: the standard alphabet, padded or not.

/// Decodes `text`; `None` if it has any other character, or a length that no encoding has.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(text.len());
    for group in text.chunks(4) {
        let mut bits = 0_u32;
        for character in group {
            bits = (bits << 6) | sextet(*character)?;
        }
        // One character alone holds six bits, less than a byte.
        let (missing_bits, whole_bytes) = match group.len() {
            4 => (0, 3),
            3 => (6, 2),
            2 => (12, 1),
            _ => return None,
        };
        let [_, bytes @ ..] = (bits << missing_bits).to_be_bytes();
        decoded.extend(bytes.iter().take(whole_bytes));
    }
    Some(decoded)
}

fn sextet(character: u8) -> Option<u32> {
    let value = match character {
        b'A'..=b'Z' => character.wrapping_sub(b'A'),
        b'a'..=b'z' => character.wrapping_sub(b'a').wrapping_add(26),
        b'0'..=b'9' => character.wrapping_sub(b'0').wrapping_add(52),
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_vectors_of_rfc_4648_decode_with_and_without_padding() {
        let vectors = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, text) in vectors.into_iter().enumerate() {
            let expected = Some(b"foobar"[..length].to_vec());
            assert_eq!(decode(text.as_bytes()), expected, "{text}");
            assert_eq!(decode(text.trim_end_matches('=').as_bytes()), expected, "{text}");
        }
        assert_eq!(decode(b"+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["A", "AAAAA", "A=", "AA A", "AA-_", "AA==AA", "é"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn decoding_never_panics(text: Vec<u8>) {
            let _ = decode(&text);
        }
    }
}
