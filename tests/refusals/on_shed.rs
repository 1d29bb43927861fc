//! Promises 18 and 19: responses that `on_shed` writes, and the typed reason in the extensions of every refusal.

use std::{
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body::Body;
use loadshed::{Criticality, LoadShed, Reason, RetryAfter, Shed};
use tower::Layer;

use super::{full, grpc, header, http_responses::json, refusal, text};
use crate::support::{all, answer, get, holding, panic_on_purpose, quiet};

#[test]
fn p18_nothing_is_added_to_the_response_that_on_shed_writes() {
    let (shed, _held) = full();
    let seen = Arc::new(Mutex::new(None));
    let shed = {
        let seen = Arc::clone(&seen);
        shed.status(StatusCode::BAD_GATEWAY)
            .on_shed(move |shed: &Shed| {
                *seen.lock().unwrap() = Some(shed.clone());
                Response::builder()
                    .status(503)
                    .version(Version::HTTP_10)
                    .header("x-own", "1")
                    .extension("mine")
                    .body("come back later".into())
                    .unwrap()
            })
    };
    let response = refusal(&shed, get("/"));
    assert_eq!(
        (response.status().as_u16(), response.version()),
        (503, Version::HTTP_10)
    );
    assert_eq!(response.headers().len(), 1);
    assert_eq!(header(&response, "x-own"), "1");
    assert_eq!(response.extensions().get(), Some(&"mine"));
    assert_eq!(response.extensions().get(), seen.lock().unwrap().as_ref());
    assert_eq!(text(response), "come back later");

    let empty = shed.on_shed(|_| Response::new(Bytes::new()));
    let mut response = refusal(&empty, get("/"));
    assert!(response.body().is_end_stream());
    assert!(matches!(
        crate::support::next_frame(&mut response),
        Poll::Ready(None)
    ));
}

#[test]
fn p19_every_refusal_carries_the_reason_and_no_other_response_does() {
    let (shed, _held) = full();
    let shed = shed.retry_after(RetryAfter::fixed(Duration::from_millis(2_500)));
    let written = shed.clone().on_shed(|_| Response::new(Bytes::new()));
    let dry_run = shed.clone().dry_run(true);
    let outer = LoadShed::observe().budget(shed.handle().budget());
    let expect = |response: &http::response::Parts| {
        let shed = response.extensions.get::<Shed>().expect("a reason");
        assert_eq!(shed.reason(), Reason::Utilization);
        assert_eq!(shed.criticality(), Criticality::Sheddable);
        assert_eq!(shed.retry_after(), Duration::from_millis(2_500));
    };
    for shed in [&shed, &written] {
        expect(&refusal(shed, get("/")).into_parts().0);
        expect(&refusal(shed, grpc("application/grpc")).into_parts().0);
        expect(
            &answer(&mut outer.layer(shed.layer(holding())), get("/"))
                .into_parts()
                .0,
        );
    }
    let served = refusal(&dry_run, get("/"));
    assert!(
        served.extensions().get::<Shed>().is_none(),
        "a dry run refuses nothing"
    );
}

#[test]
fn p19_the_layers_reason_replaces_another_one_that_on_shed_has_inserted() {
    let (shed, _held) = full();
    let (elsewhere, _held_there) = full();
    let other = elsewhere.handle().budget().try_acquire(all()).unwrap_err();
    let shed = shed
        .retry_after(RetryAfter::fixed(Duration::from_secs(77)))
        .on_shed(move |_| {
            let mut response = Response::new(Bytes::new());
            response.extensions_mut().insert(other.clone());
            response
        });
    let response = refusal(&shed, get("/"));
    assert_eq!(
        response
            .extensions()
            .get::<Shed>()
            .unwrap()
            .retry_after()
            .as_secs(),
        77
    );
}

#[test]
fn p19_when_on_shed_panics_the_layers_own_response_is_sent_with_the_reason() {
    quiet();
    let (shed, _held) = full();
    let shed = shed
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .on_shed(|_| panic_on_purpose());
    let by_head = shed.clone().on_shed_with(|_, _| panic_on_purpose());
    for shed in [&shed, &by_head] {
        let response = refusal(shed, get("/"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.extensions().get::<Shed>().is_some());
        assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
        json(&text(response), StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(shed.handle().budget().in_flight(), 1);
}

#[test]
fn p18_a_response_can_depend_on_the_request_or_be_left_to_the_layer() {
    let (shed, _held) = full();
    let shed = shed.on_shed_with(|head, shed| {
        assert_eq!(head.headers()["x-one"], "1");
        let cached = Response::builder()
            .header("age", shed.retry_after().as_secs())
            .extension(*head.extensions().get::<&str>()?);
        let body = format!("{} {}", head.method(), head.uri().path());
        Some(cached.body(body.into()).unwrap())
    });
    let request = |extension: Option<&'static str>| {
        let mut request = get("/kept?of=1");
        request.headers_mut().insert("x-one", "1".parse().unwrap());
        extension.map(|extension| request.extensions_mut().insert(extension));
        request
    };
    let response = refusal(&shed, request(Some("from the request")));
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.extensions().get(), Some(&"from the request"));
    assert!(response.extensions().get::<Shed>().is_some());
    assert_eq!(text(response), "GET /kept");

    let response = refusal(&shed, request(None));
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
    // The budget counts a cached response in place of a refusal as a refusal.
    assert_eq!(shed.handle().budget().snapshot().refused, 2);
}

#[test]
fn p18_of_on_shed_and_on_shed_with_the_setter_called_last_applies() {
    let (shed, _held) = full();
    let status = |shed: &LoadShed| refusal(shed, get("/")).status();
    let one = shed.on_shed(|_| with_status(503));
    let other = one.clone().on_shed_with(|_, _| Some(with_status(420)));
    assert_eq!(status(&one), 503);
    assert_eq!(status(&other), 420);
    assert_eq!(status(&other.clone().on_shed(|_| with_status(503))), 503);
    assert_eq!(status(&other.on_shed_with(|_, _| None)), 429);
}

fn with_status(status: u16) -> Response<Bytes> {
    let response = Response::builder().status(status);
    response.body(Bytes::new()).unwrap()
}
