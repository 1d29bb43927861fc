//! Promise 18: a refusal says when to retry, and nothing about the server.

use std::time::Duration;

use loadshed::{Budget, LoadShed, RetryAfter, Threshold};
use tower::Layer;

use super::{grpc, refusal, text};
use crate::support::{Req, answer, get, holding};

/// Everything that is sent: the status, the headers but for the one in base64, and the body.
fn sent(shed: &LoadShed, request: Req) -> String {
    let mut response = refusal(shed, request);
    response.headers_mut().remove("grpc-status-details-bin");
    let (status, headers) = (response.status(), response.headers().clone());
    format!("{} {headers:?} {}", status.as_u16(), text(response))
}

fn digits(text: &str) -> Vec<&str> {
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.filter(|number| !number.is_empty()).collect()
}

fn shed(budget: &Budget) -> LoadShed {
    let hint = RetryAfter::fixed(Duration::from_secs(23));
    LoadShed::ratio(0.85).budget(budget).retry_after(hint)
}

#[test]
fn p18_a_refusal_has_no_digits_except_the_status_and_the_retry_hint() {
    let budget = Budget::fixed(7_919).named("mail-5");
    let _held: Vec<_> = (0..7_000)
        .map(|_| budget.try_acquire(Threshold::NEVER_SHED).unwrap())
        .collect();
    let shed = shed(&budget);
    assert_eq!(digits(&sent(&shed, get("/"))), ["429", "23", "429"]);
    // Every gRPC response has the status 200; 8 is RESOURCE_EXHAUSTED.
    let call = sent(&shed, grpc("application/grpc"));
    assert_eq!(digits(&call), ["200", "8", "23000"]);
}

#[test]
fn p18_a_refusal_is_the_same_for_every_budget() {
    let refusals = [1, 100].map(|limit| {
        let budget = Budget::fixed(limit).named(limit.to_string());
        let shed = shed(&budget);
        let mut service = LoadShed::observe().budget(&budget).layer(holding());
        let _held: Vec<_> = (0..limit).map(|_| answer(&mut service, get("/"))).collect();
        let call = refusal(&shed, grpc("application/grpc"));
        (sent(&shed, get("/")), call.headers().clone())
    });
    assert_eq!(refusals[0], refusals[1]);
}
