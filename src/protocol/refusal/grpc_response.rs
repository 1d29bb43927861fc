//! The response to a gRPC caller: RESOURCE_EXHAUSTED, or UNAVAILABLE while the budget drains, as Trailers-Only.
//!
//! No client retries a call whose headers came before its trailers. So the status is in the one block of headers, before an
//! empty body (gRPC over HTTP/2, "Responses"). A plain 429 would reach the caller as UNAVAILABLE, without the hint.
//!
//! gRPC-Web has its trailers in the body, but accepts Trailers-Only: in the headers, without a body (PROTOCOL-WEB, "Message
//! framing"). An empty body is also the base64 of an empty body, so `application/grpc-web-text` needs nothing else.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

use super::{digits::number, retry_info};
use crate::{
    protocol::grpc::GRPC_STATUS,
    shed::{Reason, Shed},
};

pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Milliseconds, an integer (gRFC A6). A client that receives 0 may stall.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The hint as `google.rpc.RetryInfo`, which some clients read instead.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// A status of gRPC, and its text.
struct Status {
    code: u8,
    message: &'static str,
}

const RESOURCE_EXHAUSTED: Status = Status {
    code: 8,
    message: "the server is busy, retry later",
};

/// gRPC clients retry it on another connection (gRPC status codes).
const UNAVAILABLE: Status = Status {
    code: 14,
    message: "the server is shutting down",
};

/// Returns the response. `content_type` is the request's own: gRPC-Web clients expect their own.
pub(super) fn response(content_type: HeaderValue, shed: &Shed) -> Response<Bytes> {
    let Status { code, message } = match shed.reason() {
        Reason::Draining => UNAVAILABLE,
        Reason::Utilization | Reason::Share => RESOURCE_EXHAUSTED,
    };
    let message = HeaderValue::from_static(message);
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = HeaderMap::with_capacity(6);
    let headers = response.headers_mut();
    // The status is 200, which a cache may store where the call is not a POST.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(GRPC_STATUS, number(code.into()));
    if let Some(milliseconds) = shed.hint().milliseconds() {
        headers.insert(PUSHBACK, number(milliseconds));
        headers.insert(DETAILS, retry_info::details(code, &message, milliseconds));
    }
    headers.insert(MESSAGE, message);
    response
}
