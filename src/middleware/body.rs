use std::{
    fmt, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{attached::Attached, measurement::End, stalled};
use crate::{
    admission::{permit::CountPermit, shared_permit::SharedPermit},
    protocol::refusal::{http_response::problem, refusal::RefusalText},
};

pin_project! {
    /// The response body of [`LoadShedService`](crate::LoadShedService): the inner service's body with the request's
    /// permit, or the body of a refusal.
    ///
    /// The permit is released with the last frame, on an error, or when the body is dropped, whichever comes first. A
    /// body that is at its end from the start never holds a permit.
    ///
    /// A frame of more than 64 KiB is handed on in pieces of 64 KiB, without a copy: a server takes a frame whole, and polls for
    /// the next one once its buffer has free space. So the permit is held until the last piece is in the server's buffer.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Served {
            #[pin]
            body: B,
            attached: Attached,
        },
        // Of a refusal: variants of their own, which fit into two words with the tag.
        Problem { status: StatusCode },
        Written { text: Box<Bytes> },
        // The text of a refusal was taken, or there was none.
        End,
    }
}

impl<B> ResponseBody<B> {
    #[inline]
    pub(crate) fn served(body: B, attached: Attached) -> Self {
        Self {
            kind: Kind::Served { body, attached },
        }
    }

    pub(crate) fn refused(text: RefusalText) -> Self {
        let kind = match text {
            RefusalText::Empty => Kind::End,
            RefusalText::Problem(status) => Kind::Problem { status },
            RefusalText::Written(text) => Kind::Written {
                text: Box::new(text),
            },
        };
        Self { kind }
    }
}

impl<B> Default for ResponseBody<B> {
    /// Returns an empty body.
    fn default() -> Self {
        Self::refused(RefusalText::Empty)
    }
}

/// The most bytes that are handed on at a time.
const PIECE: usize = 64 << 10;

#[inline]
fn is_large(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_some_and(|data| data.len() > PIECE)
}

/// Returns the first piece of a frame, and puts the rest aside.
#[inline]
fn split(frame: Frame<Bytes>, attached: &mut Attached) -> Frame<Bytes> {
    match is_large(&frame) {
        true => split_large(frame, attached),
        false => frame,
    }
}

#[cold]
fn split_large(frame: Frame<Bytes>, attached: &mut Attached) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(mut data) => {
            let piece = data.split_to(PIECE);
            attached.put_aside(data);
            Frame::data(piece)
        }
        Err(frame) => frame,
    }
}

/// Sees to a permit whose response has stalled.
///
/// # Errors
///
/// If the response must not go on.
#[cold]
fn resume<E: 'static>(permit: &mut CountPermit) -> Result<(), E> {
    let CountPermit::Shared(shared) = permit else {
        return Ok(());
    };
    if SharedPermit::resume(shared) {
        return Ok(());
    }
    let Some(error) = stalled::error(shared.stalls()) else {
        SharedPermit::resume_anyway(shared);
        return Ok(());
    };
    *permit = CountPermit::EMPTY;
    Err(error)
}

/// The result of a poll of a body.
type Polled<E> = Poll<Option<Result<Frame<Bytes>, E>>>;

/// Polls the inner body of a request that nothing but its permit follows.
#[inline]
fn poll_plain<B: Body<Data = Bytes>>(
    mut body: Pin<&mut B>,
    attached: &mut Attached,
    cx: &mut Context<'_>,
) -> Polled<B::Error> {
    let frame = ready!(body.as_mut().poll_frame(cx));
    // In place: a frame that is taken apart is copied.
    if let Some(Ok(some)) = &frame
        && (!body.is_end_stream() || is_large(some))
        && attached.permit().is_held()
    {
        return Poll::Ready(goes_on(frame, attached));
    }
    *attached.permit_mut() = CountPermit::EMPTY;
    Poll::Ready(frame)
}

/// Hands on a frame that is not the last one, or not whole: from now on the sweep of stalled responses knows the response.
#[cold]
#[inline(never)]
fn goes_on<E>(
    frame: Option<Result<Frame<Bytes>, E>>,
    attached: &mut Attached,
) -> Option<Result<Frame<Bytes>, E>> {
    let frame = frame.map(|frame| frame.map(|frame| split(frame, attached)));
    attached.watch_for_stall();
    frame
}

