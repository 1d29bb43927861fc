//! The answer to an HTTP caller: a status, `Retry-After`, and a problem document (RFC 9457).

use std::sync::LazyLock;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    response::Parts,
};

use super::digits::number;
use crate::shed::Shed;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What all of them have. To clone it and write over what differs takes neither a hash nor a table that grows, for most.
static PATTERN: LazyLock<Parts> = LazyLock::new(|| {
    let (mut head, ()) = Response::new(()).into_parts();
    let headers = &mut head.headers;
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    // RFC 6585, 4: a 429 must not be stored. A cache may store others.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, problem);
    head
});

/// Before the first one is refused: whoever is next would wait for who is writing it.
pub(crate) fn prepare() {
    LazyLock::force(&PATTERN);
}

pub(crate) fn head(status: StatusCode, shed: &Shed) -> Parts {
    let mut head = PATTERN.clone();
    head.status = status;
    let hint = shed.hint();
    match hint.seconds() {
        // RFC 9110, 10.2.3: whole seconds. Clients fail on fractions, and take 0 for "at once".
        Some(seconds) => {
            let mut headers = head.headers.iter_mut();
            // The first. To look it up is to hash it.
            if let Some((_, value)) = headers.find(|(name, _)| **name == RETRY_AFTER) {
                *value = number(seconds);
            }
        }
        None => {
            head.headers.remove(RETRY_AFTER);
        }
    }
    if let Some(milliseconds) = hint.milliseconds_beside() {
        head.headers.insert(RETRY_AFTER_MS, number(milliseconds));
    }
    head.extensions.insert(shed.clone());
    head
}

/// The document for `status`. It tells what to do, and nothing about limits or counts: those would tell an attacker
/// how much is missing.
///
/// The types are the ones that IANA has registered for these statuses (HTTP Problem Types).
pub(crate) fn problem(status: StatusCode) -> Bytes {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Bytes::from_static(
            br#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"The server is busy. Retry later.","status":429}"#,
        ),
        StatusCode::SERVICE_UNAVAILABLE => Bytes::from_static(
            br#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","title":"The server is busy. Retry later.","status":503}"#,
        ),
        other => {
            let nth = usize::from(other.as_u16()).wrapping_sub(400);
            Bytes::from_static(OTHERS.chunks(OTHER.len()).nth(nth).unwrap_or_default())
        }
    }
}

const OTHER: &[u8] = br#"{"title":"The server is busy. Retry later.","status":000}"#;

/// The same for each status from 400 to 599: none is put together for a refusal, and none is carried to its answer.
static OTHERS: [u8; 200 * OTHER.len()] = {
    let mut all = [0; 200 * OTHER.len()];
    let mut at = 0;
    while at < all.len() {
        let (status, left) = (400 + at / OTHER.len(), OTHER.len() - at % OTHER.len());
        all[at] = match left {
            4 => b'0' + (status / 100) as u8,
            3 => b'0' + (status / 10 % 10) as u8,
            2 => b'0' + (status % 10) as u8,
            _ => OTHER[at % OTHER.len()],
        };
        at += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_that_can_be_set_has_its_document() {
        for status in 400..600 {
            let ending = format!("\"status\":{status}}}");
            let document = problem(StatusCode::from_u16(status).unwrap());
            assert!(document.starts_with(b"{\"t"), "{document:?}");
            assert!(document.ends_with(ending.as_bytes()), "{document:?}");
        }
    }
}
