use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
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

/// The number of uploads that one layer is reading. `Relaxed`, as [`READERS`].
#[derive(Debug, Default)]
pub(crate) struct LayerReaders(Arc<AtomicUsize>);

/// Returns whether the client sends more of the request.
#[inline]
pub(crate) fn has_more<B: Body>(request: &Request<B>) -> bool {
    // A client that sent `Expect: 100-continue` has not sent its body yet. A read would ask for the body.
    !request.body().is_end_stream() && !request.headers().contains_key(EXPECT)
}

/// Reads `body` in the background, if there is a tokio runtime and the layer may read one more upload.
///
/// `refuses_from` returns from when on the budget refuses new requests, where it drains.
pub(crate) fn read<B: Body + Send + 'static>(
    bounds: RefusedUpload,
    layer: &LayerReaders,
    refuses_from: impl Fn() -> Option<Instant> + Send + 'static,
    body: B,
) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if let Some(reader) = Reader::begin(bounds, layer) {
        runtime.spawn(reader.read(Box::pin(body), refuses_from));
    }
}

/// Reads one body, and counts in [`READERS`] until it is dropped.
struct Reader {
    bounds: RefusedUpload,
    begin: Instant,
    bytes: usize,
    _of_layer: LayerReader,
}

/// Counts in the number of its layer until it is dropped.
struct LayerReader {
    layer: Arc<AtomicUsize>,
    /// The number of uploads that the layer was reading before.
    others: usize,
}

/// How often a reader looks at the rate of its upload, and whether the budget drains.
const LOOK: Duration = Duration::from_secs(1);

/// How long an upload is read once the budget refuses new requests: promise 26. A client that is sending sees the response in
/// this time, and a server that stops waits no longer.
const WHILE_DRAINING: Duration = Duration::from_secs(2);

impl LayerReader {
    fn begin(LayerReaders(layer): &LayerReaders) -> Self {
        Self {
            layer: Arc::clone(layer),
            others: layer.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for LayerReader {
    fn drop(&mut self) {
        self.layer.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reader {
    /// Returns `None` if the layer reads as many uploads as are left for it: see [`RefusedUpload::max_concurrent`].
    fn begin(bounds: RefusedUpload, layer: &LayerReaders) -> Option<Self> {
        // First: two uploads of a layer that begin at once have different numbers of others.
        let of_layer = LayerReader::begin(layer);
        let more = |readers| {
            let free = bounds.max_concurrent.saturating_sub(readers);
            (of_layer.others < free).then_some(readers + 1)
        };
        READERS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self {
            bounds,
            begin: Instant::now(),
            bytes: 0,
            _of_layer: of_layer,
        })
    }

    async fn read<B: Body>(
        mut self,
        mut body: Pin<Box<B>>,
        refuses_from: impl Fn() -> Option<Instant>,
    ) {
        let mut now = self.begin;
        let mut idle_end = now + self.bounds.idle_timeout;
        while self.reads_on(&body, now) {
            // A body that is always ready must not keep the thread to itself.
            consume_budget().await;
            let end = self.end(refuses_from()).min(idle_end);
            let frame = poll_fn(|cx| body.as_mut().poll_frame(cx));
            let frame = timeout_at(end.min(self.next_look(now)), frame).await;
            now = Instant::now();
            match frame {
                Ok(Some(Ok(frame))) => {
                    let data = frame.into_data().ok();
                    let more = data.map_or(0, |data| data.remaining());
                    self.bytes = self.bytes.saturating_add(more);
                    idle_end = now + self.bounds.idle_timeout;
                }
                Err(_) if now < end => {}
                // Timed out, at the end of the body, or failed.
                _ => return,
            }
            if now >= end {
                return;
            }
        }
    }

    /// Returns whether the rest of the body is wanted, and arrives in time.
    fn reads_on<B: Body>(&self, body: &B, now: Instant) -> bool {
        self.bytes <= self.bounds.max_bytes
            && !body.is_end_stream()
            && self.is_fast_enough(body.size_hint().lower(), now - self.begin)
    }

    /// Returns whether the upload is as fast as the minimum rate, and its announced `rest` arrives within the timeout at the rate
    /// seen so far.
    fn is_fast_enough(&self, rest: u64, elapsed: Duration) -> bool {
        if elapsed < self.bounds.idle_timeout {
            return true;
        }
        let rate = self.bytes as f64 / elapsed.as_secs_f64();
        let left = self.bounds.timeout.saturating_sub(elapsed);
        rate >= self.bounds.min_rate as f64 && rest as f64 <= rate * left.as_secs_f64()
    }

    /// Returns when the rate is looked at next. The first time is after the idle timeout: until then a client may be silent.
    fn next_look(&self, now: Instant) -> Instant {
        let (next, first) = (now + LOOK, self.begin + self.bounds.idle_timeout);
        if now < first { next.min(first) } else { next }
    }

    /// Returns when the upload is no longer read, whatever its rate.
    fn end(&self, refuses_from: Option<Instant>) -> Instant {
        let end = self.begin + self.bounds.timeout;
        let draining = refuses_from.map(|from| from.max(self.begin) + WHILE_DRAINING);
        draining.map_or(end, |draining| draining.min(end))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::Relaxed);
    }
}
