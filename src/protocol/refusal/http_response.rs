//! The response to an HTTP caller: a status, `Retry-After`, and a problem document (RFC 9457).

use std::sync::LazyLock;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    response::Parts,
};

use super::{digits::number, pattern};
use crate::shed::Shed;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

static PATTERN: LazyLock<Parts> = LazyLock::new(|| {
    let problem = HeaderValue::from_static("application/problem+json");
    pattern::head([
        (RETRY_AFTER, pattern::BLANK),
        // A cache must not store a 429 (RFC 6585, 4), but may store other statuses.
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_TYPE, problem),
    ])
});

/// Creates the pattern: see [`pattern`].
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
        Some(seconds) => pattern::overwrite(&mut head.headers, [(&RETRY_AFTER, number(seconds))]),
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
pub(crate) fn problem(status: StatusCode) -> Bytes {
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
