//! The unread body of a refused request is read after the response, within bounds. The number of concurrent reads is bounded in
//! the process, so these tests run one at a time.

mod at_once;
mod bounds;
mod drain;
mod runtime;
#[path = "../support/mod.rs"]
mod support;
mod upload;

use std::{
    convert::Infallible,
    future::ready,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed, RefusedUpload, Threshold};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service};

use self::upload::{Seen, Upload};

const MIB: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// Sends `upload` to a server without free capacity, and returns at the refusal, which comes at once.
async fn refused(bounds: RefusedUpload, upload: Upload) {
    refuse(bounds, Request::new(upload)).await;
}

async fn refuse(bounds: RefusedUpload, request: Request<Upload>) {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let shed = LoadShed::ratio(1.0).budget(&budget).refused_upload(bounds);
    let status = call(&shed, request).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

/// Sends a request that is refused.
async fn call(shed: &LoadShed, request: Request<Upload>) -> StatusCode {
    let inner = tower::service_fn(|_: Request<Upload>| {
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let seen = Arc::clone(&request.body().seen);
    let response = shed.layer(inner).call(request).await.unwrap();
    assert_eq!(
        seen.frames.load(Ordering::Relaxed),
        0,
        "read before the response"
    );
    response.status()
}

/// Returns the bytes that were read, and the time until the body was dropped, in milliseconds.
async fn read(bounds: RefusedUpload, upload: Upload) -> (usize, u128) {
    let (seen, start) = (Arc::clone(&upload.seen), Instant::now());
    refused(bounds, upload).await;
    let bytes = dropped(&seen).await;
    assert_eq!(seen.in_memory.load(Ordering::Relaxed), 0);
    // Each frame is dropped before the next is read.
    assert!(seen.most_in_memory.load(Ordering::Relaxed) <= 1);
    (bytes, start.elapsed().as_millis())
}

/// Returns the bytes that were read, once the body is dropped.
async fn dropped(seen: &Seen) -> usize {
    while seen.dropped.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    seen.bytes.load(Ordering::Relaxed)
}

/// A timer may be late by some milliseconds.
fn about(milliseconds: u128) -> impl Fn(u128) -> bool {
    move |took| (milliseconds..=milliseconds + 2).contains(&took)
}

#[track_caller]
fn assert_read((bytes, took): (usize, u128), expected: usize, milliseconds: u128) {
    assert_eq!(bytes, expected);
    assert!(about(milliseconds)(took), "it took {took} ms");
}
