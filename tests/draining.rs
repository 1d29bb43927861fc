//! The unread body of a refused request is read after the answer, within bounds.

use std::{
    convert::Infallible,
    future::{Future, ready},
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
use loadshed::{Budget, LoadShed, Threshold};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer, Service};

const FRAME: usize = 1 << 20;

/// An upload: a frame of a MiB after each pause, until there are no more.
struct Upload {
    frames: usize,
    pause: Duration,
    next: Pin<Box<Sleep>>,
    seen: Arc<Seen>,
}

/// What became of it.
#[derive(Default)]
struct Seen {
    bytes: AtomicUsize,
    dropped: AtomicUsize,
}

impl Upload {
    fn new(frames: usize, pause: Duration, seen: &Arc<Seen>) -> Self {
        Self {
            frames,
            pause,
            next: Box::pin(sleep(pause)),
            seen: Arc::clone(seen),
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.frames == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.next.as_mut().poll(cx));
        let next = Instant::now() + self.pause;
        self.next.as_mut().reset(next);
        self.frames -= 1;
        self.seen.bytes.fetch_add(FRAME, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; FRAME])))))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.seen.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends `upload` to a server that is full, and returns once the refusal is there: at once.
async fn refused(upload: Upload) {
    refuse(Request::new(upload)).await;
}

async fn refuse(request: Request<Upload>) {
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(Threshold::NEVER).unwrap();
    let inner = tower::service_fn(|_: Request<Upload>| {
        ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
    });
    let before = Instant::now();
    let response = LoadShed::ratio(1.0)
        .budget(&budget)
        .layer(inner)
        .call(request)
        .await;
    assert_eq!(response.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(Instant::now(), before);
}

/// The bytes that were read, and how long it took until the body was dropped.
async fn fate(frames: usize, pause: Duration) -> (usize, Duration) {
    let (seen, start) = (Arc::default(), Instant::now());
    refused(Upload::new(frames, pause, &seen)).await;
    while seen.dropped.load(Ordering::Relaxed) == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let rounded = Duration::from_secs(start.elapsed().as_secs());
    (seen.bytes.load(Ordering::Relaxed), rounded)
}

// One test, as the bound on drains is the process's.
#[tokio::test(start_paused = true)]
async fn p17_a_refused_upload_is_read_after_the_answer_within_bounds() {
    let second = Duration::from_secs(1);
    // To its end, where that is within bounds.
    assert_eq!(fate(40, second).await, (40 * FRAME, 40 * second));
    // An endless one: until it is more than 64 MiB.
    let (bytes, _) = fate(usize::MAX, Duration::from_millis(1)).await;
    assert_eq!(bytes, 65 * FRAME);
    // A slow one: for a minute.
    let (bytes, took) = fate(100, Duration::from_millis(4_500)).await;
    assert_eq!((bytes, took), (13 * FRAME, 60 * second));
    // A silent one: for five seconds.
    assert_eq!(fate(1, 3600 * second).await, (0, 5 * second));

    // Many: 256 at once. The rest is dropped as it is.
    let seen = Arc::default();
    for _ in 0..300 {
        refused(Upload::new(3, second, &seen)).await;
    }
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 300 - 256);
    sleep(4 * second).await;
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 300);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 256 * 3 * FRAME);
    // And there is room again.
    assert_eq!(fate(2, second).await, (2 * FRAME, 2 * second));
}

#[tokio::test(start_paused = true)]
async fn p17_a_body_that_waits_for_a_100_is_never_asked_for() {
    let seen = Arc::default();
    let mut request = Request::new(Upload::new(1, Duration::ZERO, &seen));
    let expects = HeaderValue::from_static("100-continue");
    request.headers_mut().insert(header::EXPECT, expects);
    refuse(request).await;
    assert_eq!(seen.dropped.load(Ordering::Relaxed), 1);
    assert_eq!(seen.bytes.load(Ordering::Relaxed), 0);
}
