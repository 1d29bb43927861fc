//! The response of a refusal.

mod digits;
mod grpc_response;
mod http_response;
pub(crate) mod refusal;
mod retry_info;
