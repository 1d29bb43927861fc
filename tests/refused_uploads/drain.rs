//! Refused uploads of a budget that drains.

use std::{sync::Arc, time::Duration};

use http::{Request, StatusCode};
use loadshed::{Budget, LoadShed, RefusedUpload, Threshold};
use tokio::time::{Instant, sleep};

use crate::{
    SECOND, about, call, dropped,
    support::alone,
    upload::{Seen, Upload},
};

#[tokio::test(start_paused = true)]
async fn p26_refused_uploads_end_within_2_s_once_the_grace_of_a_drain_has_passed() {
    let _alone = alone();
    let start = Duration::from_millis(3_300);
    // A silent client as well.
    let uploads = [
        || Upload::new(usize::MAX, 1_000, SECOND / 10),
        || Upload::large(1, 3_600 * SECOND),
    ];
    let bounds = RefusedUpload::default().idle_timeout(60 * SECOND);
    for upload in uploads {
        for grace in [Duration::ZERO, SECOND / 2, 4 * SECOND] {
            let budget = Budget::fixed(1);
            let _held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
            let shed = LoadShed::ratio(1.0).budget(&budget).refused_upload(bounds);
            let (seen, begin) = (Arc::<Seen>::default(), Instant::now());
            let upload = upload().watched_by(&seen);
            let status = call(&shed, Request::new(upload)).await;
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
            sleep(start).await;
            budget.begin_drain(grace);
            dropped(&seen).await;
            let expected = (start + grace + 2 * SECOND).as_millis();
            let took = begin.elapsed().as_millis();
            assert!(about(expected)(took), "{took} ms");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p26_an_upload_that_a_drain_refuses_is_read_for_2_s() {
    let _alone = alone();
    let budget = Budget::fixed(1);
    budget.begin_drain(SECOND);
    sleep(10 * SECOND).await;
    let shed = LoadShed::ratio(1.0).budget(&budget);
    for (frames, expected) in [(15, 1_600), (usize::MAX, 2_000)] {
        let (seen, begin) = (Arc::<Seen>::default(), Instant::now());
        let upload = Upload::new(frames, 1_000, SECOND / 10).watched_by(&seen);
        let status = call(&shed, Request::new(upload)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        dropped(&seen).await;
        let took = begin.elapsed().as_millis();
        assert!(about(expected)(took), "{took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn p26_neither_a_drain_that_ends_nor_a_budget_that_is_dropped_ends_a_refused_upload() {
    let _alone = alone();
    let budget = Budget::fixed(1);
    let held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let (seen, begin) = (Arc::<Seen>::default(), Instant::now());
    let upload = Upload::new(100, 1_000, SECOND / 10).watched_by(&seen);
    call(&shed, Request::new(upload)).await;
    budget.begin_drain(Duration::ZERO);
    sleep(SECOND).await;
    budget.end_drain();
    sleep(SECOND).await;
    drop((shed, budget, held));
    // Gets the counts of the dropped budget.
    let next = [(); 4].map(|()| Budget::fixed(1));
    next.iter().for_each(|it| it.begin_drain(Duration::ZERO));
    assert_eq!(dropped(&seen).await, 100_000);
    assert!(about(10_100)(begin.elapsed().as_millis()));
}
