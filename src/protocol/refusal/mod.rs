//! What a refused caller gets.

pub(crate) mod digits;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod refusal;
pub(crate) mod retry_info;
