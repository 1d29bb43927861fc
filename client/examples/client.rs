//! Clients that do as they are told: 10 at once want a server that carries 4.
//!
//! It starts its own server, prints what each try was answered, and ends by itself after 3 seconds:
//!
//! ```text
//! cargo run -p loadshed-client --example client
//! ```
//!
//! 4 are served at once, 6 are refused. Each of these waits for as long as its `Retry-After` says
//! and is served then. Without the layer, 6 of 10 would have failed.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use axum::{Router, body::Bytes, routing::post};
use http_body_util::Full;
use hyper::{Request, Response, StatusCode, header::RETRY_AFTER};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use loadshed::{Budget, LoadShed};
use loadshed_client::{Backpressure, Deadline};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};
use tower::{ServiceBuilder, ServiceExt};

const CLIENTS: usize = 10;

/// How long the slow back end takes for one.
const BACK_END: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    let pool = Budget::fixed(4);
    tokio::spawn(serve(listener, pool.clone()));

    let served = call_at_once(CLIENTS, server).await;

    let refused = pool.snapshot().refused;
    println!("{served} of {CLIENTS} served, after {refused} refusals");
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, pool: Budget) -> io::Result<()> {
    let app = Router::new()
        .route("/", post(async || sleep(BACK_END).await))
        .layer(LoadShed::ratio(1.0).budget(pool));
    axum::serve(listener, app).await
}

/// Returns how many were served.
pub(crate) async fn call_at_once(clients: usize, server: SocketAddr) -> usize {
    let start = Instant::now();
    let http = Client::builder(TokioExecutor::new()).build_http();
    let client = ServiceBuilder::new()
        .layer(Backpressure::new())
        // Inside of the layer, so it sees every try.
        .map_response(move |response| tell(start, response))
        .service(http);

    let mut calls = JoinSet::new();
    for _ in 0..clients {
        let mut request = Request::post(format!("http://{server}/"))
            .body(Full::new(Bytes::from("mail")))
            .expect("an address makes a URI");
        // Passed on to the server, and nobody waits longer for a retry.
        let deadline = Deadline::after(Duration::from_secs(10));
        request.extensions_mut().insert(deadline);
        calls.spawn(client.clone().oneshot(request));
    }
    let answers = calls.join_all().await;
    let served = |answer: &Result<Response<_>, _>| {
        let status = answer.as_ref().map(Response::status);
        status.is_ok_and(|status| status == StatusCode::OK)
    };
    answers.iter().filter(|answer| served(answer)).count()
}

fn tell<B>(start: Instant, response: Response<B>) -> Response<B> {
    let now = start.elapsed().as_secs_f64();
    let status = response.status();
    match response.headers().get(RETRY_AFTER) {
        Some(hint) => println!("{now:.2} s: {status}, retry after {hint:?} s"),
        None => println!("{now:.2} s: {status}"),
    }
    response
}
