//! Promises 3, 4 and 7 in whole stacks: servers with TLS, axum, tonic, and the layers of tower and tower-http.

mod kept_responses;
mod middlewares;
mod nested_layers;
mod observed;
#[path = "../support/mod.rs"]
mod support;
mod tonic_calls;
mod transports;
mod unread_responses;
