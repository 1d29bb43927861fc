//! Promise 14: the samples and windows of requests that pass several layers of one budget.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use loadshed::{LoadShed, WatchedBody};
use tokio::time::{sleep, timeout};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use super::Recorded;
use crate::{
    responded::{figures, shown},
    support::all,
};

type FullRequest = Request<Full<Bytes>>;

fn request() -> FullRequest {
    Request::new(Full::default())
}

async fn work(_: FullRequest) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(Duration::from_secs(1)).await;
    Ok(Response::new(Full::from("x")))
}

/// Calls the service and reads its response.
async fn call<S, B>(service: S)
where
    S: Service<FullRequest, Response = Response<B>, Error = Infallible>,
    B: Body<Error = Infallible>,
{
    let response = service.oneshot(request()).await.unwrap();
    response.into_body().collect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn p14_a_request_that_was_queued_at_an_inner_layer_has_the_sample_of_its_second_admission() {
    let controller = Recorded::new();
    let budget = &controller.budget;
    let queue = LoadShed::ratio(0.5).budget(budget);
    let queue = queue.wait(10, Duration::from_secs(60));
    let service = LoadShed::ratio(1.0)
        .budget(budget)
        .layer(queue.layer(service_fn(work)));
    let held = [(); 50].map(|()| budget.try_acquire(all()).unwrap());
    let called = tokio::spawn(service.oneshot(request()));
    sleep(Duration::from_secs(10)).await;
    assert_eq!(budget.snapshot().waiting, 1);
    held.into_iter().for_each(loadshed::Permit::discard);
    called.await.unwrap().unwrap();
    let samples = controller.samples();
    let told: Vec<_> = samples.iter().map(|it| (it.latency, it.cap)).collect();
    // Neither the 11 s with the queue, nor the cap of the outer layer.
    assert_eq!(told, [(Duration::from_secs(1), 50)]);
}

#[tokio::test(start_paused = true)]
async fn p14_a_request_that_works_on_after_an_inner_refusal_is_completed_once() {
    let controller = Recorded::new();
    let budget = &controller.budget;
    let client = LoadShed::ratio(0.01).budget(budget).layer(service_fn(work));
    let handler = service_fn(move |own: FullRequest| {
        let client = client.clone();
        async move {
            drop(client.oneshot(own).await);
            work(request()).await
        }
    });
    let service = LoadShed::ratio(1.0).budget(budget).layer(handler);
    let one = budget.try_acquire(all()).unwrap();
    for _ in 0..10 {
        call(service.clone()).await;
    }
    one.discard();
    budget.try_acquire(all()).unwrap().succeeded();
    budget.try_acquire(all()).unwrap().succeeded();
    let windows = controller.windows();
    let completed: usize = windows.iter().map(|window| window.completed).sum();
    // The 10 requests, the permit beside them, and at least the first of the last two.
    assert!((12..=13).contains(&completed), "{completed}");
    assert_eq!(budget.snapshot().admitted, 13);
}

#[tokio::test(start_paused = true)]
async fn p22_a_request_that_a_dry_run_would_refuse_adds_no_completion_by_what_it_costs_inside() {
    let controller = Recorded::new();
    let budget = &controller.budget;
    let inner = LoadShed::ratio(1.0).budget(budget).cost(|_| 50);
    let dry_run = LoadShed::ratio(0.01).budget(budget).dry_run(true);
    let service = dry_run.layer(inner.layer(service_fn(work)));
    let one = budget.try_acquire(all()).unwrap();
    for _ in 0..10 {
        call(service.clone()).await;
    }
    one.discard();
    budget.try_acquire(all()).unwrap().succeeded();
    budget.try_acquire(all()).unwrap().succeeded();
    assert_eq!(budget.snapshot().would_refuse, 10);
    let windows = controller.windows();
    let completed: usize = windows.iter().map(|window| window.completed).sum();
    assert!((2..=3).contains(&completed), "{completed}");
}

#[tokio::test(start_paused = true)]
async fn p14_a_response_counts_as_responded_with_the_units_that_an_inner_layer_charges() {
    let (budget, seen) = shown();
    let handler = service_fn(async |_: FullRequest| {
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[7; 1_000])));
        let frames = stream::iter(std::iter::repeat_with(frame));
        Ok::<_, Infallible>(Response::new(StreamBody::new(frames)))
    });
    let inner = LoadShed::ratio(1.0).budget(&budget).cost(|_| 10);
    let service = LoadShed::ratio(1.0)
        .budget(&budget)
        .layer(inner.layer(handler));
    let _working = [(); 10].map(|()| budget.try_acquire(all()).unwrap());
    let _response = service.oneshot(request()).await.unwrap();
    assert_eq!(figures(&budget, &seen), (20, 10));
}

