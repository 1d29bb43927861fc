//! The page: embedded files, frames to fetch, and controls. It sends no request to any other server.

use std::io;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::{
    callers::{PAYMENT_EVERY, TIMEOUT, TRIES},
    frame::Frame,
    service::{QUEUE, WORKERS, capacity},
    settings::{Change, Settings},
    stage::Stage,
};

/// Allows no resource of another origin, and no embedding in a frame.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'";

macro_rules! asset {
    ($kind:literal, $file:literal) => {
        get(async || asset($kind, include_str!(concat!("assets/", $file))))
    };
}

pub(crate) async fn serve(listener: TcpListener, stage: Stage) -> io::Result<()> {
    let page = Router::new()
        .route("/", asset!("text/html", "index.html"))
        .route("/style.css", asset!("text/css", "style.css"))
        .route("/demo.js", asset!("text/javascript", "demo.js"))
        .route("/uplot.css", asset!("text/css", "uplot/uPlot.min.css"))
        .route(
            "/uplot.js",
            asset!("text/javascript", "uplot/uPlot.iife.min.js"),
        )
        .route("/facts", get(facts))
        .route("/frames", get(frames))
        .route("/settings", get(settings).post(change))
        .route("/restart", post(restart))
        .with_state(stage);
    axum::serve(listener, page).await
}

fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let kind = format!("{kind}; charset=utf-8");
    let headers = [
        (CONTENT_TYPE, kind.as_str()),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// Facts that do not change while the demo runs.
#[derive(Serialize)]
struct Facts {
    capacity: f64,
    workers: usize,
    queue: usize,
    timeout: f64,
    tries: u8,
    /// One in this many requests is a payment.
    payment_every: usize,
}

async fn facts() -> Json<Facts> {
    Json(Facts {
        capacity: capacity(WORKERS),
        workers: WORKERS,
        queue: QUEUE,
        timeout: TIMEOUT.as_secs_f64(),
        tries: TRIES,
        payment_every: PAYMENT_EVERY,
    })
}

#[derive(Deserialize)]
struct After {
    after: u64,
}

async fn frames(
    State(stage): State<Stage>,
    Query(After { after }): Query<After>,
) -> Json<Vec<Frame>> {
    Json(stage.frames(after))
}

async fn settings(State(stage): State<Stage>) -> Json<Settings> {
    Json(stage.settings())
}

async fn restart(State(stage): State<Stage>) -> Json<Settings> {
    Json(stage.restart())
}

async fn change(
    State(stage): State<Stage>,
    Json(change): Json<Change>,
) -> Result<Json<Settings>, (StatusCode, String)> {
    let settings = stage.change(change);
    settings
        .map(Json)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))
}
