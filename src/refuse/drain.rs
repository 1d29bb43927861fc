//! The unread rest of a refused upload.
//!
//! A refusal is answered at once. But most clients write their whole request before they read the answer, and a body
//! that is dropped unread resets the stream or the connection under them: they then see the reset and lose the answer;
//! over HTTP/2, a connection with 1,024 such resets is closed by the server. So the rest is read and thrown away in the
//! background, within bounds, as an endless upload must not become a way to hold resources.
//!
//! The bounds in time need the runtime's timer (`enable_time`). Without one the task panics, after the answer.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Buf;
use http_body::Body;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

/// Of each body. The largest that mail servers and object stores take in one piece by default are below it.
const MOST_BYTES: usize = 64 << 20;

/// A slow line needs a minute for such a body, and clients give up after about as long.
const MOST_TIME: Duration = Duration::from_secs(60);

/// A client that sends nothing for as long has stopped, or means harm.
const MOST_SILENCE: Duration = Duration::from_secs(5);

/// In the process. Each is a task and a window of flow control, 64 KiB by default: 16 MiB in all.
const MOST_AT_ONCE: usize = 256;

/// Bodies that are being read now.
///
/// # Memory ordering
///
/// `Relaxed`: a number that orders nothing.
static DRAINS: AtomicUsize = AtomicUsize::new(0);

/// One of [`MOST_AT_ONCE`], until it is dropped.
struct Drain;

impl Drain {
    fn begin() -> Option<Self> {
        let more = |drains| (drains < MOST_AT_ONCE).then_some(drains + 1);
        DRAINS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        DRAINS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads `body` to its end in the background, if there is more of it, a runtime to do so, and room for one more.
pub(crate) fn drain<B>(body: B)
where
    B: Body + Send + 'static,
{
    if body.is_end_stream() {
        return;
    }
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    if let Some(drain) = Drain::begin() {
        runtime.spawn(async move {
            read(Box::pin(body)).await;
            drop(drain);
        });
    }
}

async fn read<B: Body>(mut body: Pin<Box<B>>) {
    let end = Instant::now() + MOST_TIME;
    let mut bytes = 0;
    while bytes <= MOST_BYTES && !body.is_end_stream() {
        let silence = end.min(Instant::now() + MOST_SILENCE);
        let frame = timeout_at(silence, poll_fn(|cx| body.as_mut().poll_frame(cx)));
        match frame.await {
            Ok(Some(Ok(frame))) => {
                let data = frame.into_data().ok();
                bytes += data.map_or(0, |data| data.remaining());
            }
            // Too slow, at its end, or failed.
            _ => return,
        }
    }
}
