//! Promise 17 and the end of slow uploads: see `LoadShed::min_upload_rate`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use loadshed::{Budget, Criticality, LoadShed, ResponseBody, Threshold, control::Outcome};
use tokio::{
    task::{JoinHandle, LocalSet, spawn_local},
    time::{Instant, sleep},
};
use tower::Service;

use crate::{
    Body, Upload, boxed,
    client_time::{close_window, seen},
    get, millis, pieces, post, read, seconds, serve, silent,
};

const RATE: u64 = 240;
const GRACE: Duration = seconds(5);

fn limited(shed: LoadShed) -> LoadShed {
    shed.watch_uploads(boxed).min_upload_rate(RATE, GRACE)
}

type Answer = Response<ResponseBody<Full<Bytes>>>;

/// Starts an upload, and lets its handler begin to read.
async fn begin(
    service: &mut impl Service<Upload, Response = Answer, Error: std::fmt::Debug, Future: 'static>,
    request: Upload,
) -> JoinHandle<Answer> {
    let call = service.call(request);
    let call = spawn_local(async move { call.await.unwrap() });
    sleep(millis(1)).await;
    call
}

/// Asks the budget for a permit each 100 ms, for so many seconds.
async fn refusals(budget: &Budget, threshold: Threshold, seconds: u64) {
    for _ in 0..seconds * 10 {
        drop(budget.try_acquire(threshold));
        sleep(millis(100)).await;
    }
}

/// Bytes at this rate a second, forever, a piece each half second.
fn at_rate(bytes: usize) -> Body {
    pieces(std::iter::repeat((millis(500), bytes / 2)))
}

