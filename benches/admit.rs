//! What one request costs: `cargo bench --bench admit`, or `-- refuse fixed` behind it for the rows with those words.
//!
//! All variants run in one process, in interleaved rounds, so that what slows the machine slows them all; each figure
//! is the median of the rounds. criterion and divan measure one variant after the other, and a noisy machine then
//! shifts the ratios, which are the point here.
//!
//! With `--features metrics`, `--features tracing` there are rows for what those add, in the same run. What they add to
//! the other rows shows beside a run without: over bare, in raw.

// The wall clock is what is measured.
#![expect(clippy::disallowed_methods)]

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{Empty, Full};
use loadshed::{Budget, Criticality, LoadShed, RetryAfter, Threshold};
use tower::{Layer, Service, limit::ConcurrencyLimit, load_shed::LoadShed as TowerLoadShed};

const ROUNDS: usize = 21;
const REQUESTS: usize = 20_000;

type Body = Empty<Bytes>;

/// One kind of request, on however many threads: `worker` is called once for each, and what it returns is timed.
struct Variant {
    name: &'static str,
    worker: Box<dyn Fn() -> Box<dyn FnMut() + Send> + Sync>,
}

fn variant<F: FnMut() + Send + 'static>(
    name: &'static str,
    worker: impl Fn() -> F + Sync + 'static,
) -> Variant {
    Variant {
        name,
        worker: Box::new(move || Box::new(worker())),
    }
}

/// A service of which each thread has a clone, used for all its requests.
fn reused<S>(name: &'static str, service: S) -> Variant
where
    S: Service<Request<Body>> + Clone + Send + Sync + 'static,
{
    variant(name, move || {
        let mut service = service.clone();
        move || serve(&mut service)
    })
}

/// A service that is cloned for each request, as axum does.
fn cloned<S>(name: &'static str, service: S) -> Variant
where
    S: Service<Request<Body>> + Clone + Send + Sync + 'static,
{
    variant(name, move || {
        let service = service.clone();
        move || serve(&mut service.clone())
    })
}

/// A service whose requests go to one path of a hundred, as good as any other.
fn routed<S>(name: &'static str, service: S) -> Variant
where
    S: Service<Request<Body>> + Clone + Send + Sync + 'static,
{
    variant(name, move || {
        let mut service = service.clone();
        let uri = Uri::from_static("/v1/accounts/4711/orders/table-57/items");
        move || {
            let mut request = Request::new(Body::new());
            *request.uri_mut() = uri.clone();
            serve_one(&mut service, request);
        }
    })
}

#[inline(never)]
fn serve<S: Service<Request<Body>>>(service: &mut S) {
    serve_one(service, Request::new(Body::new()));
}

#[inline(always)]
fn serve_one<S: Service<Request<Body>>>(service: &mut S, request: Request<Body>) {
    let mut cx = Context::from_waker(Waker::noop());
    // Like tower's `ready` and `oneshot`: asked, then called. A service that is not ready answers by its error.
    match service.poll_ready(&mut cx) {
        Poll::Ready(Ok(())) => {}
        _ => return,
    }
    let future = service.call(black_box(request));
    let Poll::Ready(response) = pin!(future).poll(&mut cx) else {
        panic!("the inner service answers at once");
    };
    let _ = black_box(response);
}

/// The service to which all is compared. `VARIANT` gives each variant a type of its own, as each application has:
/// otherwise they would share code, and one would be compiled at the expense of another.
#[derive(Clone)]
struct Bare<const VARIANT: usize>;

impl<const VARIANT: usize> Service<Request<Body>> for Bare<VARIANT> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        Answer
    }
}

/// Makes its response when polled, as an `async fn` does.
struct Answer;

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::new(Body::new())))
    }
}

/// The least that counting can cost: one addition and one subtraction.
#[derive(Clone)]
struct Raw {
    inner: Bare<1>,
    count: &'static AtomicUsize,
}

struct RawAnswer {
    inner: Answer,
    count: &'static AtomicUsize,
}

impl Future for RawAnswer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.inner).poll(cx);
        self.count.fetch_sub(1, Ordering::Relaxed);
        answer
    }
}