/// Polls the inner body of a request that others know, or that is measured.
#[inline(never)]
fn poll_watched<B: Body<Data = Bytes, Error: 'static>>(
    mut body: Pin<&mut B>,
    attached: &mut Attached,
    cx: &mut Context<'_>,
) -> Polled<B::Error> {
    if let permit @ CountPermit::Shared(_) = attached.permit_mut()
        && let Err(error) = resume(permit)
    {
        attached.forget_aside();
        let failed = Err(error);
        attached.frame(Some(&failed), End::Now);
        return Poll::Ready(Some(failed));
    }
    let frame = match attached.next_aside(PIECE) {
        Some(piece) => {
            if let CountPermit::Shared(shared) = attached.permit() {
                shared.polled(false);
            }
            Some(Ok(Frame::data(piece)))
        }
        None => {
            let polled = attached.inside(|| body.as_mut().poll_frame(cx));
            if let CountPermit::Shared(shared) = attached.permit() {
                // The body may call inner services under the same budget.
                shared.works_on();
                shared.polled(polled.is_pending());
            }
            match ready!(polled) {
                Some(Ok(frame)) if attached.permit().is_held() => Some(Ok(split(frame, attached))),
                frame => frame,
            }
        }
    };
    let is_last = attached.bytes_aside() == 0 && body.is_end_stream();
    let end = if matches!(frame, Some(Ok(_))) && !is_last {
        if attached.permit().is_held() {
            attached.watch_for_stall();
        }
        End::Later
    } else {
        *attached.permit_mut() = CountPermit::EMPTY;
        End::Now
    };
    attached.frame(frame.as_ref(), end);
    Poll::Ready(frame)
}

impl<B: Body<Data = Bytes, Error: 'static>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled<B::Error> {
        let mut kind = self.project().kind;
        let text = match kind.as_mut().project() {
            KindProj::Served { body, attached } => {
                return match attached {
                    Attached::Permit(CountPermit::Own(_)) => poll_plain(body, attached, cx),
                    _ => poll_watched(body, attached, cx),
                };
            }
            KindProj::Problem { status } => problem(*status),
            KindProj::Written { text } => mem::take(&mut **text),
            KindProj::End => return Poll::Ready(None),
        };
        kind.set(Kind::End);
        Poll::Ready(Some(Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Served { body, attached } => attached.bytes_aside() == 0 && body.is_end_stream(),
            Kind::Problem { .. } | Kind::Written { .. } => false,
            Kind::End => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Served { body, attached } => {
                let mut hint = body.size_hint();
                let aside = attached.bytes_aside() as u64;
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper + aside);
                }
                hint.set_lower(hint.lower() + aside);
                hint
            }
            Kind::Problem { status } => SizeHint::with_exact(problem(*status).len() as u64),
            Kind::Written { text } => SizeHint::with_exact(text.len() as u64),
            Kind::End => SizeHint::with_exact(0),
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Served { attached, .. } => format!("Served({:?})", attached.permit()),
            Kind::Problem { status } => format!("Refused({status})"),
            Kind::Written { text } => format!("Refused({text:?})"),
            Kind::End => "Refused".to_owned(),
        };
        f.debug_tuple("ResponseBody").field(&kind).finish()
    }
}

#[cfg(all(test, not(loadshed_loom)))]
mod tests {
    use super::*;

    /// The size of a body over that of the inner one.
    fn more<B>() -> usize {
        size_of::<ResponseBody<B>>() - size_of::<B>()
    }

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn p17_a_body_is_two_words_larger_than_the_inner_one() {
        assert_eq!(more::<http_body_util::Empty<Bytes>>(), 16);
        assert_eq!(more::<http_body_util::Full<Bytes>>(), 16);
        assert_eq!(
            more::<http_body_util::combinators::UnsyncBoxBody<Bytes, ()>>(),
            16
        );
        assert_eq!(
            more::<http_body_util::combinators::BoxBody<Bytes, ()>>(),
            16
        );
        #[cfg(feature = "axum")]
        assert_eq!(more::<axum::body::Body>(), 16);
    }
}
