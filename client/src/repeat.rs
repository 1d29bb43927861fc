//! How a request body is had a second time.

use std::fmt;

use bytes::Bytes;
use http_body::Body;

use super::replay::Replay;

/// How a request body is had a second time: [`Cloned`], [`Replayed`] or [`Once`].
pub trait Repeat<B>: sealed::Repeat<B> {}

impl<B, C: sealed::Repeat<B>> Repeat<B> for C {}

pub(super) mod sealed {
    #[allow(unnameable_types, reason = "nobody else is to implement it")]
    pub trait Repeat<B>: Clone {
        /// What is kept of a body, beside the one that is sent.
        type Kept;

        fn keep(&self, body: B) -> Self::Kept;

        /// Another one, before the first is sent. `None` if there is none to be had.
        fn again(kept: &Self::Kept) -> Option<Self::Kept>;

        /// Whether all of the body is there to be sent again, after the first was sent.
        fn is_whole(kept: &Self::Kept) -> bool;

        /// The body to send.
        fn body(&self, kept: Self::Kept) -> B;
    }
}

/// The default: the body is [`Clone`], as are `Full<Bytes>`, `Empty` and `String`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cloned;

impl<B: Clone> sealed::Repeat<B> for Cloned {
    type Kept = B;

    fn keep(&self, body: B) -> B {
        body
    }

    fn again(kept: &B) -> Option<B> {
        Some(kept.clone())
    }

    fn is_whole(_: &B) -> bool {
        true
    }

    fn body(&self, kept: B) -> B {
        kept
    }
}

/// The body is kept while it is sent: see [`Backpressure::replay`](super::Backpressure::replay).
pub struct Replayed<B>(fn(Replay<B>) -> B);

impl<B> Replayed<B> {
    pub(super) fn new(wrap: fn(Replay<B>) -> B) -> Self {
        Self(wrap)
    }
}

impl<B> Clone for Replayed<B> {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

impl<B> fmt::Debug for Replayed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replayed")
    }
}

impl<B: Body<Data = Bytes> + Unpin> sealed::Repeat<B> for Replayed<B> {
    type Kept = Replay<B>;

    fn keep(&self, body: B) -> Replay<B> {
        Replay::new(body)
    }

    fn again(kept: &Replay<B>) -> Option<Replay<B>> {
        Some(kept.again())
    }

    fn is_whole(kept: &Replay<B>) -> bool {
        kept.is_whole()
    }

    fn body(&self, kept: Replay<B>) -> B {
        self.0(kept)
    }
}

/// No body is had a second time, so nothing is retried, and any body will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Once;

impl<B> sealed::Repeat<B> for Once {
    type Kept = B;

    fn keep(&self, body: B) -> B {
        body
    }

    fn again(_: &B) -> Option<B> {
        None
    }

    fn is_whole(_: &B) -> bool {
        false
    }

    fn body(&self, kept: B) -> B {
        kept
    }
}