/// A pool of ten, of which uploads hold eight. Returns the statuses of the uploads after 20 s of refusals.
async fn statuses(upload: impl Fn() -> Body) -> (Vec<Option<StatusCode>>, usize) {
    let pool = Budget::fixed(10);
    let mut service = serve(limited(LoadShed::ratio(0.8).budget(&pool)), read);
    LocalSet::new()
        .run_until(async {
            let mut calls = Vec::new();
            for _ in 0..8 {
                calls.push(begin(&mut service, post("/", upload())).await);
            }
            refusals(&pool, Threshold::ratio(0.8), 20).await;
            let mut statuses = Vec::new();
            for call in calls {
                let is_over = call.is_finished();
                statuses.push(if is_over {
                    Some(call.await.unwrap().status())
                } else {
                    None
                });
            }
            (statuses, pool.in_flight())
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn p03_an_upload_below_the_rate_is_ended_with_408_while_requests_are_refused() {
    for upload in [silent, || at_rate(2), || at_rate(200)] {
        let (statuses, in_flight) = statuses(upload).await;
        assert_eq!(statuses, [Some(StatusCode::REQUEST_TIMEOUT); 8]);
        assert_eq!(in_flight, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn p11_an_upload_at_the_rate_goes_on_while_requests_are_refused() {
    assert_eq!(statuses(|| at_rate(400)).await, (vec![None; 8], 8));
}

#[tokio::test(start_paused = true)]
async fn p03_bytes_that_came_early_pay_for_no_later_silence() {
    let (statuses, _) = statuses(|| pieces([(millis(10), 10_000_000), (seconds(600), 1)])).await;
    assert_eq!(statuses, [Some(StatusCode::REQUEST_TIMEOUT); 8]);
}

#[tokio::test(start_paused = true)]
async fn p11_no_upload_is_ended_while_nothing_is_refused_or_before_its_grace() {
    let pool = Budget::fixed(10);
    let mut service = serve(limited(LoadShed::ratio(0.1).budget(&pool)), read);
    LocalSet::new()
        .run_until(async {
            let call = begin(&mut service, post("/", silent())).await;
            sleep(seconds(3_600)).await;
            assert_eq!(pool.in_flight(), 1);
            let begun = Instant::now();
            let refused = service.call(get()).await.unwrap().status();
            assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(call.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
            assert!(begun.elapsed() < millis(10), "the refusal wakes the future");

            let call = begin(&mut service, post("/", silent())).await;
            refusals(&pool, Threshold::ratio(0.1), 4).await;
            assert!(!call.is_finished());
            refusals(&pool, Threshold::ratio(0.1), 3).await;
            assert!(call.is_finished());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p11_an_upload_is_not_slow_because_its_handler_is() {
    let pool = Budget::fixed(1);
    // 100 bytes arrive at once each time, and each is worked on for 4 s.
    let handler = async |request: Upload| {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {
            sleep(seconds(4)).await;
        }
        Bytes::new()
    };
    let mut service = serve(limited(LoadShed::ratio(1.0).budget(&pool)), handler);
    LocalSet::new()
        .run_until(async {
            let upload = pieces([(millis(10), 100); 20]);
            let call = begin(&mut service, post("/", upload)).await;
            refusals(&pool, Threshold::ratio(1.0), 90).await;
            assert_eq!(call.await.unwrap().status(), StatusCode::OK);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p10_an_upload_of_a_class_goes_on_while_only_lower_classes_are_refused() {
    let pool = Budget::fixed(10);
    let shed = LoadShed::ratio(0.1)
        .budget(&pool)
        .classify(|head| match head.uri().path() {
            "/critical" => Criticality::Critical,
            _ => Criticality::Sheddable,
        });
    let mut service = serve(limited(shed), read);
    LocalSet::new()
        .run_until(async {
            let critical = begin(&mut service, post("/critical", silent())).await;
            for _ in 0..200 {
                let refused = service.call(get()).await.unwrap().status();
                assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
                sleep(millis(100)).await;
            }
            assert!(!critical.is_finished());
            // A refusal of the highest class counts, also one between two sweeps.
            let _held = pool.try_acquire_many(9, Threshold::NEVER_SHED);
            for _ in 0..2 {
                drop(service.call(get()).await);
                sleep(millis(100)).await;
                drop(pool.try_acquire(Threshold::ratio(1.0)));
                sleep(millis(1_000)).await;
            }
            assert!(critical.is_finished());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p10_an_upload_of_a_route_that_is_never_shed_is_not_ended() {
    let pool = Budget::fixed(10);
    let shed = LoadShed::ratio(0.1).budget(&pool).only(["/mail"]);
    let mut service = serve(limited(shed), read);
    LocalSet::new()
        .run_until(async {
            let kept = begin(&mut service, post("/login", silent())).await;
            refusals(&pool, Threshold::ratio(0.1), 20).await;
            assert!(!kept.is_finished());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p22_a_dry_run_ends_no_upload() {
    let pool = Budget::fixed(1);
    let shed = limited(LoadShed::ratio(1.0).budget(&pool).dry_run(true));
    let mut service = serve(shed, read);
    LocalSet::new()
        .run_until(async {
            let kept = begin(&mut service, post("/", silent())).await;
            for _ in 0..200 {
                assert!(service.call(get()).await.unwrap().status().is_success());
                sleep(millis(100)).await;
            }
            assert_eq!(pool.snapshot().would_refuse, 200);
            assert!(!kept.is_finished());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p03_the_refusals_of_one_layer_end_the_uploads_of_another_layer_of_the_budget() {
    let pool = Budget::fixed(10);
    let uploads = limited(LoadShed::ratio(0.5).budget(&pool));
    let mut uploads = serve(uploads, read);
    let mut other = serve(LoadShed::ratio(0.5).budget(&pool), read);
    LocalSet::new()
        .run_until(async {
            for _ in 0..5 {
                begin(&mut uploads, post("/", silent())).await;
            }
            sleep(GRACE).await;
            let refused = other.call(get()).await.unwrap().status();
            assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
            sleep(millis(1)).await;
            assert_eq!(pool.in_flight(), 0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p03_an_upload_that_another_task_reads_is_ended_as_well_and_its_handler_dropped() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let pool = Budget::fixed(1);
    let dropped = Arc::new(AtomicUsize::new(0));
    let handler = {
        let dropped = Arc::clone(&dropped);
        move |request: Upload| {
            let guard = Dropped(Arc::clone(&dropped));
            async move {
                let _guard = guard;
                spawn_local(read(request)).await.unwrap()
            }
        }
    };
    let mut service = serve(limited(LoadShed::ratio(1.0).budget(&pool)), handler);
    LocalSet::new()
        .run_until(async {
            let call = begin(&mut service, post("/", silent())).await;
            refusals(&pool, Threshold::ratio(1.0), 7).await;
            assert_eq!(call.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
            assert_eq!(dropped.load(Ordering::Relaxed), 1);
            assert_eq!(pool.in_flight(), 0);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p18_a_slow_upload_gets_a_problem_document_and_a_grpc_caller_its_status() {
    let pool = Budget::fixed(1);
    let mut service = serve(limited(LoadShed::ratio(1.0).budget(&pool)), read);
    LocalSet::new()
        .run_until(async {
            let call = begin(&mut service, post("/", silent())).await;
            refusals(&pool, Threshold::ratio(1.0), 7).await;
            let http = call.await.unwrap();
            assert_eq!(http.headers()["connection"], "close");
            assert_eq!(http.headers()["cache-control"], "no-store");
            assert_eq!(http.headers()[CONTENT_TYPE], "application/problem+json");
            assert!(
                http.extensions().get::<loadshed::Shed>().is_none(),
                "it is no refusal"
            );
            let body = http.into_body().collect().await.unwrap().to_bytes();
            assert!(body.ends_with(b"\"status\":408}"));

            let grpc = Request::post("/a.B/C")
                .version(http::Version::HTTP_2)
                .header(CONTENT_TYPE, "application/grpc");
            let call = begin(&mut service, grpc.body(silent()).unwrap()).await;
            refusals(&pool, Threshold::ratio(1.0), 7).await;
            let grpc = call.await.unwrap();
            assert_eq!(grpc.status(), StatusCode::OK);
            assert_eq!(grpc.headers()["grpc-status"], "1");
            assert!(!grpc.headers().contains_key("connection"));
            assert!(http_body::Body::is_end_stream(grpc.body()), "Trailers-Only");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn p14_an_upload_that_the_layer_ends_says_nothing_about_the_load() {
    let (budget, seen) = seen();
    budget.set_limit(1).unwrap();
    budget.resume_learning();
    let mut service = serve(limited(LoadShed::ratio(1.0).budget(&budget)), read);
    LocalSet::new()
        .run_until(async {
            let call = begin(&mut service, post("/", silent())).await;
            sleep(GRACE).await;
            assert!(budget.try_acquire(Threshold::ratio(1.0)).is_err());
            assert_eq!(call.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        })
        .await;
    close_window(&budget);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.0[0].outcome, seen.1), (Outcome::Ignored, 0));
    assert_eq!(budget.in_flight(), 0);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn ended_and_unwatched_uploads_are_counted() {
    use http_body_util::combinators::BoxBody;
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};
    use tower::{Layer, service_fn};

    let pool = Budget::fixed(10).named("slow uploads");
    let shed = limited(LoadShed::ratio(0.8).budget(&pool));
    let mut service = serve(shed.clone(), read);
    let mut other_type = shed.layer(service_fn(
        async |_: Request<BoxBody<Bytes, std::io::Error>>| {
            Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::default()))
        },
    ));
    LocalSet::new()
        .run_until(async {
            for length in [0, 10, 20] {
                let body = Full::from(vec![0; length]).map_err(|never| match never {});
                let request = Request::new(BoxBody::new(body));
                drop(other_type.call(request).await.unwrap());
            }
            for _ in 0..8 {
                begin(&mut service, post("/", silent())).await;
            }
            refusals(&pool, Threshold::ratio(0.8), 10).await;
        })
        .await;
    let recorder = DebuggingRecorder::new();
    metrics::with_local_recorder(&recorder, loadshed::telemetry::publish);
    let all = recorder.snapshotter().snapshot().into_vec();
    let count = |name: &str| {
        let found = all.iter().find_map(|(key, _, _, value)| {
            let is_ours = key
                .key()
                .labels()
                .any(|label| label.value() == "slow uploads");
            match value {
                DebugValue::Counter(count) if is_ours && key.key().name() == name => Some(*count),
                _ => None,
            }
        });
        found.expect("the series")
    };
    assert_eq!(count("loadshed_slow_uploads_total"), 8);
    assert_eq!(
        count("loadshed_unwatched_uploads_total"),
        2,
        "an empty body is no upload"
    );
}
