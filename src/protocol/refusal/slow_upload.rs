//! The response to an upload that was ended because it arrived too slowly: 408, or CANCELLED to a gRPC caller.
//!
//! It is no refusal: the request was admitted, and there is no retry hint. The two statuses are one
//! [outcome](crate::protocol::outcome): cancelled. DEADLINE_EXCEEDED would say that the server was slow, to the caller and to
//! an outer layer that learns its limit.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE},
};

use super::grpc_response::MESSAGE;
use crate::protocol::grpc::{GRPC_STATUS, grpc_content_type};

const CANCELLED: HeaderValue = HeaderValue::from_static("1");
const TOO_SLOW: HeaderValue = HeaderValue::from_static("the upload arrived too slowly");
const PROBLEM: &[u8] = br#"{"title":"The upload arrived too slowly.","status":408}"#;

/// What the response to a slow upload depends on.
#[derive(Clone, Debug)]
pub(crate) struct SlowUploadResponse {
    /// The content type of a gRPC call. gRPC-Web clients expect their own.
    grpc: Option<HeaderValue>,
    version: Version,
}

impl SlowUploadResponse {
    pub(crate) fn to<B>(request: &Request<B>) -> Self {
        Self {
            grpc: grpc_content_type(request.headers()).cloned(),
            version: request.version(),
        }
    }

    /// Builds the response.
    pub(crate) fn build(&self) -> Response<Bytes> {
        let (mut response, content_type) = match &self.grpc {
            Some(content_type) => (Self::cancelled(), content_type.clone()),
            None => (
                Self::request_timeout(),
                HeaderValue::from_static("application/problem+json"),
            ),
        };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.version < Version::HTTP_2 {
            // The rest of the upload would have to be read first (RFC 9110, 15.5.9). HTTP/2 resets the stream alone.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn request_timeout() -> Response<Bytes> {
        let mut response = Response::new(Bytes::from_static(PROBLEM));
        *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
        response
    }

    /// Trailers-Only, as a refusal is.
    fn cancelled() -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let trailers = [(GRPC_STATUS, CANCELLED), (MESSAGE, TOO_SLOW)];
        *response.headers_mut() = HeaderMap::from_iter(trailers);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(version: Version, content_type: &'static str) -> Response<Bytes> {
        let request = Request::builder()
            .version(version)
            .header(CONTENT_TYPE, content_type);
        SlowUploadResponse::to(&request.body(()).unwrap()).build()
    }

    #[test]
    fn an_http_1_connection_is_closed_and_an_http_2_connection_is_not() {
        for (version, connection) in [
            (Version::HTTP_10, Some("close")),
            (Version::HTTP_11, Some("close")),
            (Version::HTTP_2, None),
        ] {
            for content_type in ["text/plain", "application/grpc-web"] {
                let response = response(version, content_type);
                let found = response.headers().get(CONNECTION);
                assert_eq!(found.map(|it| it.to_str().unwrap()), connection);
                assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            }
        }
    }

    #[test]
    fn a_grpc_caller_gets_its_status_in_the_headers_and_another_caller_a_problem_document() {
        let grpc = response(Version::HTTP_2, "application/grpc+proto");
        assert_eq!(grpc.status(), StatusCode::OK);
        assert_eq!(grpc.headers()[GRPC_STATUS], "1");
        assert_eq!(grpc.headers()[CONTENT_TYPE], "application/grpc+proto");
        assert!(grpc.body().is_empty());

        let http = response(Version::HTTP_2, "text/plain");
        assert_eq!(http.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(http.headers()[CONTENT_TYPE], "application/problem+json");
        let problem: serde_json::Value = serde_json::from_slice(http.body()).unwrap();
        assert_eq!(problem["status"], 408);
    }
}