#[tokio::test(start_paused = true)]
async fn p14_a_window_that_the_sample_of_a_request_closes_is_of_the_requests_still_in_flight() {
    // A response that is complete with its head holds its permit until it is handed on.
    let ends = [
        ("/permit", 999),
        ("/response", 1_000),
        ("/error", 999),
        ("/cancelled", 999),
    ];
    for (ends, in_flight) in ends {
        let (budget, seen) = shown();
        budget.set_limit(1_000).unwrap();
        budget.resume_learning();
        let shed = LoadShed::ratio(1.0).budget(&budget);
        let mut service = shed.layer(service_fn(async |request: FullRequest| {
            match request.uri().path() {
                "/response" => Ok(Response::new(Empty::<Bytes>::new())),
                "/error" => Err("failed"),
                _ => std::future::pending().await,
            }
        }));
        let mut permits: Vec<_> = (0..999)
            .map(|_| budget.try_acquire(all()).unwrap())
            .collect();
        permits.iter_mut().for_each(loadshed::Permit::responded);
        if ends == "/permit" {
            budget.try_acquire(all()).unwrap().succeeded();
        } else {
            let request = Request::get(ends).body(Full::default()).unwrap();
            let call = service.call(request);
            drop(timeout(Duration::from_secs(1), call).await);
        }
        assert_eq!(*seen.lock().unwrap(), (in_flight, 999), "{ends}");
    }
}

type Boxed = UnsyncBoxBody<Bytes, BoxError>;

/// A body whose one frame arrives after so many seconds.
fn arrives_after(seconds: u64) -> Boxed {
    let frame = async move {
        sleep(Duration::from_secs(seconds)).await;
        Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x")))
    };
    StreamBody::new(stream::once(frame).boxed()).boxed_unsync()
}

#[tokio::test(start_paused = true)]
async fn p14_of_two_bodies_that_a_handler_waits_for_the_later_one_ends_the_wait() {
    let controller = Recorded::new();
    let shed = || {
        let shed = LoadShed::ratio(1.0).budget(&controller.budget);
        shed.watch_uploads(|body: WatchedBody<Boxed>| body.boxed_unsync())
    };
    let read = async |request: Request<Boxed>| {
        request.into_body().collect().await.unwrap();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("x")))
    };
    let inner = shed().layer(service_fn(read));
    let handler = service_fn(move |own: Request<Boxed>| {
        let inner = inner.clone();
        async move {
            let mut other = Request::new(arrives_after(2));
            *other.extensions_mut() = own.extensions().clone();
            let (one, _) = tokio::join!(read(own), inner.oneshot(other));
            sleep(Duration::from_secs(1)).await;
            one
        }
    });
    let service = shed().layer(handler);
    let response = service.oneshot(Request::new(arrives_after(5))).await;
    drop(response);
    let samples = controller.samples();
    let told: Vec<_> = samples.iter().map(|sample| sample.latency).collect();
    assert_eq!(told, [Duration::from_secs(1)]);
}
