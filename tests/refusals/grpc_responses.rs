//! Promise 18: the refusal of a gRPC call.

use std::{task::Poll, time::Duration};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body::Body;
use loadshed::Shed;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::{full, grpc, header, refusal};

#[test]
fn p18_a_refused_grpc_call_is_trailers_only_with_resource_exhausted() {
    let (shed, _held) = full();
    // These settings do not apply: a gRPC client would not understand such a response.
    let customised = shed
        .clone()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .on_shed(|_| Response::new(Bytes::from_static(b"not for a gRPC client")));
    for shed in [shed, customised] {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "application/grpc;charset=utf-8",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpc-web-text+proto",
            "application/GRPC",
        ] {
            let mut response = refusal(&shed, grpc(content_type));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, "content-type"), content_type);
            assert_eq!(header(&response, "grpc-status"), "8");
            let message = header(&response, "grpc-message");
            assert!(
                !message.is_empty()
                    && message
                        .bytes()
                        .all(|c| (0x20..=0x7e).contains(&c) && c != b'%')
            );
            let pushback = header(&response, "grpc-retry-pushback-ms");
            assert!(
                pushback.parse::<u32>().unwrap() > 0 && !pushback.starts_with(['0', '+']),
                "{pushback}"
            );
            let retry_info = ErrorDetails::with_retry_info(Some(Duration::from_millis(
                pushback.parse().unwrap(),
            )));
            let status = Status::with_error_details(Code::ResourceExhausted, message, retry_info);
            let expected = status.into_http::<()>();
            let details = "grpc-status-details-bin";
            assert_eq!(response.headers()[details], expected.headers()[details]);
            assert_eq!(response.headers().len(), 6);
            assert!(response.extensions().get::<Shed>().is_some());
            assert!(!response.headers().contains_key(http::header::RETRY_AFTER));
            // The headers carry END_STREAM only if the body reports its end at once.
            assert!(response.body().is_end_stream());
            assert_eq!(response.body().size_hint().exact(), Some(0));
            assert!(matches!(
                crate::support::next_frame(&mut response),
                Poll::Ready(None)
            ));
        }
    }
}

#[test]
fn p18_a_content_type_that_only_resembles_grpc_gets_the_http_refusal() {
    let (shed, _held) = full();
    for content_type in [
        "application/json",
        "application/grpcish",
        "text/application/grpc",
        "",
        "application/gr",
    ] {
        let response = refusal(&shed, grpc(content_type));
        assert_eq!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS,
            "{content_type}"
        );
        assert!(!response.headers().contains_key("grpc-status"));
    }
}

#[test]
fn p18_a_grpc_refusal_of_status_200_is_not_cached() {
    let (shed, _held) = full();
    // A plain fetch with this content type would otherwise leave an empty 200 in every cache on the way.
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let mut request = grpc("application/grpc");
        *request.method_mut() = method.clone();
        let response = refusal(&shed, request);
        assert_eq!(response.status(), StatusCode::OK, "{method}");
        assert_eq!(header(&response, "cache-control"), "no-store", "{method}");
    }
}
