//! Watches request bodies while a handler reads them.
//!
//! A handler that reads an upload waits for its client. That time says nothing about the server: it is neither latency nor
//! queue. An upload whose client sends nothing holds its permit all the same. So the body of a request is replaced by one of
//! the same type that notes two things: whether the handler waits for the client now, and how many bytes have arrived.
//!
//! - [`body_types`]: the types of bodies that a layer can watch, and how each is wrapped.
//! - [`watched_body`]: the body that notes.
//! - [`watch`]: what it notes, shared with the future of the layer and with the budget.
//! - [`min_rate`]: the rate below which an upload is ended.
//! - [`noted`]: the uploads of a budget that may be ended. Refusals look at them, at most once a second. There is no timer.

pub(crate) mod body_types;
pub(crate) mod min_rate;
pub(crate) mod noted;
pub(crate) mod watch;
pub(crate) mod watched_body;
