use std::{any::Any, fmt, sync::Arc};

use crate::admission::stalls::Stalls;

/// The response has stalled: its reader did not read for the [stall timeout](crate::LoadShed::stall_timeout), the permit was
/// released, and it did not fit when the reader went on.
///
/// It is the source of the error with which such a body ends.
#[derive(Debug)]
pub struct ResponseStalled(());

impl fmt::Display for ResponseStalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response stalled, as its reader did not read, and the server is full")
    }
}

impl std::error::Error for ResponseStalled {}

/// Makes the error of a body whose response has stalled.
pub(crate) struct StalledError<E>(Box<dyn Fn(ResponseStalled) -> E + Send + Sync>);

impl<E: 'static> StalledError<E> {
    pub(crate) fn new(error: impl Fn(ResponseStalled) -> E + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self(Box::new(error)))
    }
}

/// Returns the error with which a body ends, or `None` where no error of its type can be made.
#[cold]
pub(crate) fn error<E: 'static>(stalls: &Stalls) -> Option<E> {
    if let Some(make) = stalls.find_error::<StalledError<E>>() {
        return Some((make.0)(ResponseStalled(())));
    }
    let mut error: Option<E> = None;
    let any: &mut dyn Any = &mut error;
    if let Some(error) = any.downcast_mut::<Option<Box<dyn std::error::Error + Send + Sync>>>() {
        *error = Some(Box::new(ResponseStalled(())));
    } else if let Some(error) = any.downcast_mut::<Option<std::io::Error>>() {
        *error = Some(std::io::Error::other(ResponseStalled(())));
    }
    #[cfg(feature = "axum")]
    if let Some(error) = any.downcast_mut::<Option<axum::Error>>() {
        *error = Some(axum::Error::new(ResponseStalled(())));
    }
    error
}
