//! Promises 3, 4 and 7: what a permit stands for, where it is held, and what ends it.

mod detached_work;
mod dry_runs;
mod faulty_requests;
mod inner_refusals;
mod large_frames;
mod other_requests;
mod outcomes;
mod readiness;
mod stalled_again;
mod stalled_responses;
#[path = "../support/mod.rs"]
mod support;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use tokio::{task::JoinHandle, time::sleep};
use tower::{Service, ServiceExt, service_fn};

type FullRequest = Request<Full<Bytes>>;

fn request() -> FullRequest {
    Request::new(Full::default())
}

fn response() -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("x")))
}

/// How many handlers work, and the most that ever did at once.
#[derive(Clone, Default)]
struct Gauge {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Gauge {
    /// Works for a second.
    async fn work(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        sleep(Duration::from_secs(1)).await;
        self.now.fetch_sub(1, SeqCst);
    }

    fn now(&self) -> usize {
        self.now.load(SeqCst)
    }

    fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    /// Returns a service that works for a second.
    fn service(
        &self,
    ) -> impl Service<
        FullRequest,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + use<> {
        let gauge = self.clone();
        service_fn(move |_: FullRequest| {
            let gauge = gauge.clone();
            async move {
                gauge.work().await;
                response()
            }
        })
    }
}

/// Calls a service and reads its whole response.
async fn status<S, B>(service: S, request: FullRequest) -> StatusCode
where
    S: Service<FullRequest, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    let (head, body) = service.oneshot(request).await.unwrap().into_parts();
    assert!(body.collect().await.is_ok(), "the body fails");
    head.status
}

/// Returns how many of the calls were refused.
async fn refused(calls: Vec<JoinHandle<StatusCode>>) -> usize {
    let mut refused = 0;
    for call in calls {
        refused += usize::from(call.await.unwrap() == StatusCode::TOO_MANY_REQUESTS);
    }
    refused
}

/// Begins `count` calls at once.
fn begin<S, B>(service: &S, count: usize) -> Vec<JoinHandle<StatusCode>>
where
    S: Service<FullRequest, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    (0..count)
        .map(|_| tokio::spawn(status(service.clone(), request())))
        .collect()
}
