//! HTTP and gRPC: the head of a request, what applies to it, how it ended, and the response of a refusal.

pub(crate) mod classification;
pub(crate) mod grpc;
pub(crate) mod head;
pub(crate) mod outcome;
pub(crate) mod refusal;
