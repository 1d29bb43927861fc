use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH},
};

use super::{digits::number, grpc_response, http_response};
use crate::{
    protocol::{grpc::take_grpc_content_type, head::lend},
    retry_after::refusal::Unit,
    shed::{Reason, Shed},
    support::invalid::InvalidSetting,
};

/// The settings of refusal responses.
#[derive(Clone)]
pub(crate) struct RefusalSettings {
    status: StatusCode,
    on_shed: Option<OnShed>,
}

/// The response to one refused request.
pub(crate) enum RefusalResponse {
    /// The layer's own response over HTTP, which is built only when it is returned. Until then, these fields stand for it.
    Own {
        shed: Shed,
        status: StatusCode,
        asked: Asked,
    },
    /// Any other response. It is boxed: a response is large, and would enlarge the future of each request.
    Written(Box<Response<Bytes>>),
}

/// The text of a response.
#[derive(Debug)]
pub(crate) enum RefusalText {
    Empty,
    /// The layer's own document for a status.
    Problem(StatusCode),
    Written(Bytes),
}

/// The parts of a response that the method of a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Head,
    HeadAndBody,
}

type OnShed = Arc<dyn Fn(&Request<()>, &Shed) -> Option<Response<Bytes>> + Send + Sync>;

impl RefusalSettings {
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

    pub(crate) fn respond<B>(
        &self,
        request: &mut Request<B>,
        shed: impl FnOnce(Unit) -> Shed,
    ) -> RefusalResponse {
        let asked = Asked::by(request.method());
        let content_type = take_grpc_content_type(request.headers_mut());
        let shed = shed(match content_type {
            Some(_) => Unit::Milliseconds,
            None => Unit::Seconds,
        });
        // Later versions have no such header: there the server itself says that it goes away.
        let closes = shed.reason() == Reason::Draining && request.version() <= Version::HTTP_11;
        let response = match content_type {
            Some(content_type) => {
                RefusalResponse::written(grpc_response::response(content_type, &shed), asked, shed)
            }
            None => self.respond_over_http(request, asked, shed),
        };
        if closes { response.closing() } else { response }
    }

    fn respond_over_http<B>(
        &self,
        request: &mut Request<B>,
        asked: Asked,
        shed: Shed,
    ) -> RefusalResponse {
        // If the closure panics, the layer's own response goes out, with the hint.
        let written = self
            .on_shed
            .as_ref()
            .and_then(|on_shed| lend(request, |head| on_shed(head, &shed)).flatten());
        if let Some(response) = written {
            return RefusalResponse::written(response, asked, shed);
        }
        let status = match shed.reason() {
            Reason::Draining => StatusCode::SERVICE_UNAVAILABLE,
            _ => self.status,
        };
        RefusalResponse::Own {
            shed,
            status,
            asked,
        }
    }
}

impl Default for RefusalSettings {
    fn default() -> Self {
        http_response::prepare();
        grpc_response::prepare();
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            on_shed: None,
        }
    }
}

impl RefusalResponse {
    fn written(response: Response<Bytes>, asked: Asked, shed: Shed) -> Self {
        let (mut head, mut body) = response.into_parts();
        if asked == Asked::Head {
            body = strip(&mut head.headers, &body);
        }
        head.extensions.insert(shed);
        Self::Written(Box::new(Response::from_parts(head, body)))
    }

    /// Has the connection closed after the response, unless the response says something about the connection already.
    #[cold]
    fn closing(self) -> Self {
        let mut response = self.into_response(Bytes::from);
        let headers = response.headers_mut();
        let connection = headers.entry(CONNECTION);
        connection.or_insert(HeaderValue::from_static("close"));
        Self::Written(Box::new(response))
    }

    /// Builds the response, with a body made of its text. In parts: [`Response::map`] would copy the head once more.
    pub(crate) fn into_response<B>(self, body: impl FnOnce(RefusalText) -> B) -> Response<B> {
        match self {
            Self::Own {
                // By reference, to avoid a copy of what has just been written.
                ref shed,
                status,
                asked,
            } => {
                let mut head = http_response::head(status, shed);
                let text = match asked {
                    Asked::HeadAndBody => RefusalText::Problem(status),
                    Asked::Head => strip(&mut head.headers, &http_response::problem(status)).into(),
                };
                Response::from_parts(head, body(text))
            }
            Self::Written(response) => {
                let (head, text) = response.into_parts();
                Response::from_parts(head, body(text.into()))
            }
        }
    }
}

impl From<Bytes> for RefusalText {
    fn from(text: Bytes) -> Self {
        match text.is_empty() {
            true => Self::Empty,
            false => Self::Written(text),
        }
    }
}

impl From<RefusalText> for Bytes {
    fn from(text: RefusalText) -> Self {
        match text {
            RefusalText::Empty => Self::new(),
            RefusalText::Problem(status) => http_response::problem(status),
            RefusalText::Written(text) => text,
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

/// Removes the body from the response to a HEAD request, and leaves its length. hyper does so itself over HTTP/1. Over HTTP/2
/// hyper would send the body, and the client would reset the stream.
#[cold]
fn strip(headers: &mut HeaderMap, body: &Bytes) -> Bytes {
    if !body.is_empty() && !headers.contains_key(CONTENT_LENGTH) {
        headers.insert(CONTENT_LENGTH, number(body.len() as u64));
    }
    Bytes::new()
}

impl fmt::Debug for RefusalSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusalSettings")
            .field("status", &self.status)
            .field("on_shed", &self.on_shed.is_some())
            .finish_non_exhaustive()
    }
}
