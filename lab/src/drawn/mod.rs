//! Scenarios drawn at random, for cases that the catalogue does not contain.

mod beside;
mod conditions;
pub(crate) mod overload;
pub(crate) mod promises;
pub(crate) mod scenario;
mod server;
