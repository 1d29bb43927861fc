//! Promises 11 and 14: the time that a handler waits for its client is neither latency nor queue.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use loadshed::{
    Budget, LoadShed, Measure, ResponseBody,
    control::{Outcome, Sample},
};
use tokio::{
    sync::Semaphore,
    task::{JoinSet, LocalSet, spawn_local, yield_now},
    time::{Instant, sleep, sleep_until},
};
use tower::{Layer, Service};

use crate::{
    Upload, boxed, get, millis, pieces, post, read, seconds, serve, silent,
    support::{FnController, is_refused},
};

/// The samples of a budget, and how many requests had responded when its latest window was closed.
type Seen = Arc<Mutex<(Vec<Sample>, usize)>>;

/// A budget that shows its samples.
pub(crate) fn seen() -> (Budget, Seen) {
    let seen = Arc::new(Mutex::new((Vec::new(), 0)));
    let budget = {
        let seen = Arc::clone(&seen);
        Budget::new(
            FnController::new(1..=1_000, 1_000, move |window| {
                let mut seen = seen.lock().unwrap();
                seen.0.extend(window.samples);
                seen.1 = window.responded;
                window.limit
            })
            .always(),
        )
    };
    (budget, seen)
}

/// Closes the window of a budget.
pub(crate) fn close_window(budget: &Budget) {
    drop(budget.try_acquire(loadshed::Threshold::ratio(1.0)));
    drop(budget.try_acquire(loadshed::Threshold::ratio(1.0)));
}

/// Reads three pieces, and works for 10 ms after each.
async fn in_pieces(request: Upload) -> Bytes {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {
        sleep(millis(10)).await;
    }
    Bytes::new()
}

#[tokio::test(start_paused = true)]
async fn p14_the_time_that_a_handler_waits_for_its_client_is_no_latency() {
    let (budget, seen) = seen();
    let shed = LoadShed::ratio(1.0).budget(&budget).watch_uploads(boxed);
    let mut service = serve(shed, in_pieces);
    let upload = pieces([1_000, 3_000, 0].map(|pause| (millis(pause), 100)));
    service.call(post("/", upload)).await.unwrap();
    close_window(&budget);
    let first = seen.lock().unwrap().0[0];
    assert_eq!(
        (first.latency, first.outcome),
        (millis(30), Outcome::Success)
    );
}

#[tokio::test(start_paused = true)]
async fn p14_without_a_watch_the_time_of_the_client_is_in_the_latency() {
    let (budget, seen) = seen();
    let shed = LoadShed::ratio(1.0).budget(&budget);
    let upload = pieces([1_000, 3_000, 0].map(|pause| (millis(pause), 100)));
    serve(shed, in_pieces)
        .call(post("/", upload))
        .await
        .unwrap();
    close_window(&budget);
    assert_eq!(seen.lock().unwrap().0[0].latency, millis(4_030));
}

#[tokio::test(start_paused = true)]
async fn p14_a_request_counts_as_responded_while_its_handler_waits_for_the_client_and_no_longer() {
    let (budget, seen) = seen();
    let shed = LoadShed::ratio(1.0).budget(&budget).watch_uploads(boxed);
    let mut service = serve(shed, in_pieces);
    let responded = || {
        close_window(&budget);
        seen.lock().unwrap().1
    };
    LocalSet::new()
        .run_until(async {
            let upload = pieces([1_000, 3_000].map(|pause| (millis(pause), 100)));
            spawn_local(service.call(post("/", upload)));
            let begin = Instant::now();
            let mut found = Vec::new();
            // It waits for 1 s, works for 10 ms, waits for 3 s, and works for 10 ms.
            for at in [500, 1_005, 2_000, 4_015, 4_500] {
                sleep_until(begin + millis(at)).await;
                found.push((budget.in_flight(), responded()));
            }
            assert_eq!(found, [(1, 1), (1, 0), (1, 1), (1, 0), (0, 0)]);
        })
        .await;
}

/// The quick start's shape: a layer around the whole app counts and measures, and a layer at a route sheds.
#[tokio::test(start_paused = true)]
async fn p14_the_upload_that_an_inner_layer_watches_is_no_latency_of_the_outer_one() {
    let (budget, seen) = seen();
    let outer = LoadShed::observe().budget(&budget);
    let inner = LoadShed::ratio(1.0).budget(&budget).watch_uploads(boxed);
    for both_watch in [false, true] {
        let outer = match both_watch {
            true => outer.clone().watch_uploads(boxed),
            false => outer.clone(),
        };
        let mut service = outer.layer(serve(inner.clone(), in_pieces));
        let upload = pieces([1_000, 3_000].map(|pause| (millis(pause), 100)));
        let waits = async {
            sleep(millis(500)).await;
            close_window(&budget);
            seen.lock().unwrap().1
        };
        let (response, responded) = tokio::join!(service.call(post("/", upload)), waits);
        assert_eq!((response.unwrap().status(), responded), (StatusCode::OK, 1));
        close_window(&budget);
        let mut seen = seen.lock().unwrap();
        let last = seen.0.iter().max_by_key(|sample| sample.latency).unwrap();
        assert_eq!((last.latency, last.outcome), (millis(20), Outcome::Success));
        assert_eq!(seen.1, 0);
        seen.0.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn p14_a_handler_that_drops_the_body_early_works_on_its_own_time() {
    let (budget, seen) = seen();
    let shed = LoadShed::ratio(1.0).budget(&budget).watch_uploads(boxed);
    let early = async |request: Upload| {
        let mut body = request.into_body();
        let first = tokio::time::timeout(seconds(2), body.frame()).await;
        assert!(first.is_err(), "the client is silent");
        drop(body);
        sleep(millis(70)).await;
        Bytes::new()
    };
    serve(shed, early).call(post("/", silent())).await.unwrap();
    close_window(&budget);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.0[0].latency, seen.1), (millis(70), 0));
}