impl Service<Request<Body>> for Raw {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = RawAnswer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.count.fetch_add(1, Ordering::Relaxed);
        RawAnswer {
            inner: self.inner.call(request),
            count: self.count,
        }
    }
}

/// The least that a layer can do which holds its place to the end of the body: an `Arc`, a compare-and-swap, a guard.
#[derive(Clone)]
struct Sketch {
    inner: Bare<2>,
    count: Arc<Line>,
}

struct Guard(Arc<Line>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

struct SketchAnswer {
    inner: Answer,
    guard: Option<Guard>,
}

#[expect(dead_code, reason = "held, not read")]
struct SketchBody {
    body: Body,
    guard: Option<Guard>,
}

impl Service<Request<Body>> for Sketch {
    type Response = Response<SketchBody>;
    type Error = Infallible;
    type Future = SketchAnswer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> SketchAnswer {
        let mut seen = self.count.load(Ordering::Relaxed);
        while let Err(now) =
            self.count
                .compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed)
        {
            assert!(now < 170, "the benchmark never fills it");
            seen = now;
        }
        let guard = Some(Guard(Arc::clone(&self.count)));
        SketchAnswer {
            inner: self.inner.call(request),
            guard,
        }
    }
}

impl Future for SketchAnswer {
    type Output = Result<Response<SketchBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = Pin::new(&mut self.inner).poll(cx) else {
            return Poll::Pending;
        };
        let guard = self.guard.take();
        Poll::Ready(Ok(response.map(|body| SketchBody {
            guard: guard.filter(|_| !http_body::Body::is_end_stream(&body)),
            body,
        })))
    }
}

/// The least that a refusal can cost, with and without headers.
#[derive(Clone)]
struct Always429 {
    retry_after: bool,
}

impl Service<Request<Body>> for Always429 {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(Body::new());
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        if self.retry_after {
            let seconds = HeaderValue::from(black_box(7_u64));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        drop(black_box(request));
        ready(Ok(response))
    }
}

/// What the answer itself costs, decided by nobody: the headers, the body and the extension of a refusal, in as many
/// allocations.
#[derive(Clone)]
struct Loaded429;

impl Service<Request<Body>> for Loaded429 {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = LoadedAnswer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let problem = Bytes::from_static(br#"{"title":"The server is busy. Retry later."}"#);
        let mut response = Response::new(Full::new(problem));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        *response.headers_mut() = HeaderMap::with_capacity(3);
        let headers = response.headers_mut();
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from_bytes(black_box(b"7")).unwrap(),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let json = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, json);
        response.extensions_mut().insert(black_box([0_u64; 3]));
        drop(black_box(request));
        LoadedAnswer(Some(Box::new(response)))
    }
}

struct LoadedAnswer(Option<Box<Response<Full<Bytes>>>>);

impl Future for LoadedAnswer {
    type Output = Result<Response<Full<Bytes>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(*self.0.take().expect("polled once")))
    }
}

/// A budget with nothing left in it.
fn full() -> Budget {
    let budget = Budget::fixed(1);
    let held = budget.try_acquire(Threshold::NEVER).unwrap();
    // Held for as long as the process runs.
    Box::leak(Box::new(held));
    budget
}

fn tower<const VARIANT: usize>(limit: usize) -> TowerLoadShed<ConcurrencyLimit<Bare<VARIANT>>> {
    TowerLoadShed::new(ConcurrencyLimit::new(Bare, limit))
}

