//! `grpc-status-details-bin`: the status as a `google.rpc.Status` that contains a `google.rpc.RetryInfo`.
//!
//! OpenTelemetry's exporters retry a call that ended with RESOURCE_EXHAUSTED only if the status contains a `RetryInfo` (OTLP,
//! "Failures"). The message is encoded by hand: it has a hundred bytes, and the crate needs no other protobuf.
//!
//! ```text
//! Status { 1: code, 2: message, 3: details: Any }
//! Any { 1: type_url, 2: value: RetryInfo { 1: retry_delay: Duration { 1: seconds, 2: nanos } } }
//! ```

use http::HeaderValue;

const TYPE: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";

/// The details of a status, with a delay that is overwritten for each refusal.
pub(super) struct Details {
    /// The status with an empty delay, which is at the end. So the delay is appended, and the lengths before it grow.
    status: Message<MOST>,
    /// The same as text.
    text: Text,
}

/// More bytes than the longest status, which has 33 of the message and 70 of the rest. A multiple of 3, for base64.
const MOST: usize = 126;

/// Base64 without padding, as gRPC requires in a header whose name ends in `-bin`.
type Text = [[u8; 4]; MOST / 3];

/// The positions of the lengths that include the delay, from the end of a status with an empty delay: of the `Any`, of the
/// `RetryInfo` and of the delay.
const LENGTHS: [usize; 3] = [5 + 2 + TYPE.len(), 3, 1];

impl Details {
    /// The `message` must equal `grpc-message`: Python's `rpc_status.from_call` raises if they differ.
    pub(super) fn new(code: u8, message: &str) -> Self {
        let retry_info = Message::<2>::new().field(1, &[]);
        let any = Message::<46>::new()
            .field(1, TYPE)
            .field(2, retry_info.bytes());
        let status = Message::<MOST>::new()
            .number(1, code.into())
            .field(2, message.as_bytes())
            .field(3, any.bytes());
        let mut text = [[0; 4]; MOST / 3];
        encode(&status, &mut text, 0);
        Self { status, text }
    }

    /// Returns the header value of the details with this delay.
    pub(super) fn with_delay(&self, milliseconds: u64) -> HeaderValue {
        let delay = Message::<20>::new()
            .number(1, milliseconds / 1_000)
            .number(2, milliseconds % 1_000 * 1_000_000);
        let end = self.status.len;
        let mut status = self.status.clone();
        for from_end in LENGTHS {
            status.bytes[end - from_end] += delay.len as u8;
        }
        status.push(delay.bytes());

        let mut text = self.text;
        let first = (end - LENGTHS[0]) / 3;
        text[first] = digits(&status.bytes[first * 3..]);
        encode(&status, &mut text, (end - LENGTHS[1]) / 3);
        // Three bytes are four digits.
        let digits = (status.len * 4).div_ceil(3);
        HeaderValue::from_bytes(&text.as_flattened()[..digits]).expect("base64 is of visible ASCII")
    }
}

/// A message in protobuf's wire format, of at most `N` bytes: so few that each length in it takes one byte.
#[derive(Clone)]
struct Message<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Message<N> {
    fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends a number in groups of seven bits, the lowest first. A zero is left out.
    fn number(mut self, field: u8, mut value: u64) -> Self {
        if value > 0 {
            self.push(&[field << 3]);
            while value >= 0x80 {
                self.push(&[value as u8 | 0x80]);
                value >>= 7;
            }
            self.push(&[value as u8]);
        }
        self
    }

    /// Appends a text or a message.
    fn field(mut self, field: u8, value: &[u8]) -> Self {
        self.push(&[field << 3 | 2, value.len() as u8]);
        self.push(value);
        self
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }
}

/// Encodes the message from this group of three bytes on.
fn encode(message: &Message<MOST>, text: &mut Text, from: usize) {
    let groups = from..message.len.div_ceil(3);
    let threes = message.bytes[from * 3..].chunks_exact(3);
    for (four, three) in text[groups].iter_mut().zip(threes) {
        *four = digits(three);
    }
}

/// Returns the base64 digits of the first three bytes.
fn digits(bytes: &[u8]) -> [u8; 4] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    [18, 12, 6, 0].map(|shift| DIGITS[(bits >> shift) as usize & 63])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    const MESSAGE: &str = "the server is busy, retry later";

    fn ours(code: tonic::Code, message: &'static str, milliseconds: u64) -> HeaderValue {
        Details::new(code as u8, message).with_delay(milliseconds)
    }

    #[test]
    fn the_details_are_byte_for_byte_those_of_tonic_and_prost() {
        let longest = u64::from(u32::MAX) * 1_000;
        for milliseconds in [1, 127, 128, 999, 1_000, 1_001, 61_500, longest - 1, longest] {
            let retry_info =
                ErrorDetails::with_retry_info(Some(Duration::from_millis(milliseconds)));
            // Each length, as the digits before the delay depend on it.
            for length in 1..=MESSAGE.len() {
                let (code, message) = (tonic::Code::ResourceExhausted, &MESSAGE[..length]);
                let status = tonic::Status::with_error_details(code, message, retry_info.clone());
                let theirs = status.into_http::<()>();
                let theirs = &theirs.headers()["grpc-status-details-bin"];
                assert_eq!(
                    ours(code, message, milliseconds),
                    theirs,
                    "{milliseconds}, {length}"
                );
            }
        }
    }

    #[test]
    fn the_longest_delay_fits() {
        assert!(!ours(tonic::Code::Unavailable, MESSAGE, u64::MAX).is_empty());
    }
}
