//! Uploads that never wait, and a runtime without a timer.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::{HeaderValue, Request, header};
use loadshed::RefusedUpload;
use tokio::task::yield_now;

use crate::{
    MIB, read, refuse, refused,
    support::alone,
    upload::{Seen, Upload},
};

#[tokio::test(start_paused = true)]
async fn p17_an_upload_that_is_always_ready_yields_the_thread() {
    let _alone = alone();
    let seen = Arc::<Seen>::default();
    refused(
        RefusedUpload::default(),
        Upload::new(100_000, 1, Duration::ZERO).watched_by(&seen),
    )
    .await;
    let mut most = 0;
    while seen.dropped.load(Ordering::Relaxed) == 0 {
        let before = seen.frames.load(Ordering::Relaxed);
        yield_now().await;
        most = most.max(seen.frames.load(Ordering::Relaxed) - before);
    }
    assert!(most <= 1_000, "{most} frames without a yield");
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 100_000);
}

// In real time, as a paused clock stands still while a task never waits.
#[tokio::test]
async fn p17_an_upload_of_empty_frames_is_read_up_to_the_timeout() {
    let _alone = alone();
    let bounds = RefusedUpload::default().timeout(Duration::from_millis(50));
    let (bytes, took) = read(bounds, Upload::new(usize::MAX, 0, Duration::ZERO)).await;
    assert_eq!(bytes, 0);
    assert!(took >= 50, "{took}");
}

#[tokio::test(start_paused = true)]
async fn p17_a_body_behind_expect_100_continue_is_not_read() {
    let _alone = alone();
    let seen = Arc::default();
    let mut request = Request::new(Upload::large(1, Duration::ZERO).watched_by(&seen));
    let expects = HeaderValue::from_static("100-continue");
    request.headers_mut().insert(header::EXPECT, expects);
    refuse(RefusedUpload::default(), request).await;
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 0);
}

#[test]
fn p17_a_runtime_without_a_timer_refuses_as_usual_and_counts_no_upload_for_good() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let upload = || Upload::large(1, Duration::ZERO);
    // The task that would read the upload panics, and the upload counts no longer.
    for bounds in [
        RefusedUpload::none(),
        RefusedUpload::default().max_concurrent(1),
    ] {
        for _ in 0..2 {
            let seen = Arc::default();
            runtime.block_on(async {
                refused(bounds, upload().watched_by(&seen)).await;
                yield_now().await;
            });
            assert_eq!(seen.dropped.load(Ordering::Relaxed), 1);
        }
    }
    let (bytes, _) =
        tokio_test::block_on(read(RefusedUpload::default().max_concurrent(1), upload()));
    assert_eq!(bytes, MIB);
}
