//! What a budget does for [watched uploads](crate::upload).

use std::sync::Arc;

use super::{
    admission::Counted,
    budget::{Budget, Inner},
};
use crate::{
    shed::Reason,
    threshold::threshold::Threshold,
    upload::watch::{UploadBudget, UploadWatch},
};

impl Budget {
    pub(crate) fn upload_budget(&self) -> Arc<dyn UploadBudget> {
        self.inner.clone()
    }

    /// Counts an upload that its layer cannot watch.
    pub(crate) fn unwatched_upload(&self) {
        self.inner.observed.unwatched_upload();
    }
}

impl Counted<'_> {
    /// Ends the uploads that arrive too slowly, of requests up to the `threshold` of the request that was refused.
    ///
    /// A refusal by a drain ends none: what is in flight runs to its end.
    pub(crate) fn end_slow_uploads(&self, threshold: Threshold) {
        if self.refused.reason == Reason::Draining {
            return;
        }
        let inner = &self.budget.inner;
        let ended = inner.noted_uploads.refused(threshold, &self.now);
        if ended > 0 {
            inner.observed.slow_uploads(ended);
        }
    }
}

impl UploadBudget for Inner {
    fn note(&self, upload: &Arc<UploadWatch>) {
        self.noted_uploads.note(upload);
    }
}
