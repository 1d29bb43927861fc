//! Promises 11, 14 and 17 for uploads: what a handler waits for its client is the client's time, and an upload that arrives too
//! slowly is ended while requests are refused.

mod bodies;
mod client_time;
mod min_rate;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use std::{convert::Infallible, future::Future, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, future::LocalBoxFuture, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use loadshed::{LoadShed, LoadShedService};
use tokio::time::sleep;
use tower::{Layer, service_fn, util::ServiceFn};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Upload = Request<Body>;

fn boxed(body: impl http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static) -> Body {
    body.boxed_unsync()
}

/// An upload in pieces: each arrives after a pause and has so many bytes.
fn pieces(pieces: impl IntoIterator<Item = (Duration, usize), IntoIter: Send + 'static>) -> Body {
    let frames = stream::iter(pieces).then(|(pause, length)| async move {
        sleep(pause).await;
        Ok(Frame::data(vec![0; length].into()))
    });
    boxed(StreamBody::new(frames))
}

/// An upload whose client sends nothing more.
fn silent() -> Body {
    boxed(StreamBody::new(stream::pending()))
}

fn post(path: &str, body: Body) -> Upload {
    Request::post(path).body(body).unwrap()
}

fn get() -> Upload {
    Request::get("/").body(boxed(Full::default())).unwrap()
}

type Call = LocalBoxFuture<'static, Result<Response<Full<Bytes>>, Infallible>>;

/// Makes a service of a handler.
fn serve<F: Future<Output = Bytes> + 'static>(
    shed: LoadShed,
    handler: impl Fn(Upload) -> F + Clone,
) -> LoadShedService<ServiceFn<impl Fn(Upload) -> Call + Clone>> {
    shed.layer(service_fn(move |request| {
        let response = handler(request);
        async move { Ok(Response::new(Full::new(response.await))) }.boxed_local()
    }))
}

/// Reads the whole upload.
async fn read(request: Upload) -> Bytes {
    let Ok(body) = request.into_body().collect().await;
    body.to_bytes()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
