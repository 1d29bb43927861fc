//! The outcome of a request, by its response.
//!
//! | HTTP | gRPC, as google.rpc.Code maps it | outcome |
//! |---|---|---|
//! | 503, 504 | 14 UNAVAILABLE, 4 DEADLINE_EXCEEDED; 8 RESOURCE_EXHAUSTED | overload |
//! | 408 | 1 CANCELLED | cancelled |
//! | 429 | | ignored |
//! | other 5xx | 2 UNKNOWN, 12 UNIMPLEMENTED, 13 INTERNAL, 15 DATA_LOSS, no code at all | ignored |
//! | all others | 0 OK and the caller's mistakes: 3, 5, 6, 7, 9, 10, 11, 16 | success |
//!
//! - A timeout layer further in responds with 408 (tower-http) or CANCELLED (tonic). The request itself would have taken longer,
//!   so its latency is not a sample of a success.
//! - A 429 is the quick response of a quota, which says nothing about the server. gRPC has the same code for a quota and for a
//!   full server; to overlook a full server would be the worse error.
//! - A request with a mistake of the caller took work of the same server, and a 404 is often as much work as a 200.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::grpc::GRPC_STATUS;
use crate::control::controller::Outcome;

/// The user's closure, which decides the outcome of some responses by their heads.
#[derive(Clone)]
pub(crate) struct AskOutcome(Arc<OutcomeClosure>);

type OutcomeClosure = dyn Fn(&Response<()>) -> Option<Outcome> + Send + Sync;

impl AskOutcome {
    pub(crate) fn new(
        ask: impl Fn(&Response<()>) -> Option<Outcome> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(ask))
    }

    /// Calls the closure with the response's own head, which is moved out of the response meanwhile.
    pub(crate) fn outcome<B>(&self, response: &mut Response<B>) -> Option<Outcome> {
        let mut head = Response::new(());
        swap_heads(response, &mut head);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.0(&head)));
        swap_heads(response, &mut head);
        // Without a decision, the status decides: a panic in the closure is treated as no decision.
        outcome.ok().flatten()
    }
}

fn swap_heads<A, B>(one: &mut Response<A>, other: &mut Response<B>) {
    mem::swap(one.status_mut(), other.status_mut());
    mem::swap(one.version_mut(), other.version_mut());
    mem::swap(one.headers_mut(), other.headers_mut());
    mem::swap(one.extensions_mut(), other.extensions_mut());
}

/// Returns the outcome by the head of a response. A gRPC call that failed before its first message has its status there.
pub(crate) fn of_head<B>(response: &Response<B>) -> Outcome {
    match response.headers().get(GRPC_STATUS) {
        Some(code) => of_grpc(code),
        None => of_http(response.status()),
    }
}

/// Returns the outcome by the trailers of a response whose head was a success. A gRPC call has its status there, unless the
/// call failed before its first message.
pub(crate) fn of_trailers(trailers: &HeaderMap) -> Outcome {
    trailers.get(GRPC_STATUS).map_or(Outcome::Success, of_grpc)
}

fn of_http(status: StatusCode) -> Outcome {
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Outcome::Overload,
        StatusCode::REQUEST_TIMEOUT => Outcome::Cancelled,
        StatusCode::TOO_MANY_REQUESTS => Outcome::Ignored,
        status if status.is_server_error() => Outcome::Ignored,
        _ => Outcome::Success,
    }
}

fn of_grpc(code: &HeaderValue) -> Outcome {
    match code.as_bytes() {
        b"4" | b"8" | b"14" => Outcome::Overload,
        b"1" => Outcome::Cancelled,
        b"0" | b"3" | b"5" | b"6" | b"7" | b"9" | b"10" | b"11" | b"16" => Outcome::Success,
        _ => Outcome::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_the_outcome_of_the_table() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (101, Outcome::Success),
            (304, Outcome::Success),
            (404, Outcome::Success),
            (408, Outcome::Cancelled),
            (429, Outcome::Ignored),
            (500, Outcome::Ignored),
            (502, Outcome::Ignored),
            (503, Outcome::Overload),
            (504, Outcome::Overload),
            (599, Outcome::Ignored),
        ] {
            let response = Response::builder().status(status).body(()).unwrap();
            assert_eq!(of_head(&response), outcome, "{status}");
        }
    }

    #[test]
    fn each_grpc_code_has_the_outcome_of_the_table() {
        let (success, overload) = (Outcome::Success, Outcome::Overload);
        let (cancelled, ignored) = (Outcome::Cancelled, Outcome::Ignored);
        let by_code = [
            success, cancelled, ignored, success, overload, success, success, success, overload,
            success, success, success, ignored, ignored, overload, ignored, success,
        ];
        let outcome_of = |code: &str| {
            let response = Response::builder().header("grpc-status", code).body(());
            of_head(&response.unwrap())
        };
        for (code, outcome) in by_code.into_iter().enumerate() {
            assert_eq!(outcome_of(&code.to_string()), outcome, "{code}");
        }
        for none in ["17", "-1", "014", "", "OK", "UNAVAILABLE"] {
            assert_eq!(outcome_of(none), ignored, "{none}");
        }
    }
}
