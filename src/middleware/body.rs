use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{
    measurement::{BodyMeasurement, End},
    stalled,
};
use crate::admission::{permit::CountPermit, shared_permit::SharedPermit};

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
            permit: CountPermit,
            // The rest of a large frame. In a box, as each response body would be larger.
            rest: Option<Box<Bytes>>,
        },
        Measured {
            #[pin]
            body: B,
            permit: CountPermit,
            // Declared after the permit: a sample may close a window, which takes longer.
            measurement: BodyMeasurement,
            rest: Option<Box<Bytes>>,
        },
        Refused {
            text: Option<Bytes>,
        },
    }
}

impl<B> ResponseBody<B> {
    #[inline]
    pub(crate) fn served(body: B, permit: CountPermit) -> Self {
        Self {
            kind: Kind::Served {
                body,
                permit,
                rest: None,
            },
        }
    }

    pub(crate) fn measured(body: B, permit: CountPermit, measurement: BodyMeasurement) -> Self {
        Self {
            kind: Kind::Measured {
                body,
                permit,
                measurement,
                rest: None,
            },
        }
    }

    pub(crate) fn refused(text: Bytes) -> Self {
        Self {
            kind: Kind::Refused {
                text: Some(text).filter(|text| !text.is_empty()),
            },
        }
    }
}

impl<B> Default for ResponseBody<B> {
    /// Returns an empty body.
    fn default() -> Self {
        Self::refused(Bytes::new())
    }
}

/// The most bytes that are handed on at a time.
const PIECE: usize = 64 << 10;

/// Returns the first piece of a frame, and puts the rest aside.
#[inline]
fn split(frame: Frame<Bytes>, rest: &mut Option<Box<Bytes>>) -> Frame<Bytes> {
    if frame.data_ref().is_none_or(|data| data.len() <= PIECE) {
        return frame;
    }
    split_large(frame, rest)
}

#[cold]
fn split_large(frame: Frame<Bytes>, rest: &mut Option<Box<Bytes>>) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(mut data) => {
            let piece = data.split_to(PIECE);
            *rest = Some(Box::new(data));
            Frame::data(piece)
        }
        Err(frame) => frame,
    }
}

/// Returns the next piece of the frame that was put aside.
#[cold]
fn next_piece(rest: &mut Option<Box<Bytes>>) -> Option<Frame<Bytes>> {
    let data = rest.as_mut()?;
    let piece = data.split_to(PIECE.min(data.len()));
    if data.is_empty() {
        *rest = None;
    }
    Some(Frame::data(piece))
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

/// Polls the inner body, whose frames the permit and the measurement follow.
fn poll_inner<B: Body<Data = Bytes, Error: 'static>>(
    mut body: Pin<&mut B>,
    permit: &mut CountPermit,
    measurement: &mut BodyMeasurement,
    rest: &mut Option<Box<Bytes>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
    if let CountPermit::Shared(_) = permit
        && let Err(error) = resume(permit)
    {
        *rest = None;
        let failed = Err(error);
        measurement.frame(Some(&failed), End::Now);
        return Poll::Ready(Some(failed));
    }
    let piece = match rest {
        Some(_) => next_piece(rest),
        None => None,
    };
    let frame = match piece {
        Some(piece) => {
            if let CountPermit::Shared(shared) = permit {
                shared.polled(false);
            }
            Some(Ok(piece))
        }
        None => {
            measurement.enter();
            let polled = body.as_mut().poll_frame(cx);
            measurement.leave();
            if let CountPermit::Shared(shared) = permit {
                // The body may call inner services under the same budget.
                shared.works_on();
                shared.polled(polled.is_pending());
            }
            let frame = ready!(polled);
            match frame {
                Some(Ok(frame)) if permit.is_held() => Some(Ok(split(frame, rest))),
                frame => frame,
            }
        }
    };
    let is_last = rest.is_none() && body.is_end_stream();
    let end = if matches!(frame, Some(Ok(_))) && !is_last {
        if permit.is_held() {
            measurement.watch_for_stall(permit);
        }
        End::Later
    } else {
        *permit = CountPermit::EMPTY;
        End::Now
    };
    measurement.frame(frame.as_ref(), end);
    Poll::Ready(frame)
}

impl<B: Body<Data = Bytes, Error: 'static>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Refused { text } => {
                Poll::Ready(text.take().map(|text| Ok(Frame::data(text))))
            }
            KindProj::Served { body, permit, rest } => {
                poll_inner(body, permit, &mut BodyMeasurement::default(), rest, cx)
            }
            KindProj::Measured {
                body,
                permit,
                measurement,
                rest,
            } => poll_inner(body, permit, measurement, rest, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Served { body, rest, .. } | Kind::Measured { body, rest, .. } => {
                rest.is_none() && body.is_end_stream()
            }
            Kind::Refused { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Served { body, rest, .. } | Kind::Measured { body, rest, .. } => {
                let mut hint = body.size_hint();
                if let Some(rest) = rest {
                    let rest = rest.len() as u64;
                    if let Some(upper) = hint.upper() {
                        hint.set_upper(upper + rest);
                    }
                    hint.set_lower(hint.lower() + rest);
                }
                hint
            }
            Kind::Refused { text } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Served { permit, .. } | Kind::Measured { permit, .. } => {
                format!("Served({permit:?})")
            }
            Kind::Refused { text } => format!("Refused({text:?})"),
        };
        f.debug_tuple("ResponseBody").field(&kind).finish()
    }
}