#[tokio::test(start_paused = true)]
async fn p14_a_body_that_outlives_the_response_counts_no_request_as_responded_twice() {
    for measure in [Measure::Head, Measure::Body] {
        let (budget, seen) = seen();
        let shed = LoadShed::ratio(1.0)
            .budget(&budget)
            .measure(measure)
            .watch_uploads(boxed);
        // A task goes on reading.
        let detached = async |request: Upload| {
            tokio::spawn(read(request));
            yield_now().await;
            yield_now().await;
            Bytes::from("response")
        };
        let response = serve(shed, detached).call(post("/", silent())).await;
        close_window(&budget);
        assert_eq!(seen.lock().unwrap().1, 1, "{measure:?}");
        response.unwrap().collect().await.unwrap();
        close_window(&budget);
        assert_eq!(
            (seen.lock().unwrap().1, budget.in_flight()),
            (0, 0),
            "{measure:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn p14_a_client_that_leaves_while_it_uploads_leaves_nothing_counted() {
    let (budget, seen) = seen();
    let shed = LoadShed::ratio(1.0).budget(&budget).watch_uploads(boxed);
    let mut service = serve(shed, read);
    let call = tokio::time::timeout(seconds(5), service.call(post("/", silent())));
    assert!(call.await.is_err());
    close_window(&budget);
    let seen = seen.lock().unwrap();
    assert_eq!((seen.1, budget.in_flight()), (0, 0));
    assert_eq!(seen.0[0].outcome, Outcome::Cancelled);
    assert_eq!(seen.0[0].latency, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn p14_a_queued_upload_is_watched_once_it_is_admitted() {
    let (budget, seen) = seen();
    budget.set_limit(1).unwrap();
    budget.resume_learning();
    let shed = LoadShed::ratio(1.0)
        .budget(&budget)
        .wait(1, seconds(10))
        .watch_uploads(boxed);
    let mut service = serve(shed, in_pieces);
    let held = budget.try_acquire(loadshed::Threshold::ratio(1.0)).unwrap();
    let call = service.call(post("/", pieces([(seconds(3), 10)])));
    let release = async {
        sleep(seconds(1)).await;
        drop(held);
    };
    let (response, ()) = tokio::join!(call, release);
    assert_eq!(response.unwrap().status(), StatusCode::OK);
    close_window(&budget);
    let upload = seen.lock().unwrap().0[1];
    assert_eq!(
        (upload.latency, upload.outcome),
        (millis(10), Outcome::Success)
    );
}

/// Short requests beside silent uploads. Each needs a worker for 20 ms.
struct Load {
    workers: usize,
    /// Requests a second.
    rate: u32,
    uploads: usize,
}

/// The share of short requests that are served within 2 s, in percent, in the 30 s after the uploads have begun.
async fn served(shed: LoadShed, load: Load) -> u32 {
    let workers = Arc::new(Semaphore::new(load.workers));
    let handler = move |request: Upload| {
        let workers = Arc::clone(&workers);
        async move {
            read(request).await;
            let worker = workers.acquire_owned().await;
            sleep(millis(20)).await;
            drop(worker);
            Bytes::new()
        }
    };
    let mut service = serve(shed, handler);
    let (before, during) = (load.rate * 10, load.rate * 30);
    LocalSet::new()
        .run_until(async {
            let mut calls = JoinSet::new();
            let begin = Instant::now();
            for nth in 0..before + during {
                sleep_until(begin + seconds(1) * nth / load.rate).await;
                if nth == before {
                    for nth in 0..load.uploads {
                        let retry = millis(50 + 7 * nth as u64);
                        spawn_local(until_admitted(service.clone(), retry));
                    }
                }
                let call = service.call(get());
                calls.spawn_local(async move {
                    let Ok(response) = tokio::time::timeout(seconds(2), call).await else {
                        return 0;
                    };
                    let status = response.unwrap().status();
                    u32::from(nth >= before && status == StatusCode::OK)
                });
            }
            calls.join_all().await.into_iter().sum::<u32>() * 100 / during
        })
        .await
}

/// Begins a silent upload, and again after `retry` while it is refused.
async fn until_admitted(
    mut service: impl Service<
        Upload,
        Response = Response<ResponseBody<Full<Bytes>>>,
        Error = Infallible,
    >,
    retry: Duration,
) {
    while is_refused(&service.call(post("/", silent())).await.unwrap()) {
        sleep(retry).await;
    }
}

/// 70 a second of 800 that are possible.
const LIGHT: Load = Load {
    workers: 16,
    rate: 70,
    uploads: 80,
};

/// 300 a second where 200 are possible.
const fn overload(uploads: usize) -> Load {
    Load {
        workers: 4,
        rate: 300,
        uploads,
    }
}

#[tokio::test(start_paused = true)]
async fn p12_silent_uploads_take_no_capacity_from_other_requests_while_a_limit_is_held() {
    let shed = || LoadShed::ratio(0.85).watch_uploads(boxed);
    let without = served(shed(), overload(0)).await;
    let with = served(shed(), overload(100)).await;
    assert!(
        with + 3 >= without && without > 55,
        "{without} %, with uploads {with} %"
    );
}

#[tokio::test(start_paused = true)]
async fn p11_silent_uploads_cause_no_refusals_under_a_learned_limit() {
    let shed = LoadShed::ratio(0.85).watch_uploads(boxed);
    assert_eq!(served(shed, LIGHT).await, 100);
}
