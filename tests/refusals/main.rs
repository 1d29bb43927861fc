//! Refusal responses, dry runs, and failures of the layer's own parts: promises 4, 17, 18, 19, 21, 22 and 25.

mod bounded_work;
mod cors;
mod dry_run;
mod faulty_parts;
mod grpc_responses;
mod http_responses;
mod inner_errors;
mod nothing_disclosed;
mod on_shed;
#[path = "../support/mod.rs"]
mod support;
mod tonic_client;

use bytes::Bytes;
use http::{HeaderValue, Response, Version, header};
use http_body::Body;
use http_body_util::BodyExt;
use loadshed::{Budget, LoadShed};
use tower::Layer;

use crate::support::{Req, all, answer, get, holding, run};

/// A layer whose budget of one permit is full for as long as the returned permit lives.
fn full() -> (LoadShed, loadshed::Permit) {
    let budget = Budget::fixed(1);
    let permit = budget.try_acquire(all()).unwrap();
    (LoadShed::ratio(1.0).budget(budget), permit)
}

fn refusal(
    shed: &LoadShed,
    request: Req,
) -> Response<loadshed::ResponseBody<support::ScriptedBody>> {
    answer(&mut shed.layer(holding()), request)
}

fn header<'a, B>(response: &'a Response<B>, name: &str) -> &'a str {
    let mut values = response.headers().get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(values.next().is_none(), "{name} twice");
    value.to_str().unwrap()
}

fn text<B: Body<Data = Bytes, Error: std::fmt::Debug>>(response: Response<B>) -> String {
    let bytes = run(response.into_body().collect()).unwrap().to_bytes();
    String::from_utf8(bytes.into()).unwrap()
}

fn with_content_type(content_type: HeaderValue) -> Req {
    let mut request = get("/grpc.health.v1.Health/Check");
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    request
}

fn grpc(content_type: &str) -> Req {
    with_content_type(content_type.parse().unwrap())
}
