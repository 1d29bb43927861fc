//! The extractor of a [`RequestPermit`] in axum.

use std::{convert::Infallible, error::Error, fmt};

use axum::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{StatusCode, request::Parts};

use super::request_permit::RequestPermit;

/// The rejection of the extractor [`RequestPermit`]: no layer has put one into the request.
#[derive(Debug)]
pub struct MissingRequestPermit(());

impl fmt::Display for MissingRequestPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "missing request permit: the route needs a `LoadShed` layer with the setting `share_permit()`",
        )
    }
}

impl Error for MissingRequestPermit {}

impl<S: Sync> FromRequestParts<S> for RequestPermit {
    type Rejection = MissingRequestPermit;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let permit = parts.extensions.get::<Self>().cloned();
        permit.ok_or(MissingRequestPermit(()))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for RequestPermit {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl IntoResponse for MissingRequestPermit {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
    }
}