/// Publishes after every 1,000 requests, to the exporter that most have: 100 scrapes a second at 100,000 requests.
#[cfg(feature = "metrics")]
fn published<S>(name: &'static str, service: S) -> Variant
where
    S: Service<Request<Body>> + Clone + Send + Sync + 'static,
{
    variant(name, move || {
        let mut service = service.clone();
        let mut served = 0_usize;
        move || {
            serve(&mut service);
            served += 1;
            if served % 1_000 == 0 {
                loadshed::observe::publish();
            }
        }
    })
}

/// The budget sheds all the while: now and then one is refused that asks for less than the others.
#[cfg(feature = "tracing")]
fn while_shedding<S>(name: &'static str, service: S, budget: Budget) -> Variant
where
    S: Service<Request<Body>> + Clone + Send + Sync + 'static,
{
    let held = budget.try_acquire(Threshold::NEVER).unwrap();
    // Held for as long as the process runs.
    Box::leak(Box::new(held));
    variant(name, move || {
        assert!(budget.try_acquire(Threshold::ratio(0.005)).is_err());
        let mut service = service.clone();
        move || serve(&mut service)
    })
}

fn variants() -> Vec<Variant> {
    let count: &'static AtomicUsize = Box::leak(Box::new(Line::default()));
    let raw = Raw { inner: Bare, count };
    let sketch = Sketch {
        inner: Bare,
        count: Arc::default(),
    };
    let fixed = LoadShed::ratio(0.85).budget(Budget::fixed(200));
    let adaptive = LoadShed::ratio(0.85);
    let nested = {
        let pool = Budget::fixed(200);
        let inner = LoadShed::ratio(0.85).budget(&pool).layer(Bare::<3>);
        LoadShed::observe().budget(&pool).layer(inner)
    };
    let table = {
        // Each differs from the others in its middle, behind a parameter.
        let route = |nth| format!("/v1/accounts/{{account}}/orders/table-{nth}/{{*rest}}");
        LoadShed::ratio(0.85)
            .budget(Budget::fixed(200))
            .only((0..100).map(route))
    };
    let unlisted = table.clone().only(["/another"]).budget(Budget::fixed(200));
    let classify = LoadShed::ratio(0.85)
        .budget(Budget::fixed(200))
        .classify(|head| match head.headers().get("x-batch") {
            Some(_) => Criticality::Sheddable,
            None => Criticality::Critical,
        });
    let exposed = classify.clone().expose_class(true);
    let callers = || LoadShed::ratio(0.85).budget(Budget::fixed(200));
    let path = |head: &Request<()>| head.uri().path().len();
    let [keyed, shared] = [callers().key(path), callers().fair_by(path)];
    let refuse = LoadShed::ratio(0.85).budget(full());
    let refuse_fixed = LoadShed::ratio(0.85)
        .budget(full())
        .retry_after(RetryAfter::fixed(Duration::from_secs(5)));
    let tower_full = {
        let full = tower::<11>(1);
        let mut holder = full.clone();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(holder.poll_ready(&mut cx).is_ready());
        Box::leak(Box::new(holder));
        full
    };
    #[cfg(feature = "metrics")]
    let exported = {
        let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new();
        // It counts for as long as the process runs.
        Box::leak(Box::new(prometheus.install_recorder().unwrap()));
        published(
            "admit, fixed, published every 1,000",
            LoadShed::ratio(0.85)
                .budget(Budget::fixed(200))
                .layer(Bare::<14>),
        )
    };
    #[cfg(feature = "tracing")]
    let shedding = {
        let budget = Budget::fixed(200);
        let layer = LoadShed::ratio(0.85).budget(&budget);
        while_shedding(
            "admit, fixed, while shedding",
            layer.layer(Bare::<15>),
            budget,
        )
    };
    vec![
        reused("bare service", Bare::<0>),
        variant("raw atomics alone", move || {
            move || {
                black_box(count.fetch_add(1, Ordering::Relaxed));
                black_box(count.fetch_sub(1, Ordering::Relaxed));
            }
        }),
        variant("clock read alone", || {
            || {
                black_box(tokio::time::Instant::now());
            }
        }),
        reused("bare + raw atomics", raw),
        reused("sketch of a layer", sketch.clone()),
        cloned("sketch of a layer, cloned", sketch),
        reused("admit, fixed", fixed.layer(Bare::<4>)),
        #[cfg(feature = "metrics")]
        exported,
        #[cfg(feature = "tracing")]
        shedding,
        cloned("admit, fixed, cloned", fixed.layer(Bare::<5>)),
        reused("admit, adaptive", adaptive.layer(Bare::<6>)),
        cloned("admit, adaptive, cloned", adaptive.layer(Bare::<7>)),
        reused("admit, two layers of one budget", nested),
        routed("bare service, by a path", Bare::<14>),
        routed("admit, by a path", fixed.layer(Bare::<15>)),
        routed(
            "admit, by a path, with a table of 100 routes",
            table.layer(Bare::<16>),
        ),
        reused(
            "admit, not in a table of 100 routes",
            unlisted.layer(Bare::<17>),
        ),
        reused("admit, with classify", classify.layer(Bare::<18>)),
        reused(
            "admit, with classify and its class exposed",
            exposed.layer(Bare::<19>),
        ),
        reused("admit, with a key", keyed.layer(Bare::<20>)),
        reused("admit, with fair shares", shared.layer(Bare::<21>)),
        reused("admit, tower limit + shed", tower::<12>(200)),
        cloned("admit, tower limit + shed, cloned", tower::<13>(200)),
        reused("429 without a header", Always429 { retry_after: false }),
        reused(
            "429 with a computed header",
            Always429 { retry_after: true },
        ),
        reused("429 with all that a refusal carries", Loaded429),
        reused("refuse, fixed hint", refuse_fixed.layer(Bare::<8>)),
        reused("refuse, adaptive hint", refuse.layer(Bare::<9>)),
        cloned("refuse, adaptive hint, cloned", refuse.layer(Bare::<10>)),
        cloned("refuse, tower limit + shed, cloned", tower_full),
    ]
}

/// A counter on a line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line(AtomicUsize);

impl std::ops::Deref for Line {
    type Target = AtomicUsize;

    fn deref(&self) -> &AtomicUsize {
        &self.0
    }
}

/// Nanoseconds a request, on each of `threads` threads.
fn time(variant: &Variant, threads: usize) -> f64 {
    let barrier = Arc::new(Barrier::new(threads));
    let run = |mut request: Box<dyn FnMut() + Send>| {
        let barrier = Arc::clone(&barrier);
        move || {
            for _ in 0..REQUESTS / 20 {
                request();
            }
            barrier.wait();
            let start = Instant::now();
            for _ in 0..REQUESTS {
                request();
            }
            start.elapsed().as_nanos() as f64 / REQUESTS as f64
        }
    };
    if threads == 1 {
        return run((variant.worker)())();
    }
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(run((variant.worker)())))
            .collect();
        let times = workers.into_iter().map(|worker| worker.join().unwrap());
        times.sum::<f64>() / threads as f64
    })
}

