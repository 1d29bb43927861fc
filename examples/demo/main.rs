//! One service twice on this machine, with and without `LoadShed`, under a load that brings the unprotected copy down.
//!
//! ```text
//! cargo run --release --example demo
//! ```
//!
//! Open <http://127.0.0.1:3000> and raise the load. Or run normal load, overload and recovery in 30 s without a browser:
//!
//! ```text
//! cargo run --release --example demo -- --headless --seconds 30
//! ```
//!
//! Each copy has a pool of 10 workers that take 50 ms for a request: 200 requests a second. Callers time out after one
//! second. The workers also serve queued requests whose callers have timed out. So the copy without the layer serves only
//! timed-out requests once its queue is longer than a second. It does so after the load has ended, until the queue is
//! empty; if callers retry, for good, as each request is then sent three times.
//!
//! At 10 × on two cores: without the layer, goodput is 0 from the fourth second on, and stays so. With it, goodput is 60 to
//! 80 % for four seconds, in which the layer learns the server's capacity, and 95 to 105 % from then on. After the load has
//! ended, refused callers retry at the time of their hint, within a minute and twice at most. Until these retries are
//! served, the layer goes on refusing, and serves at capacity.

mod args;
mod callers;
mod counters;
mod frame;
mod page;
#[allow(dead_code, reason = "the benchmark also draws lognormal service times")]
#[path = "../../benches/overload/random.rs"]
mod random;
mod service;
mod settings;
mod stage;
mod story;
mod terminal;

use std::{env, io, process::ExitCode, time::Duration};

use tokio::net::TcpListener;

use self::args::HELP;
pub(crate) use self::{args::Args, stage::Stage, story::tell};

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let done = match Args::parse(env::args().skip(1)) {
        Ok(Args::Page { port }) => page(port).await,
        Ok(Args::Headless { duration }) => headless(duration).await,
        Ok(Args::Help) => {
            println!("{HELP}");
            Ok(())
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn page(port: u16) -> Result<(), String> {
    let listener = TcpListener::bind(("127.0.0.1", port))
        .await
        .map_err(|error| {
            format!("cannot listen on 127.0.0.1:{port}: {error}; choose another --port")
        })?;
    let address = listener.local_addr().map_err(text)?;
    let stage = Stage::start().map_err(text)?;
    println!("open http://{address} and raise the load\n");
    tokio::spawn(stage.clone().watch(terminal::print));
    page::serve(listener, stage).await.map_err(text)
}

async fn headless(duration: Duration) -> Result<(), String> {
    let stage = Stage::start().map_err(text)?;
    let lines = tokio::spawn(stage.clone().watch(terminal::print));
    let summary = tell(&stage, duration).await?;
    lines.abort();
    println!("\n{summary}");
    Ok(())
}

fn text(error: io::Error) -> String {
    error.to_string()
}
