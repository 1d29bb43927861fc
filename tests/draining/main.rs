//! Promise 26: draining.

mod emptied;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod threads;

use std::{convert::Infallible, future::ready, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{Empty, Full};
use loadshed::{Budget, LoadShed, LoadShedService};
use tower::{
    Layer,
    util::{ServiceFn, service_fn},
};

const GRACE: Duration = Duration::from_secs(5);
const MOMENT: Duration = Duration::from_millis(1);

type Served = std::future::Ready<Result<Response<Full<Bytes>>, Infallible>>;
type Handler = ServiceFn<fn(Request<Empty<Bytes>>) -> Served>;

fn handle(_: Request<Empty<Bytes>>) -> Served {
    ready(Ok(Response::new(Full::from("served"))))
}

fn served(shed: &LoadShed) -> LoadShedService<Handler> {
    shed.layer(service_fn(handle as fn(_) -> _))
}

/// Returns a budget of 4 that drains, and whose grace has passed.
async fn drained() -> Budget {
    let budget = Budget::fixed(4);
    budget.begin_drain(GRACE);
    tokio::time::advance(GRACE).await;
    budget
}
