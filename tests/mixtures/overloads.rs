//! An overloaded server: it serves what it can carry, and held requests take nothing of that.

use loadshed::{Budget, LatencyTarget, LoadShed};

use crate::{Kind, Work, millis, run, seconds};

/// The share of the capacity of 4 workers of 20 ms, 200 a second, that is served of `/quick` while 400 a second are sent.
async fn goodput(beside: &[Kind]) -> f64 {
    let mut kinds = vec![
        Kind::rate("/quick", Work::Pool(millis(20)), 100.0, 0.0, 40.0),
        Kind::rate("/quick", Work::Pool(millis(20)), 400.0, 40.0, 100.0),
    ];
    kinds.extend(beside);
    let results = run(LoadShed::ratio(0.85), 4, &kinds, 103.0).await;
    let served = results.of("/quick", 60.0, 100.0).served;
    served as f64 / (40.0 * 200.0)
}

#[tokio::test(start_paused = true)]
async fn p12_silent_uploads_take_nothing_of_an_overloaded_server() {
    let goodput = goodput(&[Kind::together("/upload", Work::Silent, 150, 20.0)]).await;
    assert!(goodput > 0.95, "{goodput}");
}

#[tokio::test(start_paused = true)]
async fn p12_long_polls_take_nothing_of_an_overloaded_server() {
    let polls = Kind::rate("/poll", Work::Slow(seconds(25)), 12.0, 0.0, 100.0);
    let goodput = goodput(&[polls]).await;
    assert!(goodput > 0.95, "{goodput}");
}

#[tokio::test(start_paused = true)]
async fn p12_an_overloaded_server_is_protected_beside_a_few_long_polls() {
    // B13.
    let goodput = goodput(&[Kind::together("/poll", Work::Slow(seconds(15)), 40, 10.0)]).await;
    assert!(goodput > 0.95, "{goodput}");
}

/// More event streams than the limit may be raised by are open when the overload begins.
#[tokio::test(start_paused = true)]
async fn p12_two_thousand_polls_from_before_take_nothing_of_an_overloaded_server() {
    let polls = Kind::together("/poll", Work::Slow(seconds(300)), 2_000, 10.0);
    let goodput = goodput(&[polls]).await;
    assert!(goodput > 0.95, "{goodput}");
}

/// Everything stalls, 60 requests a second arrive: the controller decides by the age of what is in flight.
#[tokio::test(start_paused = true)]
async fn p12_b7_a_latency_target_sees_within_a_second_that_nothing_ends() {
    let budget = Budget::new(LatencyTarget::new(millis(250)));
    let shed = LoadShed::ratio(0.85).budget(&budget);
    let kinds = [
        Kind::rate("/quick", Work::Pool(millis(20)), 60.0, 0.0, 10.0),
        Kind::rate("/quick", Work::Silent, 60.0, 10.0, 20.0),
    ];
    let results = run(shed, 4, &kinds, 20.0).await;
    let refused = results.of("/quick", 11.0, 12.0).refused;
    assert!(refused > 30, "{refused} {:?}", budget.snapshot());
}
