//! Promise 3 under faults: requests over HTTP/1 and HTTP/2 that are dropped, reset, half read, half sent, that panic, stall and
//! spawn work, while a layer is switched to dry run and back, and drains begin and end.
//!
//! `FAULTY_REQUESTS=1000000 cargo test --release --test permits faulty` for more of them. Memory is flat after the first quarter: the
//! allocations of one thread are counted, and with many requests the process must not grow.

use std::{
    convert::Infallible,
    env,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use loadshed::{Budget, Handle, LoadShed, RequestPermit};
use tokio::{
    io::{DuplexStream, duplex},
    runtime,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tower::{Layer, Service, service_fn};

use crate::support::{panic_on_purpose, quiet, sockets::until};

const LIMIT: usize = 16;
const CLIENTS: usize = 12;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How many handlers and jobs work, and the most that ever did at once.
#[derive(Clone, Default)]
struct Working(Arc<(AtomicUsize, AtomicUsize)>);

struct Works(Working);

impl Working {
    fn begin(&self) -> Works {
        let now = self.0.0.fetch_add(1, SeqCst) + 1;
        self.0.1.fetch_max(now, SeqCst);
        Works(self.clone())
    }
}

impl Drop for Works {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, SeqCst);
    }
}

async fn handle(
    request: Request<Incoming>,
    working: Working,
) -> Result<Response<Body>, Infallible> {
    let works = working.begin();
    let permit = request.extensions().get::<RequestPermit>().cloned();
    yield_now().await;
    let body = match request.uri().path() {
        "/panic" => panic_on_purpose(),
        "/never" => std::future::pending().await,
        "/read" => Full::new(read(request.into_body()).await).boxed_unsync(),
        "/large" => Full::from(vec![7; 1 << 20]).boxed_unsync(),
        "/endless" => {
            let frame = || Ok(Frame::data(Bytes::from_static(&[7; 1_024])));
            StreamBody::new(stream::repeat_with(frame)).boxed_unsync()
        }
        "/job" => {
            drop(works);
            tokio::spawn(async move {
                let works = working.begin();
                for _ in 0..10 {
                    yield_now().await;
                }
                drop((works, permit));
            });
            Full::from("begun").boxed_unsync()
        }
        _ => Full::from("served").boxed_unsync(),
    };
    Ok(Response::new(body))
}

async fn read(body: Incoming) -> Bytes {
    let read = body.collect().await;
    read.map(|body| body.to_bytes()).unwrap_or_default()
}

fn connect<S>(service: S) -> DuplexStream
where
    S: Service<Request<Incoming>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    S::Response: Into<Response<loadshed::ResponseBody<loadshed::ResponseBody<Body>>>>,
{
    let (client, server) = duplex(16 << 10);
    let service = service_fn(move |request| {
        let response = service.clone().call(request);
        async { response.await.map(Into::into) }
    });
    tokio::spawn(async move {
        let connection = auto::Builder::new(TokioExecutor::new());
        let service = TowerToHyperService::new(service);
        // The client's faults are errors here.
        let _ = connection
            .serve_connection(TokioIo::new(server), service)
            .await;
    });
    client
}

/// A request whose body may end before its announced length.
fn request(random: &mut fastrand::Rng) -> Request<Body> {
    let paths = [
        "/", "/", "/", "/panic", "/never", "/read", "/large", "/endless", "/job",
    ];
    let path = paths[random.usize(..paths.len())];
    let is_short = random.u8(..8) == 0;
    let body = match path {
        "/read" if is_short => {
            let sent = stream::once(async { Ok(Frame::data(Bytes::from_static(b"half"))) });
            StreamBody::new(sent.chain(stream::pending())).boxed_unsync()
        }
        "/read" => Full::from(vec![7; random.usize(..100_000)]).boxed_unsync(),
        _ => Full::default().boxed_unsync(),
    };
    Request::get(format!("http://a{path}"))
        .header("host", "a")
        .body(body)
        .unwrap()
}

/// Reads a part of the response, or all of it, for at most some milliseconds, or drops it unread.
async fn receive(
    response: impl Future<Output = hyper::Result<Response<Incoming>>>,
    random: &mut fastrand::Rng,
) -> bool {
    let frames = [0, 1, 3, usize::MAX][random.usize(..4)];
    let patience = Duration::from_millis([0, 1, 2, 5][random.usize(..4)]);
    let mut response = pin!(response);
    let received = timeout(patience, async {
        let mut body = response.as_mut().await?.into_body();
        for _ in 0..frames {
            match body.frame().await {
                Some(frame) => drop(frame?),
                None => break,
            }
        }
        Ok::<_, hyper::Error>(())
    });
    matches!(received.await, Ok(Ok(())))
}

async fn client(connect: impl Fn() -> DuplexStream, seed: u64, requests: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent = 0;
    while sent < requests {
        let io = TokioIo::new(connect());
        if seed.is_multiple_of(2) {
            let (mut sender, connection) = http1::handshake(io).await.unwrap();
            let connection = tokio::spawn(connection);
            // Until a fault leaves a response unread.
            loop {
                sent += 1;
                let response = sender.send_request(request(&mut random));
                let is_whole = receive(response, &mut random).await;
                // A response that was dropped unread may keep the connection busy.
                let ready = timeout(Duration::from_millis(5), sender.ready());
                if !is_whole || sent >= requests || !matches!(ready.await, Ok(Ok(()))) {
                    break;
                }
            }
            connection.abort();
        } else {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), io).await.unwrap();
            let connection = tokio::spawn(connection);
            for _ in 0..random.usize(1..50) {
                sent += 1;
                let response = sender.send_request(request(&mut random));
                receive(response, &mut random).await;
                if sender.ready().await.is_err() {
                    break;
                }
            }
            connection.abort();
        }
    }
}

