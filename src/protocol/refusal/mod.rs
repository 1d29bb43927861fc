//! The response of a refusal.

mod digits;
mod grpc;
mod http;
pub(crate) mod refusal;
mod retry_info;
