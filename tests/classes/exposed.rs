//! The class as the handler reads it, and what it costs to tell.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body_util::Full;
use loadshed::{
    Budget,
    Criticality::{self, Critical, Sheddable, SheddablePlus},
    LoadShed, Threshold,
};
use tower::{Layer, Service, service_fn};

use crate::{
    allocations::allocations,
    by_class,
    headers::HEADER,
    of,
    support::{Req, get},
};

/// What a handler finds in the extensions.
fn exposed(shed: LoadShed, request: Req) -> Option<Criticality> {
    let inner = service_fn(|request: Req| {
        let mut response = Response::new(Full::<Bytes>::default());
        if let Some(class) = request.extensions().get::<Criticality>() {
            response.extensions_mut().insert(*class);
        }
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let response = shed
        .layer(inner)
        .call(request)
        .now_or_never()
        .unwrap()
        .unwrap();
    response.extensions().get().copied()
}

#[test]
fn a_handler_reads_the_class_where_it_is_asked_for() {
    let shed = || {
        by_class(LoadShed::ratio(0.5))
            .exempt(["/SHEDDABLE"])
            .except(["/CRITICAL"])
    };
    assert_eq!(exposed(shed(), of(Critical)), None);
    let exposing = || shed().expose_class(true);
    assert_eq!(exposed(exposing(), of(SheddablePlus)), Some(SheddablePlus));
    assert_eq!(exposed(exposing(), of(Critical)), Some(Critical));
    assert_eq!(exposed(exposing(), of(Sheddable)), None, "exempt");
    let unclassified = LoadShed::ratio(0.5).expose_class(true);
    assert_eq!(exposed(unclassified.clone(), get("/")), Some(Sheddable));
    // It has nothing to say of a class that an outer layer has found.
    let mut found = get("/");
    found.extensions_mut().insert(Critical);
    assert_eq!(exposed(unclassified, found), Some(Critical));
}

#[test]
fn to_classify_costs_no_allocation_and_to_expose_the_class_a_few() {
    let cost_of = |shed: LoadShed, request| allocations(&shed.budget(Budget::fixed(9)), request);
    let cost = |shed| cost_of(shed, get("/"));
    let classify = || LoadShed::ratio(0.85).classify(|_| Critical);
    let by_header = || LoadShed::ratio(0.85).classify_by_header(HEADER, |_| Critical);
    assert_eq!(cost(classify()), 0);
    assert_eq!(cost(by_header()), 0);
    assert_eq!(cost(classify().threshold(|_| Threshold::NEVER_SHED)), 0);
    assert_eq!(cost(classify().expose_class(true)), 3);
    let mut with_extensions = get("/");
    with_extensions.extensions_mut().insert(7_u8);
    assert_eq!(cost_of(classify().expose_class(true), with_extensions), 1);
}
