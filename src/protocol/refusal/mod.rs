//! The response of a refusal, and of an upload that arrives too slowly.

mod digits;
mod grpc_response;
pub(crate) mod http_response;
mod pattern;
pub(crate) mod refusal;
mod retry_info;
pub(crate) mod slow_upload;
