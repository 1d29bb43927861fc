//! The description of a scenario: kinds of work, their servers and callers, and the phases of their load.
//!
//! A [`Scenario`](scenario::Scenario) with one [`Kind`](kind::Kind) is the usual one. With several kinds each has a load, a
//! server and callers of its own, and kinds that share a bottleneck share workers.

pub(crate) mod callers;
pub(crate) mod kind;
pub(crate) mod load;
pub(crate) mod phase;
#[expect(
    clippy::module_inception,
    reason = "the folder is named after its type"
)]
pub(crate) mod scenario;
pub(crate) mod server;
