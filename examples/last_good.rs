//! The last good answer for a path, in place of a refusal.
//!
//! A weather service whose back end carries 10 forecasts at once. What it would refuse at 85 % of that, it answers with
//! the last forecast for the same place, if it has one of the last five minutes: `Age` tells how old it is, and with
//! `Cache-Control: max-age` whoever gets it knows whether it is stale (RFC 9111, 4.2; `Warning` is obsolete). Where there
//! is none, a 429.
//!
//! ```text
//! cargo run --example last_good
//! ```
//!
//! In another terminal, a forecast; then 20 at once, of which 8 are new, and 12 are what the first one was; and at once 20
//! for a place without one, of which 12 are refused:
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

/// How long the slow back end takes for a forecast.
const BACK_END: Duration = Duration::from_secs(1);

/// For everyone, and as of now for five seconds. Who can do no better may show it for five minutes (RFC 5861, 4).
const FRESHNESS: HeaderValue = HeaderValue::from_static("public, max-age=5, stale-if-error=300");

/// The same five minutes.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// 1,000 answers of up to 16 KiB: 16 MiB at most.
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
            .on_shed_with(move |head, _| last_good.answer(head))
    };
    let app = Router::new()
        .route("/weather/{place}", get(forecast))
        // Inside of the layer, so that it sees what was served, and no refusal.
        .layer(from_fn_with_state(last_good, keep))
        .layer(shed);
    axum::serve(listener, app).await
}

async fn forecast(Path(place): Path<String>) -> impl IntoResponse {
    sleep(BACK_END).await;
    ([(CACHE_CONTROL, FRESHNESS)], format!("{place}: rain\n"))
}

/// Keeps what is served, if it may be shown to others.
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

/// One that says itself that it is for everyone, and is not too large. (What depends on more than the path, as `Vary`
/// would tell, needs a key of more than the path.)
fn is_good(response: &Response<Body>) -> bool {
    let length = response.body().size_hint().upper();
    let freshness = response.headers().get(CACHE_CONTROL);
    response.status() == StatusCode::OK
        && !response.headers().contains_key(SET_COOKIE)
        && freshness.is_some_and(|freshness| freshness.as_bytes().starts_with(b"public"))
        && length.is_some_and(|length| length <= LARGEST_KEPT as u64)
}

/// The last good answers, of up to [`MOST_KEPT`] paths. The path that was first seen goes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastGood(Arc<Mutex<Answers>>);

#[derive(Debug, Default)]
struct Answers {
    by_path: HashMap<String, Answer>,
    first_seen: VecDeque<String>,
}

#[derive(Debug)]
struct Answer {
    headers: HeaderMap,
    body: Bytes,
    at: Instant,
}

impl LastGood {
    pub(crate) fn keep(&self, path: String, headers: HeaderMap, body: Bytes) {
        let at = Instant::now();
        let answer = Answer { headers, body, at };
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.by_path.insert(path.clone(), answer).is_none() {
            answers.first_seen.push_back(path);
        }
        if answers.first_seen.len() > MOST_KEPT
            && let Some(first) = answers.first_seen.pop_front()
        {
            answers.by_path.remove(&first);
        }
    }

    /// `None` leaves it to the layer, which answers 429.
    pub(crate) fn answer(&self, head: &http::Request<()>) -> Option<http::Response<Bytes>> {
        if !matches!(*head.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = answers.by_path.get(head.uri().path())?;
        let age = answer.at.elapsed();
        if age > KEPT_FOR {
            return None;
        }
        let mut response = http::Response::new(answer.body.clone());
        *response.headers_mut() = answer.headers.clone();
        response.headers_mut().insert(AGE, age.as_secs().into());
        Some(response)
    }
}
