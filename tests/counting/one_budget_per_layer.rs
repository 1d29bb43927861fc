//! Promise 6: one value is one budget.

use axum::{Router, routing};
use http::{Request, StatusCode};
use loadshed::{Budget, LoadShed};
use tokio_test::task;
use tower::{Layer, ServiceExt};

use crate::support::{answer, get, holding, is_refused};

#[test]
fn p06_a_layer_is_one_budget_however_often_it_is_cloned_and_applied() {
    // The second has no budget but the one that it made for itself.
    for shed in [
        LoadShed::ratio(1.0).budget(Budget::fixed(1)),
        LoadShed::ratio(1e-9),
    ] {
        let services = [
            shed.layer(holding()),
            shed.clone().layer(holding()),
            shed.layer(holding()).clone(),
        ];
        let mut responses = services.map(|mut service| answer(&mut service, get("/")));
        assert_eq!(responses.each_ref().map(is_refused), [false, true, true]);
        assert_eq!(shed.handle().budget().snapshot().refused, 2);
        responses[0] = answer(&mut shed.layer(holding()), get("/"));
        assert!(
            is_refused(&responses[0]),
            "the first was still there when this came"
        );
    }
}

#[test]
fn p06_a_setting_made_after_a_clone_leaves_the_budget_shared() {
    let shed = LoadShed::ratio(1.0).budget(Budget::fixed(1));
    let other = shed.clone().status(StatusCode::SERVICE_UNAVAILABLE);
    let _running = answer(&mut shed.layer(holding()), get("/"));
    let refused = answer(&mut other.layer(holding()), get("/"));
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[test]
fn p06_two_values_share_a_budget_only_if_they_are_given_it() {
    let budget = Budget::fixed(1);
    let shared = [
        LoadShed::ratio(1.0).budget(&budget),
        LoadShed::ratio(0.5).budget(budget.clone()),
    ];
    let responses = shared
        .each_ref()
        .map(|shed| answer(&mut shed.layer(holding()), get("/")));
    assert_eq!(responses.each_ref().map(is_refused), [false, true]);

    let apart = [LoadShed::ratio(1e-9), LoadShed::ratio(1e-9)];
    let responses = apart
        .each_ref()
        .map(|shed| answer(&mut shed.layer(holding()), get("/")));
    assert!(!responses.iter().any(is_refused));
}

#[tokio::test]
async fn p06_a_router_that_is_rebuilt_for_each_request_shares_the_budget() {
    let budget = Budget::fixed(1);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let app = || {
        let slow = || async { std::future::pending::<()>().await };
        Router::new()
            .route("/a", routing::get(slow))
            .route("/b", routing::get(slow))
            .layer(shed.clone())
    };
    let mut first =
        task::spawn(app().oneshot(Request::get("/a").body(axum::body::Body::empty()).unwrap()));
    assert!(first.poll().is_pending());
    for path in ["/a", "/b"] {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let refused = app().oneshot(request).await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    }
    assert_eq!(budget.in_flight(), 1);
}
