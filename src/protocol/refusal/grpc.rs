//! The answer to a gRPC caller: RESOURCE_EXHAUSTED, as Trailers-Only.
//!
//! No client retries a call whose headers came before its trailers, so all is in one block of headers, with an empty
//! body behind it (gRPC over HTTP/2, "Responses"). A plain 429 would reach the caller as UNAVAILABLE, without its hint.
//!
//! gRPC-Web has its trailers in the body, but takes Trailers-Only as it is: in the headers, with no body, which is also what
//! an empty text is in base64 (PROTOCOL-WEB, "Message framing"). So `application/grpc-web-text` needs nothing else.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

use super::{digits::number, retry_info};
use crate::{protocol::grpc::GRPC_STATUS, shed::Shed};

const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// gRFC A6: milliseconds, an integer. A client that is told 0 may stall.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The same again, for those who look there.
const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

const RESOURCE_EXHAUSTED: HeaderValue = HeaderValue::from_static("8");
const BUSY: HeaderValue = HeaderValue::from_static("the server is busy, retry later");

/// `content_type` is the request's own: gRPC-Web clients expect theirs.
pub(crate) fn response(content_type: HeaderValue, shed: &Shed) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = HeaderMap::with_capacity(6);
    let headers = response.headers_mut();
    // It is a 200, which a cache may store for a page where the call is not a POST.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(GRPC_STATUS, RESOURCE_EXHAUSTED);
    headers.insert(MESSAGE, BUSY);
    if let Some(milliseconds) = shed.hint().milliseconds() {
        headers.insert(PUSHBACK, number(milliseconds));
        headers.insert(DETAILS, retry_info::details(&BUSY, milliseconds));
    }
    response
}
