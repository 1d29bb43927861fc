//! Serves the last good response for a path in place of a refusal.
//!
//! A weather service whose back end carries 10 forecasts at once. Instead of a refusal at 85 % of that, it sends the last
//! forecast for the same city, if it has one of the last five minutes. `Age` says how old the forecast is, and with
//! `Cache-Control: max-age` a client knows whether it is stale (RFC 9111, 4.2; `Warning` is obsolete). Without a cached
//! forecast, it refuses with a 429.
//!
//! ```text
//! cargo run --example last_good
//! ```
//!
//! In another terminal, one forecast; then 20 at once, of which 8 are new and 12 are copies of the first; then 20 at once
//! for a city without a cached forecast, of which 12 are refused:
//!
//! ```text
//! forecasts() { curl -Z --parallel-immediate --no-progress-meter -o /dev/null \
//!     -w '%{http_code} Age: %header{age} Retry-After: %header{retry-after}\n' "$@" | sort | uniq -c; }
//! forecasts http://127.0.0.1:3003/weather/oslo; sleep 2
//! forecasts 'http://127.0.0.1:3003/weather/oslo?[1-20]'
//! forecasts 'http://127.0.0.1:3003/weather/rome?[1-20]'
//! ```

use std::{
    collections::{HashMap, VecDeque},
    error::Error,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Path, Request, State},
    http::{
        self, HeaderMap, HeaderValue, Method, StatusCode,
        header::{AGE, AUTHORIZATION, CACHE_CONTROL, SET_COOKIE},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use loadshed::{Budget, LoadShed};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

const ADDRESS: &str = "127.0.0.1:3003";

/// Time that the slow back end takes for a forecast.
const BACK_END: Duration = Duration::from_secs(1);

/// Public, and fresh for five seconds. A cache may serve it for five minutes in place of an error (RFC 5861, 4).
const FRESHNESS: HeaderValue = HeaderValue::from_static("public, max-age=5, stale-if-error=300");

/// The same five minutes.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// 1,000 responses of up to 16 KiB: 16 MiB at most.
pub(crate) const MOST_KEPT: usize = 1_000;
const LARGEST_KEPT: usize = 16 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");
    serve(listener, Budget::fixed(10)).await?;
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, back_end: Budget) -> io::Result<()> {
    let last_good = LastGood::default();
    let shed = {
        let last_good = last_good.clone();
        LoadShed::ratio(0.85)
            .budget(back_end)
            .on_shed_with(move |head, _| last_good.response(head))
    };
    let app = Router::new()
        .route("/weather/{city}", get(forecast))
        // Inside of the layer, so that it sees served responses and no refusals.
        .layer(from_fn_with_state(last_good, keep))
        .layer(shed);
    axum::serve(listener, app).await
}

async fn forecast(Path(city): Path<String>) -> impl IntoResponse {
    sleep(BACK_END).await;
    ([(CACHE_CONTROL, FRESHNESS)], format!("{city}: rain\n"))
}

/// Keeps a served response, if it may be sent to other clients.
async fn keep(State(last_good): State<LastGood>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let is_for_all =
        request.method() == Method::GET && !request.headers().contains_key(AUTHORIZATION);
    let response = next.run(request).await;
    if !is_for_all || !is_good(&response) {
        return response;
    }
    let (head, body) = response.into_parts();
    match to_bytes(body, LARGEST_KEPT).await {
        Ok(body) => {
            last_good.keep(path, head.headers.clone(), body.clone());
            Response::from_parts(head, body.into())
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

/// Returns whether the response is marked as public and is not too large. (A response with `Vary` depends on more than the
/// path and would need a larger cache key.)
fn is_good(response: &Response<Body>) -> bool {
    let length = response.body().size_hint().upper();
    let freshness = response.headers().get(CACHE_CONTROL);
    response.status() == StatusCode::OK
        && !response.headers().contains_key(SET_COOKIE)
        && freshness.is_some_and(|freshness| freshness.as_bytes().starts_with(b"public"))
        && length.is_some_and(|length| length <= LARGEST_KEPT as u64)
}

/// The last good responses of up to [`MOST_KEPT`] paths. Beyond that, the path that was seen first is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastGood(Arc<Mutex<Responses>>);

#[derive(Debug, Default)]
struct Responses {
    by_path: HashMap<String, CachedResponse>,
    first_seen: VecDeque<String>,
}

#[derive(Debug)]
struct CachedResponse {
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
}

impl LastGood {
    pub(crate) fn keep(&self, path: String, headers: HeaderMap, body: Bytes) {
        let at = Instant::now();
        let cached = CachedResponse { headers, body, at };
        let mut responses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if responses.by_path.insert(path.clone(), cached).is_none() {
            responses.first_seen.push_back(path);
        }
        if responses.first_seen.len() > MOST_KEPT
            && let Some(first) = responses.first_seen.pop_front()
        {
            responses.by_path.remove(&first);
        }
    }

    /// Returns `None` where the layer is to respond, with 429.
    pub(crate) fn response(&self, head: &http::Request<()>) -> Option<http::Response<Bytes>> {
        if !matches!(*head.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let responses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cached = responses.by_path.get(head.uri().path())?;
        let age = cached.at.elapsed();
        if age > KEPT_FOR {
            return None;
        }
        let mut response = http::Response::new(cached.body.clone());
        *response.headers_mut() = cached.headers.clone();
        response.headers_mut().insert(AGE, age.as_secs().into());
        Some(response)
    }
}
