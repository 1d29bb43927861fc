//! The tower layer: its builder, its handle, and the service, future and body that it makes of the inner ones.

pub(crate) mod attached;
pub(crate) mod body;
pub(crate) mod future;
pub(crate) mod handle;
pub(crate) mod load_shed;
pub(crate) mod measurement;
pub(crate) mod service;
pub(crate) mod stalled;
pub(crate) mod waiter;
