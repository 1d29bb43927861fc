//! An upload whose frames and drops are counted.

use std::{
    future::Future,
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
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::MIB;

/// An upload: a frame after each pause.
pub(crate) struct Upload {
    frames: usize,
    size: usize,
    pause: Duration,
    /// Whether the size hint is the rest.
    is_announced: bool,
    /// Whether all frames but the first have a byte.
    pub(crate) then_small: bool,
    end: End,
    next: Option<Pin<Box<Sleep>>>,
    pub(crate) seen: Arc<Seen>,
}

#[derive(Clone, Copy)]
pub(crate) enum End {
    Whole,
    Failed,
    Panicked,
}

/// The log of an upload.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) frames: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
    /// The frames in memory now, and the most frames in memory at once.
    pub(crate) in_memory: AtomicUsize,
    pub(crate) most_in_memory: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
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
    pub(crate) fn new(frames: usize, size: usize, pause: Duration) -> Self {
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
    pub(crate) fn large(frames: usize, pause: Duration) -> Self {
        Self::new(frames, MIB, pause)
    }

    pub(crate) fn that_ends(mut self, end: End) -> Self {
        self.end = end;
        self
    }

    pub(crate) fn announced(mut self) -> Self {
        self.is_announced = true;
        self
    }

    pub(crate) fn watched_by(mut self, seen: &Arc<Seen>) -> Self {
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