/// Switches the layer and the budget until it is told to stop.
async fn switch(pool: Budget, handle: Option<Handle>, stop: Arc<AtomicBool>) {
    let mut random = fastrand::Rng::with_seed(1);
    while !stop.load(SeqCst) {
        sleep(Duration::from_millis(random.u64(1..20))).await;
        match (random.u8(..4), &handle) {
            (0, _) => pool.begin_drain(Duration::from_millis(random.u64(..5))),
            (1, Some(handle)) => handle.set_dry_run(true),
            (2, Some(handle)) => handle.set_dry_run(false),
            _ => pool.end_drain(),
        }
    }
    pool.end_drain();
}

/// The layers and the handler of a server.
struct Server {
    pool: Budget,
    working: Working,
    shed: LoadShed,
}

impl Server {
    fn new() -> Self {
        quiet();
        let pool = Budget::fixed(LIMIT);
        let shed = LoadShed::ratio(1.0)
            .budget(&pool)
            .share_permit()
            .stall_timeout(Duration::from_millis(20));
        let working = Working::default();
        Self {
            pool,
            working,
            shed,
        }
    }

    /// Sends it requests from all clients, and waits until nothing is in flight.
    async fn drive(&self, round: usize, is_switched: bool, requests: usize) {
        let (pool, working) = (&self.pool, self.working.clone());
        let handler = service_fn(move |request| handle(request, working.clone()));
        let shed = self.shed.clone();
        let switched = is_switched.then(|| shed.handle());
        // Two layers: the inner one never refuses what the outer one has admitted.
        let inner = LoadShed::observe().budget(pool);
        let service = shed.layer(inner.layer(handler));
        let stop = Arc::new(AtomicBool::new(false));
        let switching = tokio::spawn(switch(pool.clone(), switched, Arc::clone(&stop)));
        let mut clients = JoinSet::new();
        for client_number in 0..CLIENTS {
            let service = service.clone();
            clients.spawn(client(
                move || connect(service.clone()),
                (round * CLIENTS + client_number) as u64,
                requests / CLIENTS,
            ));
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        stop.store(true, SeqCst);
        switching.await.unwrap();
        timeout(Duration::from_secs(20), pool.emptied())
            .await
            .unwrap_or_else(|_| panic!("it leaks: {:?}", pool.snapshot()));
        let seen = pool.snapshot();
        assert_eq!(
            (seen.in_flight, seen.marked, seen.stalled_responses),
            (0, 0, 0)
        );
        assert!(seen.refused > 0, "nothing was tested: {seen:?}");
        assert_eq!(self.working.0.0.load(SeqCst), 0);
    }
}

/// Returns the most that worked at once.
async fn run(is_switched: bool, requests: usize) -> usize {
    let server = Server::new();
    let mut resident = [0; 4];
    for (round, bytes) in resident.iter_mut().enumerate() {
        server.drive(round, is_switched, requests / 4).await;
        *bytes = resident_bytes();
    }
    println!("resident bytes after each quarter: {resident:?}");
    if requests >= MANY {
        let grown = resident[3].saturating_sub(resident[0]);
        assert!(grown <= MOST_GROWN, "memory grows: {resident:?}");
    }
    server.working.0.1.load(SeqCst)
}

/// The number of requests from which growth of the process shows a leak.
const MANY: usize = 100_000;

/// The most bytes by which the process may grow in the last three quarters: the allocator's free memory varies by some MiB. A
/// leak of 112 bytes a request is more with 100,000 requests, and one of 23 bytes with the 500,000 of `.ci/long`.
const MOST_GROWN: usize = 8 << 20;

/// Returns the memory of the process: 0 where the system is not Linux.
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    resident.unwrap_or(0) * 4_096
}

fn requests() -> usize {
    let requests = env::var("FAULTY_REQUESTS").ok();
    requests.map_or(6_000, |requests| requests.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_faulty_requests_leak_no_permit_and_the_limit_holds() {
    let most = run(false, requests()).await;
    assert!(most <= LIMIT, "{most} at work under a limit of {LIMIT}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_faulty_requests_leak_no_permit_while_the_layer_is_switched_to_dry_run_and_back() {
    run(true, requests()).await;
}

/// The most bytes that may be in use after the last three quarters of the requests, and were not after the first: less than 8 a
/// request of the default number.
const MOST_KEPT: i64 = 32 << 10;

#[test]
fn p03_faulty_requests_leave_no_memory_behind() {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::new();
    // On one thread: the allocations of others are not counted.
    let kept = [0, 1, 2, 3].map(|round| {
        let quarter = async {
            server.drive(round, true, requests() / 4).await;
            let alive = || runtime::Handle::current().metrics().num_alive_tasks();
            // The tasks of connections.
            until(|| alive() == 0).await;
        };
        allocation_counter::measure(|| runtime.block_on(quarter)).bytes_current
    });
    println!("bytes that each quarter keeps: {kept:?}");
    let later: i64 = kept[1..].iter().sum();
    assert!(later <= MOST_KEPT, "memory grows: {kept:?}");
}
