use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// A request body that keeps what passes through it, so that it can be sent again.
///
/// Up to 256 KiB are kept, which is what gRPC's own clients keep of a call. A longer body is sent once, as is one that
/// has not come to its end when the answer is there (a stream), one with trailers, and one that fails.
pub struct Replay<B> {
    kept: Arc<Mutex<Kept<B>>>,
    /// The next of the kept frames.
    next: usize,
}

/// gRPC C-core's `grpc.per_rpc_retry_buffer_size`.
const MOST: usize = 256 * 1_024;

struct Kept<B> {
    body: B,
    frames: Vec<Bytes>,
    length: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// What has passed is there, and there may be more to come.
    Open,
    /// All of it is there.
    Whole,
    /// It cannot be sent again.
    Lost,
}

impl<B: Body<Data = Bytes>> Replay<B> {
    pub(super) fn new(body: B) -> Self {
        let kept = Kept {
            body,
            frames: Vec::new(),
            length: 0,
            state: State::Open,
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
            next: 0,
        }
    }

    /// From the start. To be sent once [`is_whole`](Self::is_whole) says so, and not before.
    pub(super) fn again(&self) -> Self {
        Self {
            kept: Arc::clone(&self.kept),
            next: 0,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        let kept = self.kept();
        match kept.state {
            State::Open => kept.body.is_end_stream(),
            State::Whole => true,
            State::Lost => false,
        }
    }
}

impl<B> Replay<B> {
    /// The lock is one call's, and free: only one of its tries is sent at a time.
    fn kept(&self) -> MutexGuard<'_, Kept<B>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Body<Data = Bytes>> Kept<B> {
    fn keep(&mut self, frame: Option<&Result<Frame<Bytes>, B::Error>>) {
        if self.state != State::Open {
            return;
        }
        let data = match frame {
            None => return self.state = State::Whole,
            Some(Ok(frame)) => frame.data_ref(),
            Some(Err(_)) => None,
        };
        match data {
            Some(data) if data.len() <= MOST - self.length => {
                self.length += data.len();
                // Of empty ones there may be any number.
                if !data.is_empty() {
                    self.frames.push(data.clone());
                }
                if self.body.is_end_stream() {
                    self.state = State::Whole;
                }
            }
            _ => {
                self.state = State::Lost;
                self.frames = Vec::new();
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Replay<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut kept = self.kept();
        if let Some(frame) = kept.frames.get(self.next).cloned() {
            drop(kept);
            self.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if kept.state == State::Whole {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut kept.body).poll_frame(cx));
        kept.keep(frame.as_ref());
        let next = kept.frames.len();
        drop(kept);
        self.next = next;
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept();
        self.next == kept.frames.len() && (kept.state == State::Whole || kept.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept();
        if kept.state == State::Whole {
            let left = kept.frames.iter().skip(self.next).map(Bytes::len);
            return SizeHint::with_exact(left.sum::<usize>() as u64);
        }
        kept.body.size_hint()
    }
}

impl<B> fmt::Debug for Replay<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.kept();
        f.debug_struct("Replay")
            .field("state", &kept.state)
            .field("kept_bytes", &kept.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use futures_util::{FutureExt, stream};
    use http::HeaderMap;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    type Frames = VecDeque<Frame<Bytes>>;

    /// A body whose end shows only when it is polled for, as those of streams.
    fn of(frames: Frames) -> Replay<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        Replay::new(StreamBody::new(stream::iter(
            frames.into_iter().map(Ok::<_, Infallible>),
        )))
    }

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![7; length]))
    }

    fn text(body: impl Body<Data = Bytes, Error = Infallible>) -> Bytes {
        let collected = body.collect().now_or_never().expect("it does not wait");
        collected.unwrap().to_bytes()
    }

    #[test]
    fn a_short_body_is_had_again_as_often_as_wanted() {
        let first = of(Frames::from([data(3), data(0), data(4)]));
        let again = first.again();
        assert!(!again.is_whole());
        assert_eq!(text(first), [7; 7][..]);
        assert!(again.is_whole());
        for _ in 0..2 {
            assert_eq!(again.again().size_hint().exact(), Some(7));
            assert_eq!(text(again.again()), [7; 7][..]);
        }
    }

    #[test]
    fn an_end_that_nobody_polls_for_is_seen() {
        let mut first = Replay::new(Full::new(Bytes::from("text")));
        let again = first.again();
        assert_eq!(first.size_hint().exact(), Some(4));
        assert!(first.frame().now_or_never().unwrap().is_some());
        assert!(first.is_end_stream());
        assert!(again.is_whole() && !again.is_end_stream());
        assert_eq!(text(again), "text");
        // Of this one, nothing is ever polled.
        assert!(Replay::new(Full::<Bytes>::default()).is_whole());
    }

    #[test]
    fn pieces_of_nothing_take_no_memory() {
        let first = of((0..1_000).map(|_| data(0)).collect());
        let again = first.again();
        assert!(text(first).is_empty());
        assert!(again.is_whole());
        assert_eq!(again.kept().frames.capacity(), 0);
    }

    #[test]
    fn what_is_too_long_or_has_trailers_is_passed_on_and_not_kept() {
        let long = || Frames::from([data(MOST), data(1), data(5)]);
        let first = of(long());
        let again = first.again();
        assert_eq!(text(first).len(), MOST + 6);
        assert!(!again.is_whole());
        assert!(again.kept().frames.is_empty());

        let first = of(Frames::from([data(1), Frame::trailers(HeaderMap::new())]));
        let again = first.again();
        let sent = first.collect().now_or_never().unwrap().unwrap();
        assert!(sent.trailers().is_some());
        assert!(!again.is_whole());

        let first = of(Frames::from([data(MOST)]));
        let again = first.again();
        assert_eq!(text(first).len(), MOST);
        assert!(again.is_whole());
    }
}
