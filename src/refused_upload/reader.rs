use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Buf;
use http_body::Body;
use tokio::{
    task::coop::consume_budget,
    time::{Instant, timeout_at},
};

use super::refused_upload::RefusedUpload;

/// How many there are in the process.
///
/// # Memory ordering
///
/// `Relaxed`: a number that orders nothing.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// How many uploads are being read in the process.
#[cfg(feature = "metrics")]
pub(crate) fn refused_uploads() -> usize {
    READERS.load(Ordering::Relaxed)
}

/// Reads one body, and is counted until it is dropped.
pub(crate) struct Reader {
    bounds: RefusedUpload,
}

impl Reader {
    /// `None` if there are as many as there may be.
    pub(crate) fn begin(bounds: RefusedUpload) -> Option<Self> {
        let more = |readers| (readers < bounds.max_concurrent).then_some(readers + 1);
        READERS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self { bounds })
    }

    pub(crate) async fn read<B: Body>(self, mut body: Pin<Box<B>>) {
        let mut now = Instant::now();
        let end = now + self.bounds.timeout;
        let mut bytes = 0;
        while bytes <= self.bounds.max_bytes && now < end && !body.is_end_stream() {
            // A body that has always more must not keep the thread to itself.
            consume_budget().await;
            let idle_end = end.min(now + self.bounds.idle_timeout);
            let frame = timeout_at(idle_end, poll_fn(|cx| body.as_mut().poll_frame(cx)));
            match frame.await {
                Ok(Some(Ok(frame))) => {
                    let data = frame.into_data().ok();
                    bytes = data.map_or(bytes, |data| bytes.saturating_add(data.remaining()));
                }
                // Too slow, at its end, or failed.
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
