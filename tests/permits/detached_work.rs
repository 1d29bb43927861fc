//! Work that goes on without its caller, or after its response.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::stream::Pending;
use http::{Request, StatusCode};
use loadshed::{
    Budget, LoadShed, RequestPermit, Threshold,
    control::{Controller, Decision, Outcome, Window},
};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{Health, HealthServer},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::{FullRequest, Gauge, request, response, status};

fn permit_of(request: &FullRequest) -> RequestPermit {
    request.extensions().get::<RequestPermit>().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn p03_detached_work_stays_in_the_count_when_its_caller_leaves() {
    let pool = Budget::fixed(8);
    let gauge = Gauge::default();
    let working = gauge.clone();
    let handler = service_fn(move |request: FullRequest| {
        let (gauge, permit) = (working.clone(), permit_of(&request));
        async move {
            let job = async move {
                gauge.work().await;
                drop(permit);
            };
            tokio::spawn(job).await.unwrap();
            response()
        }
    });
    let shed = LoadShed::ratio(1.0).budget(&pool).share_permit();
    let service = shed.layer(handler);
    let mut refused = 0;
    for _ in 0..200 {
        let call = status(service.clone(), request());
        if let Ok(status) = timeout(Duration::from_millis(5), call).await {
            refused += usize::from(status == StatusCode::TOO_MANY_REQUESTS);
        }
        assert!(pool.in_flight() >= gauge.now());
    }
    assert_eq!((gauge.most(), gauge.now()), (8, 8));
    assert!(refused >= 190, "{refused}");
    sleep(Duration::from_secs(2)).await;
    assert_eq!((pool.in_flight(), gauge.now()), (0, 0));
}

/// A health service whose checks are jobs of a task.
struct Detached {
    gauge: Gauge,
    /// Which permits the handler has found.
    found: Arc<Mutex<Vec<bool>>>,
}

#[tonic::async_trait]
impl Health for Detached {
    type WatchStream = Pending<Result<HealthCheckResponse, tonic::Status>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let permit = request.extensions().get::<RequestPermit>().cloned();
        self.found.lock().unwrap().push(permit.is_some());
        let gauge = self.gauge.clone();
        let job = async move {
            gauge.work().await;
            drop(permit);
        };
        tokio::spawn(job).await.unwrap();
        Ok(tonic::Response::new(HealthCheckResponse::default()))
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("only `check` is tested"))
    }
}

