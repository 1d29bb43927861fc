//! The response to a gRPC caller: RESOURCE_EXHAUSTED, or UNAVAILABLE while the budget drains, as Trailers-Only.
//!
//! No client retries a call whose headers came before its trailers. So the status is in the one block of headers, before an
//! empty body (gRPC over HTTP/2, "Responses"). A plain 429 would reach the caller as UNAVAILABLE, without the hint.
//!
//! gRPC-Web has its trailers in the body, but accepts Trailers-Only: in the headers, without a body (PROTOCOL-WEB, "Message
//! framing"). An empty body is also the base64 of an empty body, so `application/grpc-web-text` needs nothing else.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
    response::Parts,
};

use super::{digits::number, pattern, retry_info::Details};
use crate::{
    protocol::grpc::GRPC_STATUS,
    shed::{Reason, Shed},
};

pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
// Statics: a constant would be made and dropped for each refusal.
/// Milliseconds, an integer (gRFC A6). A client that receives 0 may stall.
static PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The hint as `google.rpc.RetryInfo`, which some clients read instead.
static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The response with one status of gRPC. The content type and the hint are overwritten for each refusal.
struct Status {
    pattern: Parts,
    details: Details,
}

static RESOURCE_EXHAUSTED: LazyLock<Status> =
    LazyLock::new(|| Status::new(8, "the server is busy, retry later"));

/// gRPC clients retry it on another connection (gRPC status codes).
static UNAVAILABLE: LazyLock<Status> =
    LazyLock::new(|| Status::new(14, "the server is shutting down"));

/// Creates the patterns: see [`pattern`].
pub(super) fn prepare() {
    LazyLock::force(&RESOURCE_EXHAUSTED);
    LazyLock::force(&UNAVAILABLE);
}

/// Returns the response. `content_type` is the request's own: gRPC-Web clients expect their own.
pub(super) fn response(content_type: HeaderValue, shed: &Shed) -> Response<Bytes> {
    let status = match shed.reason() {
        Reason::Draining => &UNAVAILABLE,
        Reason::Utilization | Reason::Share => &RESOURCE_EXHAUSTED,
    };
    let mut head = status.pattern.clone();
    let headers = &mut head.headers;
    match shed.hint().milliseconds() {
        Some(milliseconds) => {
            let details = status.details.with_delay(milliseconds);
            let pushback = number(milliseconds);
            let own = [
                (&CONTENT_TYPE, content_type),
                (&PUSHBACK, pushback),
                (&DETAILS, details),
            ];
            pattern::overwrite(headers, own);
        }
        None => {
            headers.remove(&PUSHBACK);
            headers.remove(&DETAILS);
            pattern::overwrite(headers, [(&CONTENT_TYPE, content_type)]);
        }
    }
    Response::from_parts(head, Bytes::new())
}

impl Status {
    fn new(code: u8, message: &'static str) -> Self {
        let details = Details::new(code, message);
        let pattern = pattern::head([
            (CONTENT_TYPE, pattern::BLANK),
            (GRPC_STATUS, number(code.into())),
            (PUSHBACK.clone(), pattern::BLANK),
            (DETAILS.clone(), pattern::BLANK),
            (MESSAGE, HeaderValue::from_static(message)),
            // The status is 200, which a cache may store where the call is not a POST.
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ]);
        Self { pattern, details }
    }
}
