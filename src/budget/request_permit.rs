use std::sync::Arc;

use crate::admission::shared_permit::SharedPermit;

/// The permit of a request, for work that goes on after the response or without the caller.
///
/// A layer with [`share_permit`](crate::LoadShed::share_permit) puts it into the extensions of each request that it admits. The
/// units of the request stay in flight until the response has ended and the last clone is dropped, the one in the extensions
/// included.
///
/// With the feature `axum` it is an extractor. In tonic it is in the extensions of the request.
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::get};
/// use loadshed::{LoadShed, RequestPermit};
///
/// async fn export(permit: RequestPermit) {
///     // The caller may leave. The job goes on, and stays in flight.
///     tokio::task::spawn_blocking(move || {
///         // the work
///         drop(permit);
///     });
/// }
///
/// let app: Router = Router::new()
///     .route("/export", get(export))
///     .layer(LoadShed::ratio(0.85).share_permit());
/// # }
/// ```
///
/// Where the work is a future, a stream or an upgraded connection, move the permit into it: it is dropped with it.
///
/// A learned budget takes its sample at the response. From then on the request counts as responded while clones live. Where the
/// caller leaves before the response, that is no success.
#[derive(Debug)]
pub struct RequestPermit {
    /// `None` for a request that is not counted.
    permit: Option<Arc<SharedPermit>>,
    /// The permit of another budget, from a layer further out.
    outer: Option<Box<Self>>,
}

impl RequestPermit {
    pub(crate) fn new(permit: Option<Arc<SharedPermit>>, outer: Option<Self>) -> Self {
        if let Some(permit) = &permit {
            permit.take_along();
        }
        let outer = outer.map(Box::new);
        Self { permit, outer }
    }
}

impl Clone for RequestPermit {
    fn clone(&self) -> Self {
        Self::new(self.permit.clone(), self.outer.as_deref().cloned())
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.bring_back();
        }
    }
}
