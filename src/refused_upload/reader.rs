use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Buf;
use http::{Request, header::EXPECT};
use http_body::Body;
use tokio::{
    runtime::Handle,
    task::coop::consume_budget,
    time::{Instant, timeout_at},
};

use super::refused_upload::RefusedUpload;

/// The number of uploads that the process is reading.
///
/// # Memory ordering
///
/// `Relaxed`: the count orders no other memory access.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// Returns the number of uploads that the process is reading.
#[cfg(feature = "metrics")]
pub(crate) fn refused_uploads() -> usize {
    READERS.load(Ordering::Relaxed)
}

/// Returns whether the client sends more of the request.
#[inline]
pub(crate) fn has_more<B: Body>(request: &Request<B>) -> bool {
    // A client that sent `Expect: 100-continue` has not sent its body yet. A read would ask for the body.
    !request.body().is_end_stream() && !request.headers().contains_key(EXPECT)
}

/// Reads `body` in the background, if there is a tokio runtime and fewer uploads than `max_concurrent` are being read.
pub(crate) fn read<B: Body + Send + 'static>(bounds: RefusedUpload, body: B) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if let Some(reader) = Reader::begin(bounds) {
        runtime.spawn(reader.read(Box::pin(body)));
    }
}

/// Reads one body, and counts in [`READERS`] until it is dropped.
struct Reader {
    bounds: RefusedUpload,
}

impl Reader {
    /// Returns `None` if `max_concurrent` uploads are being read.
    fn begin(bounds: RefusedUpload) -> Option<Self> {
        let more = |readers| (readers < bounds.max_concurrent).then_some(readers + 1);
        READERS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self { bounds })
    }

    async fn read<B: Body>(self, mut body: Pin<Box<B>>) {
        let mut now = Instant::now();
        let end = now + self.bounds.timeout;
        let mut bytes = 0;
        while bytes <= self.bounds.max_bytes && now < end && !body.is_end_stream() {
            // A body that is always ready must not keep the thread to itself.
            consume_budget().await;
            let idle_end = end.min(now + self.bounds.idle_timeout);
            let frame = timeout_at(idle_end, poll_fn(|cx| body.as_mut().poll_frame(cx)));
            match frame.await {
                Ok(Some(Ok(frame))) => {
                    let data = frame.into_data().ok();
                    bytes = data.map_or(bytes, |data| bytes.saturating_add(data.remaining()));
                }
                // Timed out, at the end of the body, or failed.
                _ => return,
            }
            now = Instant::now();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}
