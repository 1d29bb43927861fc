//! An idle server: no quick request is to be refused. The cases are drawn from reports of users.

use http::{Response, StatusCode};
use loadshed::{Budget, LatencyTarget, LoadShed, control::Outcome};

use crate::{Figures, Kind, Work, millis, run, seconds};

/// Runs the kinds beside `/quick` and returns the share of the quick requests that was refused: of all, and of those from the fourth
/// second after the others came.
async fn refused(kinds: &[Kind], came: f64, until: f64) -> (f64, f64) {
    let results = run(LoadShed::ratio(0.85), 16, kinds, until + 2.0).await;
    let share = |figures: Figures| figures.refused as f64 / figures.sent as f64;
    let (all, later) = (
        results.of("/quick", 0.0, until),
        results.of("/quick", came + 3.0, until),
    );
    (share(all), share(later))
}

const fn quick(rate: f64, work: u64, until: f64) -> Kind {
    Kind::rate("/quick", Work::Pool(millis(work)), rate, 0.0, until)
}

#[tokio::test(start_paused = true)]
async fn p11_b1_silent_uploads_refuse_no_quick_request() {
    let kinds = [
        quick(200.0, 5, 120.0),
        Kind::together("/upload", Work::Silent, 150, 10.0),
    ];
    let (all, later) = refused(&kinds, 10.0, 120.0).await;
    // What is refused comes in the first seconds: 150 requests at once look like a flood.
    assert!(all < 0.02 && later <= 0.001, "{all} {later}");
}

#[tokio::test(start_paused = true)]
async fn p11_b2_eight_calls_of_30_s_refuse_no_quick_request() {
    let kinds = [
        quick(5.0, 20, 60.0),
        Kind::together("/slow", Work::Slow(seconds(30)), 8, 10.0),
    ];
    let (all, later) = refused(&kinds, 10.0, 60.0).await;
    assert!(all < 0.07 && later <= 0.001, "{all} {later}");
}

#[tokio::test(start_paused = true)]
async fn p11_b3_exports_refuse_no_quick_request() {
    let kinds = [
        quick(10.0, 20, 60.0),
        Kind::together("/export", Work::Slow(seconds(30)), 20, 10.0),
    ];
    let (all, later) = refused(&kinds, 10.0, 60.0).await;
    assert!(all < 0.07 && later <= 0.001, "{all} {later}");
}

/// All from the first request on: nothing is known of the server when they come.
#[tokio::test(start_paused = true)]
async fn p11_exports_and_polls_that_are_there_from_the_start_refuse_no_quick_request() {
    for (rate, work, slow, time) in [(5.0, 20, 8, 30), (10.0, 20, 20, 30), (200.0, 5, 300, 25)] {
        let kinds = [
            quick(rate, work, 60.0),
            Kind::together("/slow", Work::Slow(seconds(time)), slow, 0.0),
        ];
        let (all, later) = refused(&kinds, 0.0, 60.0).await;
        assert!(all < 0.02 && later <= 0.001, "{slow}: {all} {later}");
    }
}

#[tokio::test(start_paused = true)]
async fn p11_b3_calls_of_a_model_refuse_no_quick_request() {
    let kinds = [
        quick(10.0, 2, 600.0),
        Kind::rate("/model", Work::Slow(seconds(25)), 4.0, 0.0, 600.0),
    ];
    let (all, later) = refused(&kinds, 10.0, 600.0).await;
    assert!(all < 0.01 && later <= 0.001, "{all} {later}");
}

#[tokio::test(start_paused = true)]
async fn p11_b4_long_polls_refuse_no_quick_request() {
    let kinds = [
        quick(200.0, 5, 240.0),
        Kind::rate("/poll", Work::Slow(seconds(25)), 12.0, 5.0, 240.0),
    ];
    let (all, later) = refused(&kinds, 10.0, 240.0).await;
    assert!(all < 0.001 && later <= 0.001, "{all} {later}");
}

#[tokio::test(start_paused = true)]
async fn p11_b4_polls_that_are_no_samples_refuse_no_quick_request_under_either_controller() {
    let kinds = [
        quick(200.0, 5, 120.0),
        Kind::rate("/poll", Work::Slow(seconds(25)), 12.0, 5.0, 120.0),
    ];
    for budget in [
        Budget::adaptive(),
        Budget::new(LatencyTarget::new(millis(250))),
    ] {
        // The response of a poll has this status.
        let ignored = |head: &Response<()>| {
            (head.status() == StatusCode::ACCEPTED).then_some(Outcome::Ignored)
        };
        let shed = LoadShed::ratio(0.85).budget(budget);
        let shed = shed.except(["/poll"]).outcome(ignored);
        let results = run(shed, 16, &kinds, 122.0).await;
        assert_eq!(results.of("/quick", 0.0, 120.0).refused, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn p11_e3_a_few_long_polls_or_uploads_a_second_refuse_no_quick_request() {
    for (rate, time) in [(3.2, 25), (4.0, 20)] {
        let kinds = [
            quick(70.0, 20, 60.0),
            Kind::rate("/slow", Work::Slow(seconds(time)), rate, 0.0, 60.0),
        ];
        let (all, later) = refused(&kinds, 0.0, 60.0).await;
        assert!(all < 0.001 && later <= 0.001, "{all} {later}");
    }
}

#[tokio::test(start_paused = true)]
async fn p14_b5_a_feature_that_fails_at_once_refuses_no_healthy_request() {
    for share in [0.5, 0.55, 0.7, 0.9] {
        let rate = 200.0;
        let kinds = [
            Kind::rate(
                "/quick",
                Work::Pool(millis(50)),
                rate * (1.0 - share),
                0.0,
                180.0,
            ),
            Kind::rate("/broken", Work::Pool(millis(50)), rate * share, 0.0, 30.0),
            Kind::rate(
                "/broken",
                Work::Fails(StatusCode::SERVICE_UNAVAILABLE),
                rate * share,
                30.0,
                150.0,
            ),
        ];
        let (all, later) = refused(&kinds, 30.0, 180.0).await;
        assert!(all <= 0.001 && later <= 0.001, "{share}: {all} {later}");
    }
}

#[tokio::test(start_paused = true)]
async fn p14_b6_a_tenant_over_its_quota_refuses_no_request_of_others() {
    let exhausted = Work::Fails(StatusCode::SERVICE_UNAVAILABLE);
    let kinds = [
        quick(100.0, 20, 120.0),
        Kind::rate("/tenant", exhausted, 600.0, 20.0, 120.0),
    ];
    let (all, later) = refused(&kinds, 20.0, 120.0).await;
    assert!(all <= 0.001 && later <= 0.001, "{all} {later}");
}

#[tokio::test(start_paused = true)]
async fn p14_e10_callers_that_leave_at_once_and_errors_refuse_no_healthy_request() {
    let floods = [
        (Work::Left(millis(20)), 100.0),
        (Work::Fails(StatusCode::SERVICE_UNAVAILABLE), 300.0),
        (Work::Fails(StatusCode::REQUEST_TIMEOUT), 300.0),
    ];
    for (work, rate) in floods {
        let kinds = [
            quick(70.0, 20, 90.0),
            Kind::rate("/flood", work, rate, 30.0, 90.0),
        ];
        let (all, later) = refused(&kinds, 30.0, 90.0).await;
        assert!(all <= 0.001 && later <= 0.001, "{all} {later}");
    }
}
