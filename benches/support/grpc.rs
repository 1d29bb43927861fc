//! One gRPC request, without a network or a runtime.

use http::{HeaderValue, Method, Request, Version, header::CONTENT_TYPE};
use tower::Service;

use crate::request::{Body, Served, serve_one};

/// Calls the service once; returns whether the request was served, not refused.
#[inline(never)]
pub(crate) fn serve_grpc<S>(service: &mut S) -> bool
where
    S: Service<Request<Body>, Response: Served>,
{
    let mut request = Request::new(Body::new());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(CONTENT_TYPE, grpc);
    serve_one(service, request)
}
