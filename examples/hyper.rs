//! Plain hyper, HTTP/1 and HTTP/2, with a budget of 20.
//!
//! ```text
//! cargo run --example hyper
//! ```
//!
//! In another terminal, 30 uploads at once over HTTP/1, of which 17 (85 % of 20) are admitted.
//! While these are in flight, curl shows the refusal of a request over HTTP/2:
//!
//! ```text
//! curl -Z --parallel-immediate --no-progress-meter -o /dev/null -d hello \
//!     -w '%{http_code}\n' 'http://127.0.0.1:3001/?[1-30]' | sort | uniq -c &
//! sleep 0.5; curl -i --http2-prior-knowledge http://127.0.0.1:3001/; wait
//! ```

use std::{convert::Infallible, error::Error, io, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use loadshed::{Budget, LoadShed};
use tokio::{net::TcpListener, time::sleep};
use tower::ServiceBuilder;

const ADDRESS: &str = "127.0.0.1:3001";

/// Time that the slow back end takes for an upload.
const BACK_END: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");
    serve(listener, Budget::fixed(20)).await?;
    Ok(())
}

pub(crate) async fn serve(listener: TcpListener, budget: Budget) -> io::Result<()> {
    // One budget for all connections: each connection gets a clone of the service.
    let service = ServiceBuilder::new()
        .layer(LoadShed::ratio(0.85).budget(budget))
        .service_fn(receive);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let http = auto::Builder::new(TokioExecutor::new());
            let connection = http.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

async fn receive(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let Ok(upload) = request.into_body().collect().await else {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    sleep(BACK_END).await;
    let text = format!("received {} bytes\n", upload.to_bytes().len());
    Ok(Response::new(Full::from(text)))
}
