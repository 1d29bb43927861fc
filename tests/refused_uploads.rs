//! The unread body of a refused request is read after the response, within bounds. The number of concurrent reads is bounded in
//! the process, so these tests run one at a time.

mod support;

use std::{
    convert::Infallible,
    future::{Future, ready},
    panic,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed, RefusedUpload, Threshold};
use tokio::{
    task::yield_now,
    time::{Instant, Sleep, sleep},
};
use tower::{Layer, Service};

use support::alone;

const MIB: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);

/// An upload: a frame after each pause.
struct Upload {
    frames: usize,
    size: usize,
    pause: Duration,
    end: End,
    next: Option<Pin<Box<Sleep>>>,
    seen: Arc<Seen>,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Failed,
    Panicked,
}

/// The log of an upload.
#[derive(Default)]
struct Seen {
    frames: AtomicUsize,
    bytes: AtomicUsize,
    /// The frames in memory now, and the most frames in memory at once.
    in_memory: AtomicUsize,
    most_in_memory: AtomicUsize,
    dropped: AtomicUsize,
}

/// The data of a frame, which notes its drop.
struct Data {
    data: &'static [u8],
    seen: Arc<Seen>,
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        self.data
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.seen.in_memory.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upload {
    fn new(frames: usize, size: usize, pause: Duration) -> Self {
        Self {
            frames,
            size,
            pause,
            end: End::Whole,
            next: None,
            seen: Arc::default(),
        }
    }

    /// Creates an upload in frames of 1 MiB.
    fn large(frames: usize, pause: Duration) -> Self {
        Self::new(frames, MIB, pause)
    }

    fn that_ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    fn watched_by(mut self, seen: &Arc<Seen>) -> Self {
        self.seen = Arc::clone(seen);
        self
    }

    fn frame(&mut self) -> Bytes {
        self.frames -= 1;
        let seen = &self.seen;
        seen.frames.fetch_add(1, Ordering::Relaxed);
        seen.bytes.fetch_add(self.size, Ordering::Relaxed);
        let in_memory = seen.in_memory.fetch_add(1, Ordering::Relaxed) + 1;
        seen.most_in_memory.fetch_max(in_memory, Ordering::Relaxed);
        Bytes::from_owner(Data {
            data: &[0; MIB][..self.size],
            seen: Arc::clone(seen),
        })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        if !self.pause.is_zero() {
            let pause = self.pause;
            let next = self.next.get_or_insert_with(|| Box::pin(sleep(pause)));
            std::task::ready!(next.as_mut().poll(cx));
            self.next = None;
        }
        Poll::Ready(match (self.frames, self.end) {
            (1.., _) => Some(Ok(Frame::data(self.frame()))),
            (0, End::Whole) => None,
            (0, End::Failed) => Some(Err("the client has gone")),
            (0, End::Panicked) => panic::resume_unwind(Box::new("on purpose, without a message")),
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `upload` to a server without free capacity, and returns at the refusal, which comes at once.
async fn refused(bounds: RefusedUpload, upload: Upload) {
    refuse(bounds, Request::new(upload)).await;
}

async fn refuse(bounds: RefusedUpload, request: Request<Upload>) {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let inner = tower::service_fn(|_: Request<Upload>| {
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let seen = Arc::clone(&request.body().seen);
    let response = LoadShed::ratio(1.0)
        .budget(&budget)
        .refused_upload(bounds)
        .layer(inner)
        .call(request)
        .await;
    assert_eq!(response.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        seen.frames.load(Ordering::Relaxed),
        0,
        "read before the response"
    );
}

/// Returns the bytes that were read, and the time until the body was dropped, in milliseconds.
async fn read(bounds: RefusedUpload, upload: Upload) -> (usize, u128) {
    let (seen, start) = (Arc::clone(&upload.seen), Instant::now());
    refused(bounds, upload).await;
    while seen.dropped.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen.in_memory.load(Ordering::Relaxed), 0);
    // Each frame is dropped before the next is read.
    assert!(seen.most_in_memory.load(Ordering::Relaxed) <= 1);
    (
        seen.bytes.load(Ordering::Relaxed),
        start.elapsed().as_millis(),
    )
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

#[tokio::test(start_paused = true)]
async fn p17_a_refused_upload_is_read_to_its_end_after_the_response() {
    let _alone = alone();
    let forty = Upload::large(40, SECOND);
    assert_read(
        read(RefusedUpload::default(), forty).await,
        40 * MIB,
        41_000,
    );
    let as_large_as_allowed = Upload::large(64, Duration::from_millis(1));
    assert_eq!(
        read(RefusedUpload::default(), as_large_as_allowed).await.0,
        64 * MIB
    );
    let nothing = Upload::large(0, Duration::ZERO);
    assert_read(read(RefusedUpload::default(), nothing).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_is_read_within_the_default_bounds() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    // Endless, with pauses and without: up to the frame that exceeds 64 MiB.
    for pause in [Duration::from_millis(1), Duration::ZERO] {
        let (bytes, _) = read(bounds, Upload::large(usize::MAX, pause)).await;
        assert_eq!(bytes, 65 * MIB);
    }
    // A byte a second: for 60 s.
    let slow = Upload::new(usize::MAX, 1, SECOND);
    assert_read(read(bounds, slow).await, 60, 60_000);
    let slower = Upload::new(usize::MAX, 1, Duration::from_millis(4_500));
    assert_read(read(bounds, slower).await, 13, 60_000);
    // Silent: for 5 s.
    let silent = Upload::large(1, 3600 * SECOND);
    assert_read(read(bounds, silent).await, 0, 5_000);
}

#[tokio::test(start_paused = true)]
async fn p17_the_bounds_are_settings() {
    let _alone = alone();
    let endless = || Upload::new(usize::MAX, 100, SECOND);
    let bytes = RefusedUpload::default().max_bytes(1_000);
    assert_read(read(bytes, endless()).await, 1_100, 11_000);
    let time = RefusedUpload::default().timeout(Duration::from_millis(3_500));
    assert_read(read(time, endless()).await, 300, 3_500);
    let idle = RefusedUpload::default().idle_timeout(Duration::from_millis(900));
    assert_read(read(idle, endless()).await, 0, 900);
    let longer = RefusedUpload::default().timeout(120 * SECOND);
    assert_read(read(longer, endless()).await, 12_000, 120_000);
    assert_read(read(RefusedUpload::none(), endless()).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_at_most_256_uploads_are_read_at_once_and_further_uploads_are_dropped() {
    let _alone = alone();
    let seen = Arc::default();
    for _ in 0..300 {
        refused(
            RefusedUpload::default(),
            Upload::large(3, SECOND).watched_by(&seen),
        )
        .await;
    }
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 300 - 256);
    sleep(5 * SECOND).await;
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 300);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 256 * 3 * MIB);
    // In memory at any time: at most a frame of each.
    assert!(seen.most_in_memory.load(Ordering::Relaxed) <= 256);
    // Then there is free capacity again.
    assert_eq!(
        read(RefusedUpload::default(), Upload::large(2, SECOND))
            .await
            .0,
        2 * MIB
    );
}

#[tokio::test(start_paused = true)]
async fn p17_concurrent_uploads_are_counted_over_all_layers() {
    let _alone = alone();
    let seen = Arc::default();
    let upload = || Upload::large(3, SECOND).watched_by(&seen);
    let dropped = || seen.dropped.load(Ordering::Relaxed);
    let two = RefusedUpload::default().max_concurrent(2);
    for (bounds, expected) in [
        (two, 0),
        (two, 0),
        (two, 1),
        (RefusedUpload::default(), 1),
        (two, 2),
    ] {
        refused(bounds, upload()).await;
        assert_eq!(dropped(), expected);
    }
    sleep(5 * SECOND).await;
    assert_eq!(dropped(), 5);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 3 * 3 * MIB);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_that_fails_or_panics_counts_no_longer() {
    let _alone = alone();
    let one = RefusedUpload::default().max_concurrent(1);
    for end in [End::Failed, End::Panicked, End::Failed, End::Whole] {
        let upload = Upload::large(2, SECOND).that_ends(end);
        assert_read(read(one, upload).await, 2 * MIB, 3_000);
    }
}

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
