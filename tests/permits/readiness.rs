//! Promise 8: a layer that never sheds is ready when its inner service is.

use std::time::Duration;

use http::StatusCode;
use loadshed::{Budget, LoadShed, Threshold};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, limit::ConcurrencyLimit, load_shed::LoadShed as TowerLoadShed};

use crate::{Gauge, request};

#[tokio::test(start_paused = true)]
async fn p08_towers_load_shed_sees_a_concurrency_limit_through_a_layer_that_observes() {
    let gauge = Gauge::default();
    let pool = Budget::fixed(1_000);
    let observed = LoadShed::observe().budget(&pool);
    let service = TowerLoadShed::new(observed.layer(ConcurrencyLimit::new(gauge.service(), 2)));
    let begin = Instant::now();
    let calls: Vec<_> = (0..100)
        .map(|_| tokio::spawn(service.clone().oneshot(request())))
        .collect();
    let mut refused = 0;
    for call in calls {
        refused += usize::from(call.await.unwrap().is_err());
    }
    assert_eq!((refused, gauge.most()), (98, 2));
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
    assert_eq!(pool.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn p08_a_layer_that_can_shed_is_always_ready_and_one_that_cannot_is_not_for_good() {
    let gauge = Gauge::default();
    let observe = || LoadShed::observe().budget(Budget::fixed(10));
    let is_ready = async |shed: &LoadShed| {
        let mut service = shed.layer(ConcurrencyLimit::new(gauge.service(), 1));
        let first = tokio::spawn(service.clone().oneshot(request()));
        sleep(Duration::from_millis(1)).await;
        let ready = tokio::time::timeout(Duration::from_millis(1), service.ready()).await;
        let is_ready = ready.is_ok();
        assert_eq!(first.await.unwrap().unwrap().status(), StatusCode::OK);
        is_ready
    };
    assert!(!is_ready(&observe()).await);
    assert!(is_ready(&LoadShed::ratio(1.0).budget(Budget::fixed(10))).await);
    assert!(is_ready(&observe().at("/export", 0.5)).await);
    assert!(is_ready(&observe().threshold(|_| Threshold::NEVER_SHED)).await);
    assert!(!is_ready(&observe().exempt(["/healthz"])).await);
    let shed = observe();
    let handle = shed.handle();
    assert!(!is_ready(&shed).await);
    handle.set_ratio(0.5).unwrap();
    assert!(!is_ready(&shed).await, "for good");
}
