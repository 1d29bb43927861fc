use std::{any::Any, fmt, sync::Arc};

use http_body::Body;

use super::{watch::UploadWatch, watched_body::WatchedBody};

/// The types of request bodies that a layer can watch. A layer has no type parameters, so the types are erased.
#[derive(Clone, Default)]
pub(crate) struct BodyTypes {
    /// Each holds a [`Wrap`]. A layer has one or two types: a search is as fast as a table.
    wraps: Vec<Arc<dyn Any + Send + Sync>>,
}

/// Turns a watched body into a body of the type that it watches.
pub(crate) struct Wrap<B>(Box<dyn Fn(WatchedBody<B>) -> B + Send + Sync>);

impl BodyTypes {
    /// Adds the type `B`, or replaces how it is wrapped.
    pub(crate) fn add<B: Body + 'static>(
        &mut self,
        wrap: impl Fn(WatchedBody<B>) -> B + Send + Sync + 'static,
    ) {
        self.wraps.retain(|wrap| !wrap.is::<Wrap<B>>());
        self.wraps.push(Arc::new(Wrap(Box::new(wrap))));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wraps.is_empty()
    }

    /// Returns how bodies of the type `B` are wrapped, or `None` if they cannot be watched.
    pub(crate) fn find<B: Body + 'static>(&self) -> Option<&Wrap<B>> {
        self.wraps.iter().find_map(|wrap| wrap.downcast_ref())
    }
}

impl<B: Body> Wrap<B> {
    pub(crate) fn wrap(&self, body: B, watch: Arc<UploadWatch>) -> B {
        (self.0)(WatchedBody::new(body, watch))
    }
}

impl fmt::Debug for BodyTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyTypes")
            .field("count", &self.wraps.len())
            .finish()
    }
}
