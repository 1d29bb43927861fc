//! A short wait for free capacity, in place of a refusal at once.

mod benefit;
mod dropped_calls;
mod queue_against_model;
mod queue_bounds;
mod queue_order;
mod several_layers;
#[path = "../support/mod.rs"]
mod support;
mod tenants;
mod thread_races;

use std::{task::Poll, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use loadshed::{Budget, LoadShed, LoadShedService, ResponseBody, ResponseFuture, Shed};
use tokio::time::advance;
use tokio_test::task::{Spawn, spawn};
use tower::{Layer, Service};

use support::{Req, Scripted, ScriptedBody, get, holding, is_refused};

type Answer = Response<ResponseBody<ScriptedBody>>;

/// One call, polled by hand.
struct Call(Spawn<ResponseFuture<Scripted, Empty<Bytes>>>);

#[derive(Debug)]
enum Now {
    Waits,
    /// The request holds its permit until the response is dropped.
    Served(Answer),
    Refused(Answer),
}

impl Call {
    fn now(&mut self) -> Now {
        match self.0.poll() {
            Poll::Pending => Now::Waits,
            Poll::Ready(answer) => match answer.unwrap() {
                answer if is_refused(&answer) => Now::Refused(answer),
                answer => Now::Served(answer),
            },
        }
    }

    fn waits(&mut self) -> bool {
        matches!(self.now(), Now::Waits)
    }

    #[track_caller]
    fn served(&mut self) -> Answer {
        match self.now() {
            Now::Served(answer) => answer,
            other => panic!("the call is not served: {other:?}"),
        }
    }

    #[track_caller]
    fn refused(&mut self) -> Shed {
        match self.now() {
            Now::Refused(answer) => answer.extensions().get::<Shed>().unwrap().clone(),
            other => panic!("the call is not refused: {other:?}"),
        }
    }
}

struct Server(LoadShedService<Scripted>);

impl Server {
    fn new(shed: LoadShed) -> Self {
        Self(shed.layer(holding()))
    }

    /// Calls the service. The call is not polled yet.
    fn call(&mut self, path: &str) -> Call {
        self.send(get(path))
    }

    fn send(&mut self, request: Req) -> Call {
        Call(spawn(self.0.call(request)))
    }

    #[track_caller]
    fn served(&mut self, path: &str) -> Answer {
        self.call(path).served()
    }

    /// Returns a call that waits.
    #[track_caller]
    fn waiting(&mut self, path: &str) -> Call {
        let mut call = self.call(path);
        assert!(call.waits());
        call
    }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn pass(millis: u64) {
    advance(ms(millis)).await;
}

/// A budget of `limit` with a queue of at most 3 requests, for at most 100 ms.
fn three_wait(limit: usize) -> (Budget, LoadShed) {
    let budget = Budget::fixed(limit);
    let shed = LoadShed::ratio(1.0).budget(&budget).wait(3, ms(100));
    (budget, shed)
}

fn with_header(name: &'static str, value: &str) -> Req {
    let request = Request::get("/").header(name, value);
    request.body(Empty::new()).unwrap()
}
