//! The layer for outgoing calls: what it waits for, what it retries, what it does not send, and what it passes on.

mod example;
mod not_sent;
mod over_sockets;
mod passed_on;
mod retries;
mod storm;
mod support;
mod waits;

use std::{
    collections::VecDeque,
    iter::repeat_n,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use loadshed_client::{Backpressure, ResponseBody};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Broken, Req};

/// A server that gives the scripted answers, then 200 for ever, and remembers what came and when.
#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Head>>>,
    seen: Arc<Mutex<Vec<(Duration, HeaderMap)>>>,
    start: Arc<Mutex<Option<Instant>>>,
}

type Head = (u16, &'static [(&'static str, &'static str)]);

impl Server {
    fn that_says<const N: usize>(script: [Head; N]) -> Self {
        let server = Self::default();
        server.script.lock().unwrap().extend(script);
        server
    }

    /// Gives the same response many times: an array of so many would not fit the stack.
    fn that_repeats(head: Head, times: usize) -> Self {
        let server = Self::default();
        server.script.lock().unwrap().extend(repeat_n(head, times));
        server
    }

    fn service<B>(
        &self,
    ) -> impl Service<
        Request<B>,
        Response = Response<Empty<Bytes>>,
        Error = Broken,
        Future: Future + Send,
    > + Clone
    + use<B>
    where
        B: http_body::Body<Error: std::fmt::Debug> + Send + Unpin,
        B::Data: Send,
    {
        let server = self.clone();
        service_fn(move |request: Request<B>| {
            let server = server.clone();
            let (head, mut body) = request.into_parts();
            async move {
                // As a transport does, it takes what is there, and does not wait for more.
                while let Some(Some(frame)) = body.frame().now_or_never() {
                    frame.unwrap();
                }
                server.answer(head.headers)
            }
        })
    }

    fn answer(&self, headers: HeaderMap) -> Result<Response<Empty<Bytes>>, Broken> {
        let now = Instant::now();
        let start = *self.start.lock().unwrap().get_or_insert(now);
        self.seen.lock().unwrap().push((now - start, headers));
        let (status, headers) = self
            .script
            .lock()
            .unwrap()
            .pop_front()
            .unwrap_or((200, &[]));
        if status == 0 {
            return Err(Broken("the connection"));
        }
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Ok(response.body(Empty::new()).unwrap())
    }

    /// When the tries came, since the first.
    fn tries(&self) -> Vec<Duration> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .map(|(at, _)| *at)
            .collect()
    }

    fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The values of one header, by try.
    fn told(&self, name: &str) -> Vec<String> {
        let text = |(_, headers): &(_, HeaderMap)| {
            let value = headers.get(name).map(|value| value.to_str().unwrap());
            value.unwrap_or("none").to_owned()
        };
        self.seen.lock().unwrap().iter().map(text).collect()
    }
}

fn ms(milliseconds: impl IntoIterator<Item = u64>) -> Vec<Duration> {
    milliseconds
        .into_iter()
        .map(Duration::from_millis)
        .collect()
}

type Answer = Response<ResponseBody<Empty<Bytes>>>;

/// One call by way of the layer.
async fn call(layer: &Backpressure, server: &Server, request: Req) -> Answer {
    layer
        .layer(server.service())
        .oneshot(request)
        .await
        .unwrap()
}

fn with_method(method: Method) -> Req {
    Request::builder()
        .method(method)
        .body(Empty::new())
        .unwrap()
}

fn grpc() -> Req {
    let request = Request::post("/a.B/C").header("content-type", "application/grpc+proto");
    request.body(Empty::new()).unwrap()
}

const BUSY: Head = (429, &[("retry-after", "1")]);
