//! How callers send requests, and read the hints of refusals.

use std::time::Duration;

use http::{HeaderValue, Method, Request, Uri, header::CONTENT_TYPE};
use loadshed::Shed;

use crate::{
    handler::NoData,
    random::Draw,
    scenario::{
        callers::{Callers, RetryDelay},
        kind::Kind,
    },
};

/// How callers of a kind send requests and read hints.
pub(crate) struct Sender {
    uri: Uri,
    retry_delay: RetryDelay,
    /// The value of `grpc-timeout`.
    timeout: Option<HeaderValue>,
}

impl Sender {
    pub(crate) fn new(kind: &Kind) -> Self {
        let Callers {
            timeout,
            states_timeout,
            retry_delay,
            ..
        } = kind.callers;
        let header = || HeaderValue::from_str(&format!("{}m", timeout.as_millis()));
        Self {
            uri: Uri::try_from(&*kind.path).expect("a kind has a valid path"),
            retry_delay,
            timeout: states_timeout.then(|| header().expect("a number is a valid header")),
        }
    }

    /// Returns the retry hint as a caller reads it: over HTTP in whole seconds, over gRPC to the millisecond.
    pub(crate) fn hint(&self, shed: &Shed) -> Duration {
        match self.retry_delay {
            RetryDelay::HintMilliseconds => shed.retry_after(),
            _ => Duration::from_secs(shed.retry_after_secs()),
        }
    }

    /// Creates the request of a call: GET for CRITICAL calls and POST for the others; gRPC where callers state their timeout or
    /// read hints in milliseconds.
    pub(crate) fn request(&self, draw: &Draw) -> Request<NoData> {
        let mut request = Request::new(NoData::default());
        request.uri_mut().clone_from(&self.uri);
        if self.timeout.is_some() || self.retry_delay == RetryDelay::HintMilliseconds {
            let grpc = HeaderValue::from_static("application/grpc");
            request.headers_mut().insert(CONTENT_TYPE, grpc);
        }
        if let Some(timeout) = &self.timeout {
            request
                .headers_mut()
                .insert("grpc-timeout", timeout.clone());
        }
        if !draw.critical {
            *request.method_mut() = Method::POST;
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        random::{Moment, Random},
        scenario::{
            phase::Conditions,
            server::{Server, Times},
        },
    };

    #[test]
    fn a_request_has_the_path_of_its_kind_and_states_the_timeout_where_its_caller_does() {
        let second = Duration::from_secs(1);
        let mut kind = Kind::new("job", Server::pool(1, second, Times::Fixed)).at("/job");
        let moment = Moment {
            load: 1.0,
            service: 1.0,
            slowdown: 1.0,
        };
        let draw = Random::new(1).draw((0, &kind), &Conditions::at(1.0), moment);
        let plain = Sender::new(&kind).request(&draw);
        assert_eq!((plain.uri().path(), plain.headers().len()), ("/job", 0));
        kind.callers.states_timeout = true;
        let stated = Sender::new(&kind).request(&draw);
        assert_eq!(stated.headers()["grpc-timeout"], "1000m");
    }
}
