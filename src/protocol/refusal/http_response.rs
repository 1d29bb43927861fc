//! The response to an HTTP caller: a status, `Retry-After`, and a problem document (RFC 9457).

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

/// The head that all refusals share. Most refusals clone it and overwrite the hint, which needs neither a hash nor a table that
/// grows.
static PATTERN: LazyLock<Parts> = LazyLock::new(|| {
    let (mut head, ()) = Response::new(()).into_parts();
    let headers = &mut head.headers;
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    // A cache must not store a 429 (RFC 6585, 4), but may store other statuses.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let problem = HeaderValue::from_static("application/problem+json");
    headers.insert(CONTENT_TYPE, problem);
    head
});

/// Creates the shared head before the first refusal: otherwise concurrent refusals would wait while one of them creates it.
pub(super) fn prepare() {
    LazyLock::force(&PATTERN);
}

/// Returns the head of a refusal.
pub(super) fn head(status: StatusCode, shed: &Shed) -> Parts {
    let mut head = PATTERN.clone();
    head.status = status;
    let hint = shed.hint();
    match hint.seconds() {
        // Whole seconds (RFC 9110, 10.2.3). Clients fail on fractions, and retry at once after 0.
        Some(seconds) => {
            let mut headers = head.headers.iter_mut();
            // It is the first header. A lookup would hash the name.
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

/// Returns the document for `status`. It says what to do, and no limits or counts, which would tell an attacker how much load
/// is missing.
///
/// The types are registered with IANA for these two statuses (HTTP Problem Types). The other documents have no type, and leave
/// out the member `status`, which is optional (RFC 9457, 3.1.2): so one text serves for all.
pub(super) fn problem(status: StatusCode) -> Bytes {
    Bytes::from_static(match status {
        StatusCode::TOO_MANY_REQUESTS => {
            br#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"The server is busy. Retry later.","status":429}"#
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            br#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","title":"The server is busy. Retry later.","status":503}"#
        }
        _ => br#"{"title":"The server is busy. Retry later."}"#,
    })
}
