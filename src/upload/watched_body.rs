use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::watch::UploadWatch;

pin_project! {
    /// A request body that is watched: it passes everything on, and notes when the handler waits for its client.
    ///
    /// A layer makes it for [`LoadShed::watch_uploads`](crate::LoadShed::watch_uploads). Frames, trailers, errors, the size
    /// hint and the end of the stream are those of the inner body. The inner body is polled only when this body is.
    pub struct WatchedBody<B> {
        #[pin]
        body: B,
        reading: Reading,
    }
}

/// The reading of an upload. A drop ends the wait for the client: the handler works without it from then on.
struct Reading(Arc<UploadWatch>);

impl<B> WatchedBody<B> {
    pub(crate) fn new(body: B, watch: Arc<UploadWatch>) -> Self {
        Self {
            body,
            reading: Reading(watch),
        }
    }
}

impl<B: Body> Body for WatchedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let polled = this.body.poll_frame(cx);
        match &polled {
            Poll::Pending => this.reading.0.client_wait_begins(),
            Poll::Ready(frame) => this.reading.0.client_wait_ends(length(frame.as_ref())),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn length<D: Buf, E>(frame: Option<&Result<Frame<D>, E>>) -> u64 {
    let data = frame.and_then(|frame| frame.as_ref().ok()?.data_ref());
    data.map_or(0, |data| data.remaining() as u64)
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.client_wait_ends(0);
    }
}

impl<B: fmt::Debug> fmt::Debug for WatchedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedBody").field(&self.body).finish()
    }
}
