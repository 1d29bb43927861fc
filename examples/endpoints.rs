//! A mail service, tuned per endpoint by one layer around all of it.
//!
//! Its pool is memory: 200 MiB of mail at once, one unit per MiB. Each endpoint is refused from its own threshold on:
//!
//! | endpoint | up to | why |
//! | --- | --- | --- |
//! | `/export/{*path}` | 100 | not urgent, and large |
//! | `POST /mail/receive`, `x-batch` | 170 | its sender retries |
//! | `POST /mail/receive` | 190 | a person waits, and can retry |
//! | all others | never refused | a person waits |
//! | `/healthz` | not counted | a health check |
//!
//! A mail of 40 MB takes 39 units, a mail of 2 kB takes 1.
//!
//! ```text
//! cargo run --release --example endpoints
//! ```
//!
//! In another terminal, six mails of 40 MB at once: four fit. A small mail and the list still fit:
//!
//! ```text
//! head -c 40000000 /dev/zero > large.mail
//! curl -Z --parallel-immediate --no-progress-meter -o /dev/null -H 'expect:' -T large.mail \
//!     -w '%{http_code} Retry-After: %header{retry-after}\n' -X POST \
//!     'http://127.0.0.1:3000/mail/receive?[1-6]' &
//! sleep 1; curl -d hello http://127.0.0.1:3000/mail/receive
//! curl http://127.0.0.1:3000/mail/list
//! ```

use std::{error::Error, io, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, StatusCode},
    routing::{get, post},
};
use loadshed::{Budget, Criticality, LoadShed, content_length};
use tokio::{net::TcpListener, time::sleep};

const ADDRESS: &str = "127.0.0.1:3000";

const MIB: usize = 1 << 20;

/// MiB of mail that the service can hold at once.
pub(crate) const MEMORY: usize = 200;

const LARGEST_MAIL: usize = 64 * MIB;

/// Time that the back end takes for a mail that has arrived.
const BACK_END: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");
    let memory = Budget::fixed(MEMORY).named("mail, MiB");
    serve(listener, memory, BACK_END).await?;
    Ok(())
}

pub(crate) async fn serve(
    listener: TcpListener,
    memory: Budget,
    back_end: Duration,
) -> io::Result<()> {
    let shed = LoadShed::ratio(0.85)
        .budget(memory)
        .only(["POST /mail/receive"])
        .at("/export/{*path}", 0.5)
        .exempt(["/healthz"])
        .classify(class)
        .cost(mebibytes);
    let app = Router::new()
        .route("/mail/receive", post(receive))
        .route("/export/{*path}", post(receive))
        .route("/mail/list", get(async || "no mails\n"))
        .route("/healthz", get(async || "alive\n"))
        .with_state(back_end)
        .layer(shed);
    axum::serve(listener, app).await
}

/// Returns the memory that a mail takes, in MiB, by its announced length. A mail of unknown length costs the maximum.
fn mebibytes(head: &Request<()>) -> usize {
    let is_announced = head.headers().contains_key("content-length");
    let is_upload = head.method() == "POST";
    let bytes = match is_upload && !is_announced {
        true => LARGEST_MAIL,
        false => content_length(head),
    };
    1 + bytes / MIB
}

fn class(head: &Request<()>) -> Criticality {
    match head.headers().get("x-batch") {
        Some(_) => Criticality::Sheddable,
        None => Criticality::Critical,
    }
}

async fn receive(State(back_end): State<Duration>, mail: Body) -> Result<String, StatusCode> {
    let mail = to_bytes(mail, LARGEST_MAIL)
        .await
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    sleep(back_end).await;
    Ok(format!("received {} bytes\n", mail.len()))
}
