//! A stack of services that is observed from its handler: how many permits are in flight, and what is left in flight afterwards.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use futures_util::{FutureExt, stream};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use loadshed::{Budget, LoadShed};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::support::{panic_on_purpose, quiet};

pub(crate) type Stack = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

pub(crate) fn boxed<S, B>(service: S) -> Stack
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service.map_response(|response| response.map(Body::new)))
}

/// What a handler does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Works for a second, and responds with 100 bytes.
    Work,
    /// Works for a second, and panics.
    Panic,
    /// Works for an hour.
    Hang,
    /// Works for a second, and reads an upload of 300 bytes.
    Read,
    /// As `Read`, with an upload that announces its length.
    ReadAnnounced,
}

pub(crate) fn request(task: Task) -> Request<Body> {
    const PIECE: Result<Bytes, Infallible> = Ok(Bytes::from_static(&[b'x'; 100]));
    let head = Request::post("/api/work").header(header::ACCEPT_ENCODING, "gzip");
    let head = head.extension(task);
    let upload = || Body::from_stream(stream::iter([PIECE; 3]));
    match task {
        Task::Read => head.body(upload()),
        Task::ReadAnnounced => head.header(header::CONTENT_LENGTH, 300).body(upload()),
        _ => head.body(Body::empty()),
    }
    .unwrap()
}

/// The budgets of a stack, and the settings of their layers.
#[derive(Clone)]
pub(crate) struct Pools {
    pools: Vec<Budget>,
    shares_permits: bool,
    /// What is in flight of each budget whenever the handler begins to work.
    seen: Arc<Mutex<Vec<Vec<usize>>>>,
    /// How many handlers work.
    working: Arc<AtomicUsize>,
}

/// A handler at work.
struct Working(Arc<AtomicUsize>);

impl Working {
    fn begin(working: &Arc<AtomicUsize>) -> Self {
        working.fetch_add(1, SeqCst);
        Self(Arc::clone(working))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Pools {
    /// Returns another layer of a budget.
    pub(crate) fn shed(&self, nth: usize) -> LoadShed {
        let shed = LoadShed::ratio(1.0).budget(&self.pools[nth]);
        match self.shares_permits {
            true => shed.share_permit(),
            false => shed,
        }
    }

    fn in_flight(&self) -> Vec<usize> {
        self.pools.iter().map(Budget::in_flight).collect()
    }

    fn handler(&self) -> Stack {
        let pools = self.clone();
        boxed(service_fn(move |request: Request<Body>| {
            let in_flight = pools.in_flight();
            pools.seen.lock().unwrap().push(in_flight);
            let working = Working::begin(&pools.working);
            async {
                let response = handle(request).await;
                drop(working);
                response
            }
        }))
    }
}

async fn handle(request: Request<Body>) -> Result<Response<Body>, Infallible> {
    sleep(Duration::from_secs(1)).await;
    let task = request.extensions().get::<Task>().copied();
    match task.expect("a task") {
        Task::Work => {}
        Task::Panic => panic_on_purpose(),
        Task::Hang => sleep(Duration::from_secs(3_600)).await,
        Task::Read | Task::ReadAnnounced => {
            if request.into_body().collect().await.is_err() {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                return Ok(response);
            }
        }
    }
    Ok(Response::new(Body::from("x".repeat(100))))
}

/// A stack with its budgets.
pub(crate) struct Observed {
    name: String,
    pools: Pools,
    service: Stack,
}

impl Observed {
    /// Builds a stack around the handler.
    pub(crate) fn new(
        name: impl Into<String>,
        budgets: usize,
        shares_permits: bool,
        build: impl FnOnce(&Pools, Stack) -> Stack,
    ) -> Self {
        let pools = Pools {
            pools: (0..budgets).map(|_| Budget::fixed(10)).collect(),
            shares_permits,
            seen: Arc::default(),
            working: Arc::default(),
        };
        let service = build(&pools, pools.handler());
        let name = format!("{}, share_permit: {shares_permits}", name.into());
        Self {
            name,
            pools,
            service,
        }
    }

    #[track_caller]
    fn expect(&self, in_flight: usize) {
        let expected = vec![in_flight; self.pools.pools.len()];
        assert_eq!(self.pools.in_flight(), expected, "{}", self.name);
    }

    fn seen(&self) -> Vec<Vec<usize>> {
        std::mem::take(&mut *self.pools.seen.lock().unwrap())
    }

    /// Returns the status of a response that was read whole, or `None` if the stack panics.
    pub(crate) async fn call(&self, task: Task) -> Option<StatusCode> {
        quiet();
        let response = self.service.clone().oneshot(request(task));
        let call = async {
            let (head, body) = response.await.unwrap().into_parts();
            body.collect().await.expect("a whole body");
            head.status
        };
        AssertUnwindSafe(call).catch_unwind().await.ok()
    }

    /// Each request holds one permit of each budget, until its response is read.
    pub(crate) async fn holds_one_permit_a_request(&self) {
        let budgets = self.pools.pools.len();
        let response = self.service.clone().oneshot(request(Task::Work));
        let (head, body) = response.await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::OK, "{}", self.name);
        assert_eq!(self.seen(), [vec![1; budgets]], "{}", self.name);
        self.expect(1);
        body.collect().await.unwrap();
        self.expect(0);

        let second = async {
            sleep(Duration::from_millis(10)).await;
            self.call(Task::Work).await
        };
        let both = tokio::join!(self.call(Task::Work), second);
        assert_eq!(both, (Some(StatusCode::OK), Some(StatusCode::OK)));
        let expected = [vec![1; budgets], vec![2; budgets]];
        assert_eq!(self.seen(), expected, "{}", self.name);
        self.expect(0);
        for pool in &self.pools.pools {
            let figures = pool.snapshot();
            let counted = (figures.admitted, figures.peak_in_flight);
            assert_eq!(counted, (3, 2), "{}", self.name);
        }
    }

    /// A request ends with this status, or with a panic, and leaves no permit in flight.
    pub(crate) async fn leaves_no_permit(&self, task: Task, expected: Option<u16>) {
        let status = self.call(task).await;
        let status = status.map(|status| status.as_u16());
        assert_eq!(status, expected, "{} {task:?}", self.name);
        self.expect(0);
    }

    /// A request whose caller leaves while the handler works leaves no permit in flight. A handler that works on in another task
    /// keeps the permit to its end, if the permit is shared.
    pub(crate) async fn leaves_no_permit_of_a_caller_that_leaves(&self) {
        let call = timeout(Duration::from_millis(500), self.call(Task::Work));
        assert!(call.await.is_err(), "{}", self.name);
        let working = self.pools.working.load(SeqCst);
        self.expect(if self.pools.shares_permits {
            working
        } else {
            0
        });
        sleep(Duration::from_secs(2)).await;
        self.expect(0);
    }
}
