//! What a refused caller gets.

mod drain;
mod grpc;
mod http;

use std::{
    fmt,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ::http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use bytes::Bytes;

pub(crate) use self::{drain::drain, grpc::STATUS as GRPC_STATUS};
use crate::{invalid::InvalidSetting, retry_after::Unit, shed::Shed};

/// How refusals are answered.
#[derive(Clone)]
pub(crate) struct Answers {
    status: StatusCode,
    problem: Bytes,
    on_shed: Option<OnShed>,
}

type OnShed = Arc<dyn Fn(&Shed) -> Response<Bytes> + Send + Sync>;

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
        on_shed: impl Fn(&Shed) -> Response<Bytes> + Send + Sync + 'static,
    ) {
        self.on_shed = Some(Arc::new(on_shed));
    }

    /// The answer to a request with these headers.
    pub(crate) fn answer(
        &self,
        request: &HeaderMap,
        shed: impl FnOnce(Unit) -> Shed,
    ) -> Response<Bytes> {
        let grpc = grpc_content_type(request);
        let shed = shed(grpc.map_or(Unit::Seconds, |_| Unit::Milliseconds));
        let mut response = match grpc {
            Some(content_type) => grpc::response(content_type.clone(), &shed),
            None => self
                .written_by_the_user(&shed)
                .unwrap_or_else(|| http::response(self.status, self.problem.clone(), &shed)),
        };
        response.extensions_mut().insert(shed);
        response
    }

    /// `None` if there is no `on_shed`, or it panics: a bug in the answer must not cost the caller the hint.
    fn written_by_the_user(&self, shed: &Shed) -> Option<Response<Bytes>> {
        let on_shed = self.on_shed.as_ref()?;
        catch_unwind(AssertUnwindSafe(|| on_shed(shed))).ok()
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

/// The content type of a gRPC or gRPC-Web call: `application/grpc`, alone or before `+`, `-` or `;`.
pub(crate) fn grpc_content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    const GRPC: &[u8] = b"application/grpc";
    let value = headers.get(CONTENT_TYPE)?;
    let (start, rest) = value.as_bytes().split_at_checked(GRPC.len())?;
    let is_grpc = start.eq_ignore_ascii_case(GRPC)
        && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '));
    is_grpc.then_some(value)
}

/// A header of digits, in one allocation; `HeaderValue::from` takes two.
fn number(n: u64) -> HeaderValue {
    let mut text = [0; 20];
    let mut rest = &mut text[..];
    let left = write!(rest, "{n}").map(|()| rest.len()).unwrap_or(0);
    HeaderValue::from_bytes(&text[..20 - left]).unwrap_or_else(|_| HeaderValue::from(n))
}

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
        for n in [0, 1, 60, 4_294_967_295, u64::MAX] {
            assert_eq!(number(n), HeaderValue::from(n));
        }
    }
}
