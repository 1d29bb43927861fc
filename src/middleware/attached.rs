use std::mem;

use bytes::Bytes;
use http_body::Frame;

use super::measurement::{End, Measurement};
use crate::admission::permit::CountPermit;

/// What goes with the body of a response: the permit of its request, and what else watches it. In two words, as it makes each
/// response body larger.
pub(crate) enum Attached {
    /// Nothing but the permit, as most requests have.
    Permit(CountPermit),
    Watched(Box<Watched>),
}

const _: () = assert!(size_of::<Attached>() <= 16);

pub(crate) struct Watched {
    permit: CountPermit,
    // Declared after the permit: a sample may close a window, which takes longer.
    measurement: Measurement,
    /// The bytes to come until the measurement ends, where it goes on: see [`Measurement::frame`].
    bytes: u64,
    /// The rest of a large frame of the response.
    rest: Option<Bytes>,
}

impl Watched {
    #[cold]
    fn new(permit: CountPermit, measurement: Measurement, bytes: u64) -> Box<Self> {
        Box::new(Self {
            permit,
            measurement,
            bytes,
            rest: None,
        })
    }
}

impl Attached {
    const NOTHING: Self = Self::Permit(CountPermit::EMPTY);

    #[inline]
    pub(crate) fn new(permit: CountPermit, measurement: Measurement, bytes: u64) -> Self {
        match measurement.is_over() {
            true => Self::Permit(permit),
            false => Self::Watched(Watched::new(permit, measurement, bytes)),
        }
    }

    #[inline]
    pub(crate) fn permit(&self) -> &CountPermit {
        match self {
            Self::Permit(permit) => permit,
            Self::Watched(watched) => &watched.permit,
        }
    }

    #[inline]
    pub(crate) fn permit_mut(&mut self) -> &mut CountPermit {
        match self {
            Self::Permit(permit) => permit,
            Self::Watched(watched) => &mut watched.permit,
        }
    }

    #[inline]
    fn watched(&mut self) -> Option<&mut Watched> {
        match self {
            Self::Permit(_) => None,
            Self::Watched(watched) => Some(watched),
        }
    }

    /// Polls the inner body. If it panics, there is no sample.
    #[inline]
    pub(crate) fn inside<T>(&mut self, poll: impl FnOnce() -> T) -> T {
        match self {
            Self::Permit(_) => poll(),
            Self::Watched(watched) => watched.measurement.inside(poll),
        }
    }

    /// Notes the response for the sweep of stalled responses: see [`CountPermit::watch_for_stall`].
    #[cold]
    pub(crate) fn watch_for_stall(&mut self) {
        let (permit, measurement) = match self {
            Self::Permit(permit) => (permit, None),
            Self::Watched(watched) => (&mut watched.permit, Some(&mut watched.measurement)),
        };
        if let Some(permit) = permit.watch_for_stall()
            && let Some(measurement) = measurement
        {
            measurement.share(permit);
        }
    }

    /// Judges a `frame` of the inner body.
    #[inline]
    pub(crate) fn frame<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, end: End) {
        if let Some(watched) = self.watched() {
            watched.measurement.frame(&mut watched.bytes, frame, end);
        }
    }

    /// Puts the rest of a large frame aside.
    #[cold]
    pub(crate) fn put_aside(&mut self, rest: Bytes) {
        let mut watched = match mem::take(self) {
            Self::Watched(watched) => watched,
            Self::Permit(permit) => Watched::new(permit, Measurement::default(), 0),
        };
        watched.rest = Some(rest);
        *self = Self::Watched(watched);
    }

    /// Returns the number of bytes that were put aside.
    #[inline]
    pub(crate) fn bytes_aside(&self) -> usize {
        match self {
            Self::Watched(watched) => watched.rest.as_ref().map_or(0, Bytes::len),
            Self::Permit(_) => 0,
        }
    }

    /// Returns the next bytes that were put aside, at most `most` of them.
    pub(crate) fn next_aside(&mut self, most: usize) -> Option<Bytes> {
        let rest = &mut self.watched()?.rest;
        let bytes = rest.as_mut()?;
        let piece = bytes.split_to(most.min(bytes.len()));
        if bytes.is_empty() {
            *rest = None;
        }
        Some(piece)
    }

    pub(crate) fn forget_aside(&mut self) {
        if let Some(watched) = self.watched() {
            watched.rest = None;
        }
    }
}

impl Default for Attached {
    #[inline]
    fn default() -> Self {
        Self::NOTHING
    }
}
