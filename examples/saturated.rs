//! A server whose budget is full on demand, to see how a client or a proxy handles a refusal.
//!
//! ```text
//! cargo run --example saturated
//! ```
//!
//! HTTP/1.1, HTTP/2 and gRPC (the health service, as it needs no generated code) are on port 3100,
//! the controls on port 3101. In another terminal, a client is refused twice, waits for the
//! `Retry-After`, and is served:
//!
//! ```text
//! curl -X POST http://127.0.0.1:3101/hold/2
//! curl -i --retry 5 http://127.0.0.1:3100/
//! curl http://127.0.0.1:3101/seen
//! ```
//!
//! `POST /hold` fills the budget until `POST /free`. A line of `/seen` is a request since the last
//! `/hold`: the times of its arrival and of its response (in milliseconds), its method, its status,
//! and its retry hint (in milliseconds, `-` without a hint).
//!
//! A second server, which refuses with 503, so that a proxy can choose (see `ops/`). With port 0,
//! both ports are chosen by the system and printed.
//!
//! ```text
//! cargo run --example saturated -- b 3200 503
//! ```

use std::{
    env,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    http::{HeaderValue, Method, StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post},
};
use futures_util::StreamExt;
use loadshed::{Budget, LoadShed, Permit, Shed, Threshold};
use tokio::{net::TcpListener, time::Instant};
use tonic::service::Routes;
use tonic_health::server::health_reporter;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = env::args().skip(1).collect();
    let arg = |at: usize, or| args.get(at).map_or(or, String::as_str);
    let port: u16 = arg(1, "3100").parse()?;
    let status: StatusCode = arg(2, "429").parse()?;

    let saturation = Saturation::new(arg(0, "a").parse()?);
    let shed = LoadShed::ratio(0.85)
        .budget(&saturation.budget)
        .try_status(status)?;
    let app = app(shed, &saturation);

    let beside = match port {
        0 => 0,
        port => port
            .checked_add(1)
            .ok_or("no port is left for the controls")?,
    };
    let (server, controls) = (listen(port).await?, listen(beside).await?);
    println!("http://{}", server.local_addr()?);
    println!("http://{} has the controls", controls.local_addr()?);
    tokio::try_join!(
        axum::serve(server, app).into_future(),
        axum::serve(controls, self::controls(saturation)).into_future(),
    )?;
    Ok(())
}

async fn listen(port: u16) -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| format!("cannot listen on port {port}: {error}"))
}

fn app(shed: LoadShed, saturation: &Saturation) -> Router {
    let (_reporter, health) = health_reporter();
    Routes::new(health)
        .into_axum_router()
        .route("/", any(receive).with_state(saturation.clone()))
        .layer(shed)
        .layer(middleware::from_fn_with_state(saturation.clone(), note))
        // Never shed: otherwise, a load balancer would take a busy server for a dead server.
        .route("/healthz", get(async || "healthy\n"))
}

fn controls(saturation: Saturation) -> Router {
    Router::new()
        .route("/hold", post(hold))
        .route("/hold/{refusals}", post(hold_for))
        .route("/free", post(free))
        .route("/seen", get(seen))
        .with_state(saturation)
}

/// Reads the whole upload and discards it.
async fn receive(State(saturation): State<Saturation>, upload: Body) -> Result<String, StatusCode> {
    saturation.locked().handled += 1;
    let mut upload = upload.into_data_stream();
    let mut bytes = 0;
    while let Some(part) = upload.next().await {
        bytes += part.map_err(|_| StatusCode::BAD_REQUEST)?.len();
    }
    Ok(format!("received {bytes} bytes\n"))
}

/// Records each response, and names this server in it.
async fn note(State(saturation): State<Saturation>, request: Request, next: Next) -> Response {
    let (method, arrived) = (request.method().clone(), Instant::now());
    let mut response = next.run(request).await;
    let name = saturation.name.clone();
    response.headers_mut().insert("x-served-by", name);
    saturation.locked().note(method, arrived, &response);
    response
}

async fn hold(State(saturation): State<Saturation>) {
    saturation.hold(None);
}

async fn hold_for(State(saturation): State<Saturation>, Path(refusals): Path<usize>) {
    saturation.hold(Some(refusals));
}

async fn free(State(saturation): State<Saturation>) {
    saturation.locked().held.clear();
}

async fn seen(State(saturation): State<Saturation>) -> String {
    saturation.locked().to_string()
}

#[derive(Clone, Debug)]
struct Saturation {
    name: HeaderValue,
    budget: Budget,
    state: Arc<Mutex<Saturated>>,
}

#[derive(Debug)]
struct Saturated {
    /// Permits for the whole budget, while it is held.
    held: Vec<Permit>,
    /// Refusals until the budget is freed; `None` if only `/free` frees it.
    refusals_left: Option<usize>,
    /// Calls of the handler.
    handled: usize,
    since: Instant,
    exchanges: Vec<Exchange>,
}

#[derive(Debug)]
struct Exchange {
    method: Method,
    status: StatusCode,
    arrived: Duration,
    responded: Duration,
    hint: Option<Duration>,
}

impl Saturation {
    fn new(name: HeaderValue) -> Self {
        let state = Saturated {
            held: Vec::new(),
            refusals_left: None,
            handled: 0,
            since: Instant::now(),
            exchanges: Vec::new(),
        };
        Self {
            name,
            budget: Budget::fixed(200),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn hold(&self, refusals: Option<usize>) {
        let mut state = self.locked();
        while let Ok(permit) = self.budget.try_acquire(Threshold::ratio(1.0)) {
            state.held.push(permit);
        }
        state.refusals_left = refusals;
        state.handled = 0;
        state.since = Instant::now();
        state.exchanges.clear();
    }

    fn locked(&self) -> MutexGuard<'_, Saturated> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Saturated {
    fn note(&mut self, method: Method, arrived: Instant, response: &Response) {
        let number = |header: &str| -> Option<u64> {
            response.headers().get(header)?.to_str().ok()?.parse().ok()
        };
        let hint = match number("grpc-retry-pushback-ms") {
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
            None => number(RETRY_AFTER.as_str()).map(Duration::from_secs),
        };
        self.exchanges.push(Exchange {
            method,
            status: response.status(),
            arrived: arrived.saturating_duration_since(self.since),
            responded: self.since.elapsed(),
            hint,
        });

        let refused = response.extensions().get::<Shed>().is_some();
        if let Some(left) = self.refusals_left.as_mut().filter(|_| refused) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.held.clear();
            }
        }
    }
}

impl fmt::Display for Saturated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "handled {}", self.handled)?;
        for exchange in &self.exchanges {
            let (arrived, responded) =
                (exchange.arrived.as_millis(), exchange.responded.as_millis());
            write!(f, "{arrived} {responded} {} ", exchange.method)?;
            match exchange.hint {
                Some(hint) => writeln!(f, "{} {}", exchange.status.as_u16(), hint.as_millis())?,
                None => writeln!(f, "{} -", exchange.status.as_u16())?,
            }
        }
        Ok(())
    }
}
