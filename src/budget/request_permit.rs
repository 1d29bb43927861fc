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
#[derive(Clone, Debug)]
pub struct RequestPermit {
    /// Held until it is dropped. `None` for a request that is not counted.
    _permit: Option<Arc<SharedPermit>>,
}

impl RequestPermit {
    pub(crate) fn new(permit: Option<Arc<SharedPermit>>) -> Self {
        Self { _permit: permit }
    }
}

/// The rejection of the extractor [`RequestPermit`]: no layer has put one into the request.
#[cfg(feature = "axum")]
#[derive(Debug)]
pub struct MissingRequestPermit(());

#[cfg(feature = "axum")]
impl std::fmt::Display for MissingRequestPermit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "missing request permit: the route needs a `LoadShed` layer with the setting `share_permit()`",
        )
    }
}

#[cfg(feature = "axum")]
impl std::error::Error for MissingRequestPermit {}

#[cfg(feature = "axum")]
mod extract {
    use axum::{
        extract::{FromRequestParts, OptionalFromRequestParts},
        response::{IntoResponse, Response},
    };
    use http::{StatusCode, request::Parts};

    use super::{MissingRequestPermit, RequestPermit};

    impl<S: Sync> FromRequestParts<S> for RequestPermit {
        type Rejection = MissingRequestPermit;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
            let permit = parts.extensions.get::<Self>().cloned();
            permit.ok_or(MissingRequestPermit(()))
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for RequestPermit {
        type Rejection = std::convert::Infallible;

        async fn from_request_parts(
            parts: &mut Parts,
            _: &S,
        ) -> Result<Option<Self>, Self::Rejection> {
            Ok(parts.extensions.get::<Self>().cloned())
        }
    }

    impl IntoResponse for MissingRequestPermit {
        fn into_response(self) -> Response {
            (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
        }
    }
}
