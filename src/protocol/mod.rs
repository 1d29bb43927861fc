//! HTTP and gRPC: the head of a request, its classification, its outcome, and the response of a refusal.

pub(crate) mod classification;
pub(crate) mod grpc;
pub(crate) mod head;
pub(crate) mod outcome;
pub(crate) mod refusal;
