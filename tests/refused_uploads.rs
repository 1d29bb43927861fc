//! The unread body of a refused request is read after the answer, within bounds. How many are read at once is bounded in
//! the process, so these tests do not run at once.

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

/// An upload: a piece after each pause, until there are no more.
struct Upload {
    pieces: usize,
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

/// What became of it.
#[derive(Default)]
struct Seen {
    pieces: AtomicUsize,
    bytes: AtomicUsize,
    /// Pieces that somebody has in memory now, and the most of them at once.
    kept: AtomicUsize,
    most_kept: AtomicUsize,
    dropped: AtomicUsize,
}

/// A piece that tells when it is thrown away.
struct Piece {
    data: &'static [u8],
    seen: Arc<Seen>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.data
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.seen.kept.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upload {
    fn new(pieces: usize, size: usize, pause: Duration) -> Self {
        Self {
            pieces,
            size,
            pause,
            end: End::Whole,
            next: None,
            seen: Arc::default(),
        }
    }

    /// In pieces of a MiB.
    fn large(pieces: usize, pause: Duration) -> Self {
        Self::new(pieces, MIB, pause)
    }

    fn that_ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    fn watched_by(mut self, seen: &Arc<Seen>) -> Self {
        self.seen = Arc::clone(seen);
        self
    }

    fn piece(&mut self) -> Bytes {
        self.pieces -= 1;
        let seen = &self.seen;
        seen.pieces.fetch_add(1, Ordering::Relaxed);
        seen.bytes.fetch_add(self.size, Ordering::Relaxed);
        let kept = seen.kept.fetch_add(1, Ordering::Relaxed) + 1;
        seen.most_kept.fetch_max(kept, Ordering::Relaxed);
        Bytes::from_owner(Piece {
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
        Poll::Ready(match (self.pieces, self.end) {
            (1.., _) => Some(Ok(Frame::data(self.piece()))),
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

/// Sends `upload` to a server that is full, and returns once the refusal is there: at once.
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
        seen.pieces.load(Ordering::Relaxed),
        0,
        "read before the answer"
    );
}

/// The bytes that were read, and how long it took until the body was dropped, in milliseconds.
async fn fate(bounds: RefusedUpload, upload: Upload) -> (usize, u128) {
    let (seen, start) = (Arc::clone(&upload.seen), Instant::now());
    refused(bounds, upload).await;
    while seen.dropped.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen.kept.load(Ordering::Relaxed), 0);
    // It is thrown away piece by piece.
    assert!(seen.most_kept.load(Ordering::Relaxed) <= 1);
    (
        seen.bytes.load(Ordering::Relaxed),
        start.elapsed().as_millis(),
    )
}

/// To the millisecond that a timer may be late.
fn about(milliseconds: u128) -> impl Fn(u128) -> bool {
    move |took| (milliseconds..=milliseconds + 2).contains(&took)
}

#[track_caller]
fn assert_fate((bytes, took): (usize, u128), expected: usize, milliseconds: u128) {
    assert_eq!(bytes, expected);
    assert!(about(milliseconds)(took), "it took {took} ms");
}

#[tokio::test(start_paused = true)]
async fn p17_a_refused_upload_is_read_to_its_end_after_the_answer() {
    let _alone = alone();
    let forty = Upload::large(40, SECOND);
    assert_fate(
        fate(RefusedUpload::default(), forty).await,
        40 * MIB,
        41_000,
    );
    let as_large_as_allowed = Upload::large(64, Duration::from_millis(1));
    assert_eq!(
        fate(RefusedUpload::default(), as_large_as_allowed).await.0,
        64 * MIB
    );
    let nothing = Upload::large(0, Duration::ZERO);
    assert_fate(fate(RefusedUpload::default(), nothing).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_is_read_within_the_default_bounds() {
    let _alone = alone();
    let bounds = RefusedUpload::default();
    // Endless, with pauses and without: until it is more than 64 MiB.
    for pause in [Duration::from_millis(1), Duration::ZERO] {
        let (bytes, _) = fate(bounds, Upload::large(usize::MAX, pause)).await;
        assert_eq!(bytes, 65 * MIB);
    }
    // A byte a second: for a minute.
    let slow = Upload::new(usize::MAX, 1, SECOND);
    assert_fate(fate(bounds, slow).await, 60, 60_000);
    let slower = Upload::new(usize::MAX, 1, Duration::from_millis(4_500));
    assert_fate(fate(bounds, slower).await, 13, 60_000);
    // Silent: for five seconds.
    let silent = Upload::large(1, 3600 * SECOND);
    assert_fate(fate(bounds, silent).await, 0, 5_000);
}

#[tokio::test(start_paused = true)]
async fn p17_the_bounds_are_settings() {
    let _alone = alone();
    let endless = || Upload::new(usize::MAX, 100, SECOND);
    let bytes = RefusedUpload::default().max_bytes(1_000);
    assert_fate(fate(bytes, endless()).await, 1_100, 11_000);
    let time = RefusedUpload::default().timeout(Duration::from_millis(3_500));
    assert_fate(fate(time, endless()).await, 300, 3_500);
    let silence = RefusedUpload::default().idle_timeout(Duration::from_millis(900));
    assert_fate(fate(silence, endless()).await, 0, 900);
    let longer = RefusedUpload::default().timeout(120 * SECOND);
    assert_fate(fate(longer, endless()).await, 12_000, 120_000);
    assert_fate(fate(RefusedUpload::none(), endless()).await, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn p17_of_many_uploads_256_are_read_at_once_and_the_rest_is_dropped() {
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
    // In flight at any time: a piece of each at most.
    assert!(seen.most_kept.load(Ordering::Relaxed) <= 256);
    // And there is room again.
    assert_eq!(
        fate(RefusedUpload::default(), Upload::large(2, SECOND))
            .await
            .0,
        2 * MIB
    );
}

#[tokio::test(start_paused = true)]
async fn p17_how_many_are_read_at_once_is_counted_over_all_layers() {
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
async fn p17_an_upload_that_fails_or_panics_leaves_its_place_to_the_next() {
    let _alone = alone();
    let one = RefusedUpload::default().max_concurrent(1);
    for end in [End::Failed, End::Panicked, End::Failed, End::Whole] {
        let upload = Upload::large(2, SECOND).that_ends(end);
        assert_fate(fate(one, upload).await, 2 * MIB, 3_000);
    }
}

#[tokio::test(start_paused = true)]
async fn p17_an_upload_that_has_always_more_leaves_the_thread_to_others() {
    let _alone = alone();
    let seen = Arc::<Seen>::default();
    refused(
        RefusedUpload::default(),
        Upload::new(100_000, 1, Duration::ZERO).watched_by(&seen),
    )
    .await;
    let mut most = 0;
    while seen.dropped.load(Ordering::Relaxed) == 0 {
        let before = seen.pieces.load(Ordering::Relaxed);
        yield_now().await;
        most = most.max(seen.pieces.load(Ordering::Relaxed) - before);
    }
    assert!(most <= 1_000, "{most} in one go");
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 100_000);
}

// In real time, as a clock that is paused stands still for those who never wait.
#[tokio::test]
async fn p17_an_upload_of_nothing_but_empty_pieces_is_read_for_no_longer_either() {
    let _alone = alone();
    let bounds = RefusedUpload::default().timeout(Duration::from_millis(50));
    let (bytes, took) = fate(bounds, Upload::new(usize::MAX, 0, Duration::ZERO)).await;
    assert_eq!(bytes, 0);
    assert!(took >= 50, "{took}");
}

#[tokio::test(start_paused = true)]
async fn p17_a_body_that_waits_for_a_100_is_never_asked_for() {
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
fn p17_a_server_without_a_timer_refuses_as_ever_and_keeps_no_place() {
    let _alone = alone();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let upload = || Upload::large(1, Duration::ZERO);
    // The task that would read it panics, and has its one place back.
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
        tokio_test::block_on(fate(RefusedUpload::default().max_concurrent(1), upload()));
    assert_eq!(bytes, MIB);
}
