//! The two messages of `grpc.health.v1.Health/Check`, written and read by hand: they are one field
//! each, and have not changed since 2015.

use super::FRAME_HEADER_BYTES;
use crate::protobuf::{FieldLookup, FieldPath, FieldScan};
use bytes::{BufMut, Bytes, BytesMut};

/// The method that a probe calls.
pub const HEALTH_CHECK_PATH: &str = "/grpc.health.v1.Health/Check";

const SERVING: [u8; 8] = 1_u64.to_le_bytes();
/// The tag of field 1 with a length: `HealthCheckRequest.service`.
const SERVICE_TAG: u8 = 0x0a;

/// What a pod says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServingStatus {
    /// It takes requests.
    Serving,
    /// It says that it does not: `NOT_SERVING`, `UNKNOWN`, `SERVICE_UNKNOWN`, or a later word.
    NotServing,
    /// The answer is not a `HealthCheckResponse`.
    Malformed,
}

/// The framed `HealthCheckRequest` that asks for `service`; the empty name asks for the whole pod.
#[must_use]
pub fn health_check_request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(SERVICE_TAG);
        put_varint(&mut message, service.len());
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len().saturating_add(FRAME_HEADER_BYTES));
    frame.put_u8(0);
    // A name of 4 GiB cannot come from a configuration file; its length would be cut, not wrapped.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// Reads a `HealthCheckResponse` (without its frame).
#[must_use]
pub fn serving_status(message: &[u8]) -> ServingStatus {
    match FieldScan::new(&FieldPath::first_field()).advance(message, message.len()) {
        FieldLookup::Found(value) if value.as_bytes() == SERVING => ServingStatus::Serving,
        FieldLookup::Found(_) | FieldLookup::Missing => ServingStatus::NotServing,
        FieldLookup::NeedMore { .. } | FieldLookup::TooFar | FieldLookup::Malformed => {
            ServingStatus::Malformed
        }
    }
}

fn put_varint(message: &mut BytesMut, mut value: usize) {
    while value >= 0x80 {
        message.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    message.put_u8(u8::try_from(value).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::FrameReader;

    fn request_message(service: &str) -> Vec<u8> {
        let mut reader = FrameReader::new(usize::MAX);
        reader.push(&health_check_request(service));
        let frame = reader.next_frame().unwrap().unwrap();
        assert!(reader.is_empty() && !frame.compressed);
        frame.message.to_vec()
    }

    #[test]
    fn a_request_names_its_service_and_the_empty_name_is_not_written() {
        assert_eq!(request_message(""), b"");
        assert_eq!(request_message("a.B"), b"\x0a\x03a.B");
        let long = request_message(&"x".repeat(300));
        assert_eq!((&long[..3], long.len()), (&b"\x0a\xac\x02"[..], 303));
    }

    #[test]
    fn only_serving_is_serving() {
        assert_eq!(serving_status(&[8, 1]), ServingStatus::Serving);
        for message in [&[][..], &[8, 0], &[8, 2], &[8, 3], &[8, 9], &[8, 0x81, 1], &[16, 1]] {
            assert_eq!(serving_status(message), ServingStatus::NotServing, "{message:?}");
        }
        for message in [&[8][..], &[10, 5, 1], &[7]] {
            assert_eq!(serving_status(message), ServingStatus::Malformed, "{message:?}");
        }
    }
}
