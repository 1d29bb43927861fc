use std::{error::Error, fmt};

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use super::{
    body::ResponseBody,
    grpc::{GRPC_STATUS, grpc_content_type},
};

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Why a call was answered here, and never sent. It is in the extensions of that answer.
///
/// | | HTTP | gRPC |
/// |---|---|---|
/// | throttled | 429 | RESOURCE_EXHAUSTED |
/// | deadline exceeded | 504 | DEADLINE_EXCEEDED |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotSent {
    /// The server refuses so much that this one was better not sent.
    Throttled,
    /// Its [`Deadline`](super::Deadline) had passed.
    DeadlineExceeded,
}

impl NotSent {
    /// The answer to a request with these headers.
    pub(super) fn answer<B>(self, request: &HeaderMap) -> Response<ResponseBody<B>> {
        let mut response = Response::new(ResponseBody::default());
        if let Some(content_type) = grpc_content_type(request) {
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, content_type.clone());
            headers.insert(GRPC_STATUS, HeaderValue::from_static(self.code()));
            headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.text()));
        } else {
            *response.status_mut() = self.status();
        }
        response.extensions_mut().insert(self);
        response
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Throttled => "8",
            Self::DeadlineExceeded => "4",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Throttled => "not sent: the server refuses too many calls",
            Self::DeadlineExceeded => "not sent: the deadline has passed",
        }
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Error for NotSent {}