#[tokio::test(start_paused = true)]
async fn p03_in_tonic_detached_work_stays_in_the_count_when_its_caller_leaves() {
    for shares in [true, false] {
        let (pool, gauge, found) = (Budget::fixed(8), Gauge::default(), Arc::default());
        let service = HealthServer::new(Detached {
            gauge: gauge.clone(),
            found: Arc::clone(&found),
        });
        let shed = LoadShed::ratio(1.0).budget(&pool);
        let shed = match shares {
            true => shed.share_permit(),
            false => shed,
        };
        let client = HealthClient::new(shed.layer(service));
        let mut refused = 0;
        for _ in 0..100 {
            let mut client = client.clone();
            let call = client.check(HealthCheckRequest::default());
            if let Ok(response) = timeout(Duration::from_millis(5), call).await {
                assert_eq!(response.unwrap_err().code(), Code::ResourceExhausted);
                refused += 1;
            }
        }
        let found = found.lock().unwrap().clone();
        let at_work = (pool.in_flight(), gauge.now(), refused);
        // Without a permit to take along, each call leaves a job.
        let expected = if shares { (8, 8, 92) } else { (0, 100, 0) };
        assert_eq!(at_work, expected);
        assert_eq!(found, vec![shares; 100 - refused]);
        sleep(Duration::from_secs(2)).await;
        assert_eq!((pool.in_flight(), gauge.now()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn p03_a_permit_that_is_shared_is_released_with_its_last_clone() {
    let pool = Budget::fixed(8);
    let taken = Arc::new(Mutex::new(Vec::new()));
    let taking = Arc::clone(&taken);
    let handler = service_fn(move |request: FullRequest| {
        let permit = permit_of(&request);
        taking.lock().unwrap().extend([permit.clone(), permit]);
        async { response() }
    });
    // An outer layer that counts, and an inner one that shares.
    let inner = LoadShed::ratio(1.0).budget(&pool).share_permit();
    let service = LoadShed::observe()
        .budget(&pool)
        .layer(inner.layer(handler));
    assert_eq!(status(service, request()).await, 200);
    assert_eq!(pool.in_flight(), 1);
    taken.lock().unwrap().pop();
    assert_eq!(pool.in_flight(), 1);
    taken.lock().unwrap().pop();
    assert_eq!((pool.in_flight(), pool.snapshot().admitted), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn p09_an_exempt_request_has_a_permit_that_holds_nothing() {
    let pool = Budget::fixed(1);
    let handler = service_fn(|request: FullRequest| {
        let permit = permit_of(&request);
        async move {
            drop(permit);
            response()
        }
    });
    let shed = LoadShed::ratio(1.0).budget(&pool).share_permit();
    let service = shed.threshold(|_| Threshold::EXEMPT).layer(handler);
    assert_eq!(status(service, request()).await, 200);
    assert_eq!((pool.in_flight(), pool.snapshot().exempt), (0, 1));
}

/// A controller that keeps the limit, and what it is shown: outcomes with their latencies, and the requests in flight of which so
/// many have responded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(pub(crate) Arc<Mutex<Recorded>>);

#[derive(Debug, Default)]
pub(crate) struct Recorded {
    pub(crate) samples: Vec<(Outcome, Duration)>,
    responded: Vec<(usize, usize)>,
}

impl Controller for Recorder {
    fn limits(&self) -> RangeInclusive<usize> {
        1..=100
    }

    fn initial_limit(&self) -> usize {
        10
    }

    fn window(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn update(&mut self, window: &Window<'_>) -> Decision {
        let mut recorded = self.0.lock().unwrap();
        let samples = window.samples.iter();
        recorded
            .samples
            .extend(samples.map(|sample| (sample.outcome, sample.latency)));
        recorded
            .responded
            .push((window.in_flight, window.responded));
        Decision::new(window.limit, "stays")
    }
}

#[tokio::test(start_paused = true)]
async fn p14_detached_work_is_sampled_at_its_response_and_then_counts_as_responded() {
    for leaves in [false, true] {
        let recorder = Recorder::default();
        let budget = Budget::new(recorder.clone());
        let handler = service_fn(move |request: FullRequest| {
            let permit = permit_of(&request);
            async move {
                let job = tokio::spawn(async move {
                    sleep(Duration::from_secs(2)).await;
                    drop(permit);
                });
                sleep(Duration::from_millis(5)).await;
                if leaves {
                    job.await.unwrap();
                }
                response()
            }
        });
        let service = LoadShed::ratio(1.0)
            .budget(&budget)
            .share_permit()
            .layer(handler);
        for _ in 0..5 {
            let call = status(service.clone(), request());
            assert_eq!(
                timeout(Duration::from_millis(20), call).await.is_err(),
                leaves
            );
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(budget.in_flight(), 5, "leaves: {leaves}");
        {
            let recorded = recorder.0.lock().unwrap();
            let expected = match leaves {
                false => (Outcome::Success, Duration::from_millis(5)),
                true => (Outcome::Cancelled, Duration::from_millis(20)),
            };
            assert!(recorded.samples.iter().all(|sample| *sample == expected));
            let &(in_flight, responded) = recorded.responded.last().unwrap();
            assert!(responded + 1 >= in_flight && in_flight >= 4, "{recorded:?}");
        }
        sleep(Duration::from_secs(3)).await;
        assert_eq!(budget.in_flight(), 0);
    }
}

#[cfg(feature = "axum")]
#[tokio::test]
async fn the_extractor_says_which_setting_is_missing() {
    use axum::{Router, routing::get};
    use http_body_util::BodyExt;

    async fn needs(permit: RequestPermit) -> &'static str {
        drop(permit);
        "held"
    }
    async fn may_have(permit: Option<RequestPermit>) -> &'static str {
        if permit.is_some() { "held" } else { "none" }
    }
    let routes = || {
        Router::new()
            .route("/needs", get(needs))
            .route("/may", get(may_have))
    };
    let pool = Budget::fixed(8);
    let call = async |app: Router, path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let (head, body) = app.oneshot(request).await.unwrap().into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(text.to_vec()).unwrap())
    };
    let without = routes().layer(LoadShed::ratio(1.0).budget(&pool));
    let (status, text) = call(without.clone(), "/needs").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text.contains("share_permit()"), "{text}");
    assert_eq!(call(without, "/may").await.1, "none");
    let with = routes().layer(LoadShed::ratio(1.0).budget(&pool).share_permit());
    assert_eq!(call(with.clone(), "/needs").await.1, "held");
    assert_eq!(call(with, "/may").await.1, "held");
    assert_eq!(pool.in_flight(), 0);
}
