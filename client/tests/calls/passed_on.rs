//! What goes along with a call.

use std::{convert::Infallible, future::ready, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderName, Response};
use http_body_util::Full;
use loadshed::{
    Criticality::{self, Critical, Sheddable, SheddablePlus},
    LoadShed,
};
use loadshed_client::{Backpressure, Deadline, NotSent};
use tokio::time::Instant;
use tonic::Code;
use tower::{Layer, Service, service_fn};

use super::{BUSY, Head, Server, call, grpc};
use crate::support::{Req, get};

#[tokio::test(start_paused = true)]
async fn each_try_says_what_is_left_of_the_deadline_then() {
    let deadline = || Deadline::after(Duration::from_millis(5_500));
    let server = Server::that_says([BUSY]);
    let mut request = get("/");
    request.extensions_mut().insert(deadline());
    call(&Backpressure::new(), &server, request).await;
    assert_eq!(
        server.told("x-envoy-expected-rq-timeout-ms"),
        ["5500", "4500"]
    );

    let server = Server::default();
    let mut request = get("/");
    request.extensions_mut().insert(deadline());
    let layer = Backpressure::new().deadline_header(HeaderName::from_static("x-left"));
    call(&layer, &server, request).await;
    assert_eq!(server.told("x-left"), ["5500"]);
    assert_eq!(server.told("x-envoy-expected-rq-timeout-ms"), ["none"]);

    let pushback: Head = (
        200,
        &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "1000")],
    );
    let server = Server::that_says([pushback]);
    let mut request = grpc();
    request.extensions_mut().insert(deadline());
    call(&Backpressure::new(), &server, request).await;
    assert_eq!(server.told("grpc-timeout"), ["5500000u", "4500000u"]);

    // As tonic's `set_timeout` writes it. The earlier of two is the one.
    for (given, told) in [
        ("2S", ["2000000u", "1000000u"]),
        ("7S", ["5500000u", "4500000u"]),
    ] {
        let server = Server::that_says([pushback]);
        let mut request = grpc();
        request
            .headers_mut()
            .insert("grpc-timeout", given.parse().unwrap());
        request.extensions_mut().insert(deadline());
        call(&Backpressure::new(), &server, request).await;
        assert_eq!(server.told("grpc-timeout"), told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_deadline_has_passed_is_not_sent() {
    let server = Server::default();
    let late = |mut request: Req| {
        request
            .extensions_mut()
            .insert(Deadline::at(Instant::now()));
        request
    };
    let answer = call(&Backpressure::new(), &server, late(get("/"))).await;
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.extensions().get(), Some(&NotSent::DeadlineExceeded));

    let answer = call(&Backpressure::new(), &server, late(grpc())).await;
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(server.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_class_is_passed_on_and_nothing_else_is_added() {
    for (class, name) in [
        (Criticality::Sheddable, "SHEDDABLE"),
        (Criticality::SheddablePlus, "SHEDDABLE_PLUS"),
        (Criticality::Critical, "CRITICAL"),
        (Criticality::CriticalPlus, "CRITICAL_PLUS"),
    ] {
        let server = Server::that_says([BUSY]);
        let mut request = get("/");
        request.extensions_mut().insert(class);
        call(&Backpressure::new(), &server, request).await;
        assert_eq!(server.told("x-criticality"), [name; 2]);
    }
    let server = Server::default();
    call(&Backpressure::new(), &server, get("/")).await;
    assert!(server.seen.lock().unwrap()[0].1.is_empty());
}

#[test]
fn settings_out_of_range_are_refused_with_what_is_allowed() {
    let new = Backpressure::new;
    let second = Duration::from_secs(1);
    for (checked, text) in [
        (
            new().try_retry_budget(0.0),
            "invalid retry budget 0: must be greater than 0 and at most 1",
        ),
        (
            new().try_retry_budget(f64::NAN),
            "invalid retry budget NaN: must be greater than 0 and at most 1",
        ),
        (
            new().try_retry_budget(1.01),
            "invalid retry budget 1.01: must be greater than 0 and at most 1",
        ),
        (
            new().try_throttle(0.9),
            "invalid throttle 0.9: must be at least 1",
        ),
        (
            new().try_throttle(f64::INFINITY),
            "invalid throttle inf: must be at least 1",
        ),
        (
            new().try_backoff(Duration::ZERO, second),
            "invalid backoff 0ns up to 1s: must be greater than 0, up to no less",
        ),
        (
            new().try_backoff(2 * second, second),
            "invalid backoff 2s up to 1s: must be greater than 0, up to no less",
        ),
    ] {
        assert_eq!(checked.unwrap_err().to_string(), text);
    }
    assert!(new().try_backoff(second, second).is_ok());
    assert!(new().try_throttle(1.0).is_ok());
    assert!(new().try_retry_budget(1.0).is_ok());
}

/// The class comes in by a header, is read by the handler, and goes out by a header to the next server.
#[test]
fn a_class_goes_along_to_the_next_server() {
    const HEADER: HeaderName = HeaderName::from_static("x-criticality");
    let server = || {
        LoadShed::ratio(0.5)
            .classify_by_header(HEADER, |_| Critical)
            .expose_class(true)
    };
    for (claimed, passed_on) in [
        ("SHEDDABLE_PLUS", SheddablePlus),
        ("CRITICAL_PLUS", Critical),
        ("", Sheddable),
    ] {
        let next = server().layer(service_fn(|request: Req| {
            let class = request.extensions().get::<Criticality>().copied();
            let mut response = Response::new(Full::<Bytes>::default());
            response.extensions_mut().insert(class);
            ready(Ok::<_, Infallible>(response))
        }));
        let calls = Backpressure::new().layer(next);
        let mut first = server().layer(service_fn(move |request: Req| {
            let mut call = get("/next");
            call.extensions_mut()
                .insert(*request.extensions().get::<Criticality>().unwrap());
            let mut calls = calls.clone();
            async move {
                Ok::<_, Infallible>(
                    calls
                        .call(call)
                        .await
                        .unwrap()
                        .map(|_| Full::<Bytes>::default()),
                )
            }
        }));
        let mut request = get("/");
        request
            .headers_mut()
            .insert(HEADER, claimed.parse().unwrap());
        let response = first.call(request).now_or_never().unwrap().unwrap();
        assert_eq!(
            response.extensions().get(),
            Some(&Some(passed_on)),
            "{claimed}"
        );
    }
}
