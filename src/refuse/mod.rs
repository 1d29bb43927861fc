//! What a refused caller gets.

mod drain;
mod grpc;
mod http;
mod retry_info;

use std::{fmt, io::Write, mem, sync::Arc};

use ::http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use bytes::Bytes;

pub use self::drain::Drain;
#[cfg(feature = "metrics")]
pub(crate) use self::drain::drains;
pub(crate) use self::grpc::STATUS as GRPC_STATUS;
use crate::{head::lend, invalid::InvalidSetting, retry_after::Unit, shed::Shed};

/// How refusals are answered.
#[derive(Clone)]
pub(crate) struct Answers {
    status: StatusCode,
    problem: Bytes,
    on_shed: Option<OnShed>,
}

type OnShed = Arc<dyn Fn(&Request<()>, &Shed) -> Option<Response<Bytes>> + Send + Sync>;

impl Answers {
    pub(crate) fn set_status(&mut self, status: StatusCode) -> Result<(), InvalidSetting> {
        if !(status.is_client_error() || status.is_server_error()) {
            let allowed = "a client error or a server error, 400 to 599";
            return Err(InvalidSetting::new("status", status.as_u16(), allowed));
        }
        self.status = status;
        self.problem = http::problem(status);
        Ok(())
    }

    pub(crate) fn set_on_shed(
        &mut self,
        on_shed: impl Fn(&Request<()>, &Shed) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) {
        self.on_shed = Some(Arc::new(on_shed));
    }

    pub(crate) fn answer<B>(
        &self,
        request: &mut Request<B>,
        shed: impl FnOnce(Unit) -> Shed,
    ) -> Response<Bytes> {
        let grpc = take_grpc_content_type(request.headers_mut());
        let unit = if grpc.is_some() {
            Unit::Milliseconds
        } else {
            Unit::Seconds
        };
        let shed = shed(unit);
        let mut response = match grpc {
            Some(content_type) => grpc::response(content_type, &shed),
            None => self
                .written_by_the_user(request, &shed)
                .unwrap_or_else(|| http::response(self.status, self.problem.clone(), &shed)),
        };
        if request.method() == Method::HEAD {
            strip_body(&mut response);
        }
        response.extensions_mut().insert(shed);
        response
    }

    /// `None` if it is left to the layer, or `on_shed` panics: a bug in the answer must not cost the caller the hint.
    fn written_by_the_user<B>(
        &self,
        request: &mut Request<B>,
        shed: &Shed,
    ) -> Option<Response<Bytes>> {
        let on_shed = self.on_shed.as_ref()?;
        lend(request, |head| on_shed(head, shed)).flatten()
    }
}

impl Default for Answers {
    fn default() -> Self {
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self {
            status,
            problem: http::problem(status),
            on_shed: None,
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("status", &self.status)
            .field("on_shed", &self.on_shed.is_some())
            .finish_non_exhaustive()
    }
}

/// Leaves its length. hyper does so itself over HTTP/1; over HTTP/2 it would send the body, and the client reset the
/// stream.
fn strip_body(response: &mut Response<Bytes>) {
    let body = mem::take(response.body_mut());
    let headers = response.headers_mut();
    if !body.is_empty() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, number(body.len() as u64));
    }
}

/// The content type of a gRPC or gRPC-Web call: `application/grpc`, alone or before `+`, `-` or `;`.
pub(crate) fn grpc_content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    const GRPC: &[u8] = b"application/grpc";
    let value = headers.get(CONTENT_TYPE)?;
    let (start, rest) = value.as_bytes().split_at_checked(GRPC.len())?;
    let is_grpc = start.eq_ignore_ascii_case(GRPC)
        && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '));
    is_grpc.then_some(value)
}

/// Taken, as nobody asks for it again, and as the clone of a value that is its own owner is an allocation.
fn take_grpc_content_type(headers: &mut HeaderMap) -> Option<HeaderValue> {
    grpc_content_type(headers)?;
    headers.remove(CONTENT_TYPE)
}

/// A header of digits: without an allocation below 100, as most hints in seconds are, and in one above.
fn number(n: u64) -> HeaderValue {
    let value = match usize::try_from(n) {
        Ok(n @ 0..100) => {
            let from = 2 * n + usize::from(n < 10);
            HeaderValue::from_maybe_shared(Bytes::from_static(&PAIRS[from..2 * n + 2]))
        }
        _ => {
            let mut text = [0; 20];
            let mut rest = &mut text[..];
            let left = write!(rest, "{n}").map(|()| rest.len()).unwrap_or(0);
            HeaderValue::from_bytes(&text[..20 - left])
        }
    };
    value.unwrap_or_else(|_| HeaderValue::from(n))
}

/// 000102 … 99.
static PAIRS: [u8; 200] = {
    let mut pairs = [b'0'; 200];
    let mut n = 0;
    while n < 100 {
        pairs[2 * n] += n as u8 / 10;
        pairs[2 * n + 1] += n as u8 % 10;
        n += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_taken_for_grpc() {
        let is_grpc = |content_type: &'static str| {
            let value = HeaderValue::from_static(content_type);
            grpc_content_type(&HeaderMap::from_iter([(CONTENT_TYPE, value)])).is_some()
        };
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web-text+proto",
            "application/grpc; charset=utf-8",
            "Application/gRPC",
        ] {
            assert!(is_grpc(yes), "{yes}");
        }
        for no in [
            "application/json",
            "application/grpcish",
            "application/gr",
            "",
        ] {
            assert!(!is_grpc(no), "{no}");
        }
    }

    #[test]
    fn a_header_of_digits_is_those_digits() {
        for n in (0..=101).chain([4_294_967_295, u64::MAX]) {
            assert_eq!(number(n), HeaderValue::from(n));
        }
    }
}
