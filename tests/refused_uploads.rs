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
use http_body::{Body, Frame, SizeHint};
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
    /// Whether the size hint is the rest.
    is_announced: bool,
    /// Whether all frames but the first have a byte.
    then_small: bool,
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
            is_announced: false,
            then_small: false,
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

    fn announced(mut self) -> Self {
        self.is_announced = true;
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
        let data = Data {
            data: &[0; MIB][..self.size],
            seen: Arc::clone(seen),
        };
        if self.then_small {
            self.size = 1;
        }
        Bytes::from_owner(data)
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

    fn size_hint(&self) -> SizeHint {
        if self.is_announced {
            SizeHint::with_exact(self.frames.saturating_mul(self.size) as u64)
        } else {
            SizeHint::default()
        }
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
    // 300 bytes a second: for 60 s.
    let slow = Upload::new(usize::MAX, 300, SECOND);
    assert_read(read(bounds, slow).await, 18_000, 60_000);
    let rare = Upload::large(usize::MAX, Duration::from_millis(4_500));
    assert_read(read(bounds, rare).await, 13 * MIB, 60_000);
    // Silent: for 5 s.
    let silent = Upload::large(1, 3600 * SECOND);
    assert_read(read(bounds, silent).await, 0, 5_000);
}

#[tokio::test(start_paused = true)]
async fn p17_the_bounds_are_settings() {
    let _alone = alone();
    let endless = || Upload::new(usize::MAX, 100, SECOND);
    let slow = RefusedUpload::default().min_rate(90);
    assert_read(read(slow, endless()).await, 6_000, 60_000);
    let bytes = slow.max_bytes(1_000);
    assert_read(read(bytes, endless()).await, 1_100, 11_000);
    let time = slow.timeout(Duration::from_millis(3_500));
    assert_read(read(time, endless()).await, 300, 3_500);
    let idle = slow.idle_timeout(Duration::from_millis(900));
    assert_read(read(idle, endless()).await, 0, 900);
    let longer = slow.timeout(120 * SECOND);
    assert_read(read(longer, endless()).await, 12_000, 120_000);
    assert_read(read(RefusedUpload::none(), endless()).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_below_the_minimum_rate_is_read_until_the_idle_timeout_has_passed() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    let tenth = Duration::from_millis(100);
    for (bounds, size, expected) in [
        // 200 uploads of a byte a second block a connection for 5 s, and not for a minute.
        (bounds, 1, 5_000),
        (bounds, 23, 5_000),
        (bounds, 26, 60_000),
        (bounds.min_rate(1_000), 90, 5_000),
        (bounds.min_rate(1_000), 110, 60_000),
        (bounds.min_rate(1_000).idle_timeout(2 * SECOND), 90, 2_000),
        (bounds.min_rate(1), 1, 60_000),
    ] {
        let (_, took) = read(bounds, Upload::new(usize::MAX, size, tenth)).await;
        assert!(about(expected)(took), "{size} bytes: {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_that_becomes_slow_is_dropped_once_its_mean_rate_is_below_the_minimum() {
    let _alone = alone();
    // 4,800 bytes in the first second, and then a byte now and then: at the minimum rate until 20 s.
    let seen = Arc::<Seen>::default();
    let mut upload = Upload::new(usize::MAX, 4_800, SECOND).watched_by(&seen);
    upload.then_small = true;
    let (_, took) = read(RefusedUpload::default(), upload).await;
    assert!((20_000..21_100).contains(&took), "{took} ms");
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_whose_announced_rest_cannot_arrive_in_time_is_read_for_5_s() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    let at_10_kb = |kilobytes: usize| Upload::new(kilobytes, 1_000, SECOND / 10).announced();
    for (kilobytes, expected) in [
        // In 50 s, in 59 s: to their ends.
        (500, 50_100),
        (590, 59_100),
        // In 61 s, in 100 s, never.
        (610, 5_000),
        (1_000, 5_000),
        (usize::MAX, 5_000),
    ] {
        let (_, took) = read(bounds, at_10_kb(kilobytes)).await;
        assert!(about(expected)(took), "{kilobytes} kB: {took} ms");
    }
    // A longer timeout is time for more, and a length that is not announced is not missed.
    let (bytes, _) = read(bounds.timeout(120 * SECOND), at_10_kb(1_000)).await;
    assert_eq!(bytes, 1_000_000);
    let (_, took) = read(bounds, Upload::new(usize::MAX, 1_000, SECOND / 10)).await;
    assert!(about(60_000)(took), "{took} ms");
}

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

#[tokio::test(start_paused = true)]
async fn p17_slow_uploads_to_a_layer_leave_reads_to_the_other_layers() {
    let _alone = alone();
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(Threshold::NEVER_SHED).unwrap();
    let [slow, other, third] = [(); 3].map(|()| LoadShed::ratio(1.0).budget(&budget));
    let trickled = Arc::<Seen>::default();
    let trickle = || Upload::new(usize::MAX, 250, SECOND).watched_by(&trickled);
    for nth in 0..256 {
        // A service of the same layer, and a clone of it, are the same layer.
        let slow = if nth % 2 == 0 { &slow } else { &slow.clone() };
        call(slow, Request::new(trickle())).await;
    }
    let unread = || trickled.dropped.load(Ordering::Relaxed);
    assert_eq!(unread(), 128);
    // 64 at once are read of the next layer, and 32 of the one after it.
    for (shed, reads) in [(&other, 64), (&third, 32)] {
        let seen = Arc::<Seen>::default();
        for _ in 0..reads {
            let upload = Upload::large(8, SECOND / 10).watched_by(&seen);
            call(shed, Request::new(upload)).await;
        }
        assert_eq!(seen.dropped.load(Ordering::Relaxed), 0);
        call(
            shed,
            Request::new(Upload::large(8, SECOND).watched_by(&seen)),
        )
        .await;
        assert_eq!(seen.dropped.load(Ordering::Relaxed), 1);
    }
    sleep(2 * SECOND).await;
    // One after the other, any number is read to its end.
    for _ in 0..20 {
        let seen = Arc::<Seen>::default();
        let upload = Upload::large(8, SECOND / 10).watched_by(&seen);
        call(&other, Request::new(upload)).await;
        assert_eq!(dropped(&seen).await, 8 * MIB);
    }
    assert_eq!(unread(), 128);
    sleep(60 * SECOND).await;
    assert_eq!(unread(), 256);
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
