//! The answer to an HTTP caller: a status, `Retry-After`, and a problem document (RFC 9457).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};

use super::number;
use crate::shed::Shed;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

pub(super) fn response(status: StatusCode, problem: Bytes, shed: &Shed) -> Response<Bytes> {
    let mut response = Response::new(problem);
    *response.status_mut() = status;
    *response.headers_mut() = HeaderMap::with_capacity(4);
    let headers = response.headers_mut();
    let hint = shed.hint();
    if let Some(seconds) = hint.seconds() {
        // RFC 9110, 10.2.3: whole seconds. Clients fail on fractions, and take 0 for "at once".
        headers.insert(RETRY_AFTER, number(seconds));
    }
    if let Some(milliseconds) = hint.milliseconds_beside() {
        headers.insert(RETRY_AFTER_MS, number(milliseconds));
    }
    // RFC 6585, 4: a 429 must not be stored. A cache may store others.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    response
}

/// The document for `status`. It tells what to do, and nothing about limits or counts: those would tell an attacker
/// how much is missing.
///
/// The types are the ones that IANA has registered for these statuses (HTTP Problem Types).
pub(super) fn problem(status: StatusCode) -> Bytes {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Bytes::from_static(
            br#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"The server is busy. Retry later.","status":429}"#,
        ),
        StatusCode::SERVICE_UNAVAILABLE => Bytes::from_static(
            br#"{"type":"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity","title":"The server is busy. Retry later.","status":503}"#,
        ),
        other => Bytes::from(format!(
            r#"{{"title":"The server is busy. Retry later.","status":{}}}"#,
            other.as_u16()
        )),
    }
}
