//! WebSockets that hold a permit of the budget for as long as they are open.
//!
//! The response to an upgrade is a 101 with an empty body, so a layer would give its permit back
//! while the socket is open. This example has no layer: the handler takes a permit before the
//! upgrade, and the socket's task keeps it.
//!
//! ```text
//! cargo run --example websocket
//! ```
//!
//! In another terminal, four sockets for 5 seconds each. The limit is 4, so 3 sockets (85 %) get a
//! 101, and the fourth gets a 429:
//!
//! ```text
//! for socket in 1 2 3 4; do
//!     curl -si --max-time 5 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
//!         -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
//!         --http1.1 http://127.0.0.1:3002/ws --output socket-$socket.txt &
//! done; wait; head -n 3 socket-?.txt
//! ```

use std::{error::Error, io, time::Duration};

use axum::{
    Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{
        StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::any,
};
use loadshed::{Budget, Permit, Shed, Threshold};
use tokio::{net::TcpListener, time::timeout};

const ADDRESS: &str = "127.0.0.1:3002";

/// Idle timeout: a client that disappears without a close would hold its permit for good.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on ws://{ADDRESS}/ws");
    serve(listener, Budget::fixed(4).named("sockets")).await?;
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, sockets: Budget) -> io::Result<()> {
    let app = Router::new().route("/ws", any(open)).with_state(sockets);
    axum::serve(listener, app).await
}

async fn open(State(sockets): State<Budget>, upgrade: WebSocketUpgrade) -> Response {
    match sockets.try_acquire(Threshold::ratio(0.85)) {
        // If the upgrade fails, the closure is dropped without a call, and its permit with it.
        Ok(permit) => upgrade.on_upgrade(move |socket| echo(socket, permit)),
        Err(shed) => refusal(&shed),
    }
}

/// A permit is given back when it is dropped: here, however this future ends.
async fn echo(mut socket: WebSocket, _permit: Permit) {
    while let Ok(Some(Ok(message))) = timeout(IDLE_TIMEOUT, socket.recv()).await {
        // axum responds to pings and closes.
        let is_data = matches!(message, Message::Text(_) | Message::Binary(_));
        if is_data && socket.send(message).await.is_err() {
            break;
        }
    }
}

/// Returns the response that a layer would have sent, but for its body.
fn refusal(shed: &Shed) -> Response {
    // Whole seconds: clients fail on fractions, and take 0 for "at once".
    let headers = [
        (RETRY_AFTER, shed.retry_after_secs().to_string()),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (
        StatusCode::TOO_MANY_REQUESTS,
        headers,
        "The server is busy. Retry later.\n",
    )
        .into_response()
}
