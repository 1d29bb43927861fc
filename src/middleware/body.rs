use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::measurement::{BodyMeasurement, End};
use crate::admission::held::CountPermit;

pin_project! {
    /// The response body of [`LoadShedService`](crate::LoadShedService): the inner service's body with the request's
    /// permit, or the body of a refusal.
    ///
    /// The permit is given back at the last frame, on an error, or when the body is dropped, whichever comes first. A
    /// body that is at its end from the start never holds a permit.
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
            // Declared after the permit: a sample may close a window, which takes longer.
            measurement: BodyMeasurement,
        },
        Refused {
            text: Option<Bytes>,
        },
    }
}

impl<B: Body> ResponseBody<B> {
    pub(crate) fn served(body: B, permit: CountPermit, measurement: BodyMeasurement) -> Self {
        // hyper never polls such a body, it asks `is_end_stream` alone.
        let permit = if body.is_end_stream() {
            CountPermit::default()
        } else {
            permit
        };
        Self {
            kind: Kind::Served {
                body,
                permit,
                measurement,
            },
        }
    }
}

impl<B> ResponseBody<B> {
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

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
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
            KindProj::Served {
                mut body,
                permit,
                measurement,
            } => {
                measurement.enter();
                let polled = body.as_mut().poll_frame(cx);
                measurement.leave();
                let frame = ready!(polled);
                let end = if matches!(frame, Some(Ok(_))) && !body.is_end_stream() {
                    End::Later
                } else {
                    *permit = CountPermit::default();
                    End::Now
                };
                measurement.frame(frame.as_ref(), end);
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Served { body, .. } => body.is_end_stream(),
            Kind::Refused { text } => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Served { body, .. } => body.size_hint(),
            Kind::Refused { text } => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Served { permit, .. } => format!("Served({permit:?})"),
            Kind::Refused { text } => format!("Refused({text:?})"),
        };
        f.debug_tuple("ResponseBody").field(&kind).finish()
    }
}
