//! Promise 18 in a browser: CORS decides which headers of a refusal a page can read.

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
        HeaderName, ORIGIN, RETRY_AFTER,
    },
};
use http_body_util::Full;
use tower::{Layer, service_fn};
use tower_http::cors::{Any, CorsLayer};

use super::full;
use crate::support::{Req, answer, get, is_refused};

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .expose_headers([RETRY_AFTER])
}

async fn page(_: Req) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    Ok(Response::new(Full::default()))
}

fn from_a_page(method: Method) -> Req {
    let mut request = get("/");
    *request.method_mut() = method;
    let headers = request.headers_mut();
    headers.insert(ORIGIN, HeaderValue::from_static("https://example.org"));
    headers.insert(
        ACCESS_CONTROL_REQUEST_METHOD,
        HeaderValue::from_static("GET"),
    );
    request
}

fn header<B>(response: &Response<B>, name: HeaderName) -> Option<&HeaderValue> {
    response.headers().get(name)
}

#[test]
fn p18_a_page_sees_the_429_and_its_retry_hint_if_the_cors_layer_is_outside() {
    let (shed, _held) = full();
    let mut service = cors().layer(shed.layer(service_fn(page)));
    let response = answer(&mut service, from_a_page(Method::GET));
    assert!(is_refused(&response));
    assert!(header(&response, RETRY_AFTER).is_some());
    assert_eq!(header(&response, ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "*");
    let exposed = header(&response, ACCESS_CONTROL_EXPOSE_HEADERS);
    assert_eq!(exposed.unwrap(), "retry-after");

    // A full server still responds to a preflight request, and does not count it.
    let before = shed.handle().budget().snapshot();
    let preflight = answer(&mut service, from_a_page(Method::OPTIONS));
    assert_eq!(preflight.status(), StatusCode::OK);
    assert_eq!(shed.handle().budget().snapshot(), before);
}

#[test]
fn p18_a_page_sees_a_network_error_if_the_cors_layer_is_inside() {
    let (shed, _held) = full();
    let mut service = shed.layer(cors().layer(service_fn(page)));
    for method in [Method::GET, Method::OPTIONS] {
        let response = answer(&mut service, from_a_page(method));
        assert!(is_refused(&response));
        assert_eq!(header(&response, ACCESS_CONTROL_ALLOW_ORIGIN), None);
    }
}
