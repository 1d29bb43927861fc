use std::sync::Arc;

use http::Request;
use http_body::Body;

use crate::{
    admission::measured_units::SharedWeight,
    budget::budget::Budget,
    protocol::refusal::slow_upload::SlowUploadResponse,
    support::invalid::InvalidSetting,
    threshold::threshold::Threshold,
    upload::{
        body_types::BodyTypes,
        min_rate::MinRate,
        watch::{RateRule, UploadWatch},
    },
};

/// Which request bodies a layer watches, and when it ends an upload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    pub(crate) body_types: BodyTypes,
    min_rate: Option<MinRate>,
}

/// An admitted request, as far as the watch of its upload goes.
#[derive(Debug)]
pub(crate) struct Uploading<'a> {
    pub(crate) budget: &'a Budget,
    pub(crate) threshold: Threshold,
    /// `None` if the request is not measured.
    pub(crate) weight: Option<Arc<SharedWeight>>,
    pub(crate) is_dry_run: bool,
}

impl Uploads {
    /// # Errors
    ///
    /// If no type of bodies is watched: the rate would have no effect.
    pub(crate) fn set_min_rate(&mut self, rate: MinRate) -> Result<(), InvalidSetting> {
        if self.body_types.is_empty() {
            let allowed = "set after `watch_uploads`: only watched uploads have a rate";
            return Err(InvalidSetting::new(
                "order of calls",
                "`min_upload_rate`",
                allowed,
            ));
        }
        self.min_rate = Some(rate);
        Ok(())
    }

    /// Returns whether any uploads are watched.
    #[inline]
    pub(crate) fn are_watched(&self) -> bool {
        !self.body_types.is_empty()
    }

    /// Returns the request with a body that is watched, if it has one that can and need be.
    ///
    /// Takes the request by value: the body becomes a part of the new body.
    pub(crate) fn watch<B: Body + 'static>(
        &self,
        request: Request<B>,
        uploading: Uploading<'_>,
    ) -> (Request<B>, Option<Arc<UploadWatch>>) {
        let Uploading {
            budget,
            threshold,
            weight,
            is_dry_run,
        } = uploading;
        if !self.are_watched() || threshold.is_exempt() || request.body().is_end_stream() {
            return (request, None);
        }
        let Some(wrap) = self.body_types.find() else {
            budget.unwatched_upload();
            return (request, None);
        };
        // A layer in dry run ends nothing.
        let min_rate = self.min_rate.filter(|_| !is_dry_run);
        if weight.is_none() && min_rate.is_none() {
            return (request, None);
        }
        let rule = min_rate.map(|rate| RateRule {
            rate,
            threshold,
            response: SlowUploadResponse::to(&request),
        });
        let watch = UploadWatch::new(budget.upload_budget(), weight, rule);
        let (head, body) = request.into_parts();
        let body = wrap.wrap(body, Arc::clone(&watch));
        (Request::from_parts(head, body), Some(watch))
    }
}
