//! A mail service that stays inside its pool.
//!
//! The pool carries 200 requests at once. `POST /mail/receive` is opted in to shedding at 85 % of
//! it, so at most 170 mails are received at once. To list mails is never refused: 30 permits stay free for it.
//!
//! ```text
//! cargo run --release --example axum
//! ```
//!
//! In another terminal, 300 mails at once, of which 170 are received. The others are refused with a
//! `Retry-After`:
//!
//! ```text
//! curl -Z --parallel-immediate --parallel-max 300 --no-progress-meter -o /dev/null \
//!     -w '%{http_code} Retry-After: %header{retry-after}\n' -d mail \
//!     'http://127.0.0.1:3000/mail/receive?[1-300]' | sort | uniq -c
//! curl http://127.0.0.1:3000/pool
//! ```
//!
//! Or let it send itself ten times what the pool carries, for 10 seconds, and print the results. The
//! curl lines work meanwhile; with `-i`, curl shows the headers of a refusal:
//!
//! ```text
//! cargo run --release --example axum -- --load 10
//! curl -i -d mail http://127.0.0.1:3000/mail/receive
//! ```

#[path = "support/load.rs"]
mod load;

use std::{
    error::Error,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use loadshed::{Budget, LoadShed};
use tokio::{net::TcpListener, time::sleep};

pub(crate) use self::load::Load;

const ADDRESS: &str = "127.0.0.1:3000";

/// Requests that the service carries at once. The size of a pool comes from its resources: workers, connections.
pub(crate) const POOL: usize = 200;

/// Time that the back end takes for a mail. It is slow, not busy: CPU utilization would not show it.
const BACK_END: Duration = Duration::from_millis(100);

const LARGEST_MAIL: usize = 10 << 20;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let load = Load::from_args()?;
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");

    let pool = Budget::fixed(POOL).named("mail");
    let calls = Calls::default();
    let server = serve(listener, pool.clone(), calls.clone());
    let Some(load) = load else {
        return Ok(server.await?);
    };
    tokio::spawn(server);
    let totals = load.drive(ADDRESS.parse()?, &pool).await;
    println!("\n{totals}");
    println!("most mails received at once: {}", calls.most());
    println!("in flight afterwards: {}", pool.in_flight());
    totals.check()?;
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, pool: Budget, calls: Calls) -> io::Result<()> {
    axum::serve(listener, app(&pool, calls)).await
}

pub(crate) fn app(pool: &Budget, calls: Calls) -> Router {
    let shed = LoadShed::ratio(0.85)
        .budget(pool)
        // The other routes are counted and never shed. A GET of this route is still a 405.
        .only(["POST /mail/receive"])
        // A request that reads the state of the pool is not part of its load.
        .exempt(["/pool"]);
    let mail = Router::new()
        .route("/mail/receive", post(receive))
        .route("/mail/list", get(list))
        .with_state(calls.clone());

    Router::new()
        .route("/pool", get(show))
        .with_state((pool.clone(), calls))
        .merge(mail)
        .layer(shed)
}

/// Runs once the mail has a permit, which is also held while the mail still arrives.
async fn receive(State(calls): State<Calls>, mail: Body) -> Result<String, StatusCode> {
    let _call = calls.enter();
    let mail = to_bytes(mail, LARGEST_MAIL)
        .await
        .map_err(|_| StatusCode::BAD_REQUEST)?;
    sleep(BACK_END).await;
    Ok(format!("received {} bytes\n", mail.len()))
}

async fn list() -> &'static str {
    "no mails\n"
}

async fn show(State((pool, calls)): State<(Budget, Calls)>) -> String {
    let most = calls.most();
    format!(
        "{:#?}\nmost mails received at once: {most}\n",
        pool.snapshot()
    )
}

/// The number of calls of a handler that run at once, by the handler's own count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls(Arc<CallCount>);

#[derive(Debug, Default)]
struct CallCount {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A running call. It is dropped at the handler's end, or with its future if the client disconnects.
struct Call(Calls);

impl Calls {
    fn enter(&self) -> Call {
        let now = self.0.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most.fetch_max(now, Ordering::Relaxed);
        Call(self.clone())
    }

    /// Returns the most calls that ran at once.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Ordering::Relaxed)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Self(calls) = self;
        calls.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}