/// All, or those whose name has one of the words in it that stand behind `--`, and what they are compared to.
fn chosen(mut variants: Vec<Variant>) -> Vec<Variant> {
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let wanted = |name: &str| words.iter().any(|word| name.contains(word));
    let compared = ["bare service", "raw atomics alone"];
    if !words.is_empty() {
        variants.retain(|variant| compared.contains(&variant.name) || wanted(variant.name));
    }
    variants
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Medians for one and for two threads, a row a variant.
fn measure(variants: &[Variant]) -> Vec<[f64; 2]> {
    let mut rounds = vec![[Vec::new(), Vec::new()]; variants.len()];
    for _ in 0..ROUNDS {
        for (variant, times) in variants.iter().zip(&mut rounds) {
            times[0].push(time(variant, 1));
            times[1].push(time(variant, 2));
        }
    }
    rounds.into_iter().map(|times| times.map(median)).collect()
}

fn main() {
    let variants = chosen(variants());
    let medians = measure(&variants);
    let row = |name: &str| {
        let at = variants.iter().position(|variant| variant.name == name);
        medians[at.expect("it is in the table")]
    };
    let (bare, raw) = (row("bare service"), row("raw atomics alone"));

    println!(
        "Nanoseconds a request, medians of {ROUNDS} interleaved rounds of {REQUESTS} requests a thread."
    );
    println!("over bare, in raw: (it - the bare service) / raw atomics alone, in the same run.\n");
    println!("| | 1 thread | over bare, in raw | 2 threads | over bare, in raw | allocations |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (variant, median) in variants.iter().zip(&medians) {
        let mut request = (variant.worker)();
        request();
        let allocations = allocation_counter::measure(request).count_total;
        let over = |threads: usize| (median[threads] - bare[threads]) / raw[threads];
        println!(
            "| {} | {:.1} | {:.2} | {:.1} | {:.2} | {allocations} |",
            variant.name,
            median[0],
            over(0),
            median[1],
            over(1),
        );
    }
}
