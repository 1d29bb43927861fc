//! What a refused caller gets.

pub(crate) mod drain;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod retry_info;

use std::{fmt, io::Write, sync::Arc};

use ::http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use bytes::Bytes;

use crate::{
    head::lend, retry_after::retry_after::Unit, shed::Shed, support::invalid::InvalidSetting,
};

/// How refusals are answered.
#[derive(Clone)]
pub(crate) struct Answers {
    status: StatusCode,
    on_shed: Option<OnShed>,
}

/// The answer to one request.
pub(crate) enum Answer {
    /// This layer's own over HTTP, which is written when it is asked for: until then, this is all of it.
    Own {
        shed: Shed,
        status: StatusCode,
        asked: Asked,
    },
    /// Another one. In a box, as a response is large, and the future of each request would be larger by it.
    Written(Box<Response<Bytes>>),
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Head,
    HeadAndBody,
}

type OnShed = Arc<dyn Fn(&Request<()>, &Shed) -> Option<Response<Bytes>> + Send + Sync>;

impl Answers {
    pub(crate) fn set_status(&mut self, status: StatusCode) -> Result<(), InvalidSetting> {
        if !(status.is_client_error() || status.is_server_error()) {
            let allowed = "a client error or a server error, 400 to 599";
            return Err(InvalidSetting::new("status", status.as_u16(), allowed));
        }
        self.status = status;
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
    ) -> Answer {
        let asked = Asked::by(request.method());
        if let Some(content_type) = take_grpc_content_type(request.headers_mut()) {
            let shed = shed(Unit::Milliseconds);
            return Answer::written(grpc::response(content_type, &shed), asked, shed);
        }
        let shed = shed(Unit::Seconds);
        // A panic in it is a bug in the answer, which must not cost the caller the hint.
        let written = self
            .on_shed
            .as_ref()
            .and_then(|on_shed| lend(request, |head| on_shed(head, &shed)).flatten());
        match written {
            Some(response) => Answer::written(response, asked, shed),
            None => Answer::Own {
                shed,
                status: self.status,
                asked,
            },
        }
    }
}

impl Default for Answers {
    fn default() -> Self {
        http::prepare();
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            on_shed: None,
        }
    }
}

impl Answer {
    fn written(response: Response<Bytes>, asked: Asked, shed: Shed) -> Self {
        let (mut head, mut body) = response.into_parts();
        if asked == Asked::Head {
            body = strip(&mut head.headers, &body);
        }
        head.extensions.insert(shed);
        Self::Written(Box::new(Response::from_parts(head, body)))
    }

    /// With a body made of its text. In parts: by [`Response::map`], the head would be copied once more.
    pub(crate) fn into_response<B>(self, body: impl FnOnce(Bytes) -> B) -> Response<B> {
        match self {
            Self::Own {
                // Where it is, and not copied: it has just been written, field by field.
                ref shed,
                status,
                asked,
            } => {
                let mut head = http::head(status, shed);
                let text = match asked {
                    Asked::HeadAndBody => http::problem(status),
                    Asked::Head => strip(&mut head.headers, &http::problem(status)),
                };
                Response::from_parts(head, body(text))
            }
            Self::Written(response) => {
                let (head, text) = response.into_parts();
                Response::from_parts(head, body(text))
            }
        }
    }
}

impl Asked {
    fn by(method: &Method) -> Self {
        match *method {
            Method::HEAD => Self::Head,
            _ => Self::HeadAndBody,
        }
    }
}

/// Takes the body off, as it was not asked for, and leaves its length. hyper does so itself over HTTP/1; over HTTP/2 it
/// would send the body, and the client reset the stream.
#[cold]
fn strip(headers: &mut HeaderMap, body: &Bytes) -> Bytes {
    if !body.is_empty() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, number(body.len() as u64));
    }
    Bytes::new()
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

/// Taken, as nobody asks for it again, and as the clone of a value that is its own owner is an allocation.
fn take_grpc_content_type(headers: &mut HeaderMap) -> Option<HeaderValue> {
    grpc_content_type(headers)?;
    headers.remove(CONTENT_TYPE)
}

/// A header of digits: without an allocation below 1,000, as nearly all hints in seconds are, and in one above.
fn number(n: u64) -> HeaderValue {
    match usize::try_from(n) {
        Ok(n @ 0..1_000) => {
            let zeros = usize::from(n < 100) + usize::from(n < 10);
            HeaderValue::from_static(&TRIPLES[3 * n + zeros..3 * n + 3])
        }
        _ => {
            let mut text = [0; 20];
            let mut rest = &mut text[..];
            let left = write!(rest, "{n}").map(|()| rest.len()).unwrap_or(0);
            HeaderValue::from_bytes(&text[..20 - left]).unwrap_or_else(|_| HeaderValue::from(n))
        }
    }
}

/// 000001002 … 999.
const TRIPLES: &str = match std::str::from_utf8(&DIGITS) {
    Ok(triples) => triples,
    Err(_) => unreachable!(),
};

static DIGITS: [u8; 3_000] = {
    let mut digits = [b'0'; 3_000];
    let mut n = 0;
    while n < 1_000 {
        digits[3 * n] += (n / 100) as u8;
        digits[3 * n + 1] += (n / 10 % 10) as u8;
        digits[3 * n + 2] += (n % 10) as u8;
        n += 1;
    }
    digits
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
        for n in (0..=1_001).chain([4_294_967_295, u64::MAX]) {
            assert_eq!(number(n), HeaderValue::from(n));
        }
    }
}
