//! See it: one service twice on this machine, one copy with `LoadShed`, one without, and a load that brings the other one
//! down.
//!
//! ```text
//! cargo run --release --example demo
//! ```
//!
//! Then open <http://127.0.0.1:3000>, and raise the load. Or without a browser, thirty seconds of calm, overload and calm:
//!
//! ```text
//! cargo run --release --example demo -- --headless --seconds 30
//! ```
//!
//! Both have a pool of 10 workers that take 50 ms for a request: 200 a second. Callers wait for a second. What is queued is
//! worked off, also after its caller has left; that is why the copy without the layer works for nobody once its queue is
//! longer than a second, and goes on so after the load has gone: until the queue is worked off, and, with callers who
//! retry, for good, as each of them then asks three times.
//!
//! What is to be seen at 10 ×, on two cores: without the layer, goodput is nil from the fourth second on, and stays so. With
//! it, it is at 60 to 80 % for four seconds, in which the layer learns what the server carries, and at 95 to 105 % from then
//! on. After the load has gone, those who were refused come back when they were told to, within a minute and twice at most;
//! until they are through, it goes on refusing, and serving as much as it can.

mod args;
mod callers;
mod figures;
mod page;
#[allow(dead_code, reason = "the benchmark's service times")]
#[path = "../../benches/overload/random.rs"]
mod random;
mod service;
mod settings;
mod stage;
mod story;
mod tally;
mod terminal;

use std::{env, io, process::ExitCode, time::Duration};

use tokio::net::TcpListener;

use self::args::HELP;
pub(crate) use self::{args::Args, stage::Stage, story::tell};

#[tokio::main(worker_threads = 1)]
async fn main() -> ExitCode {
    let done = match Args::parse(env::args().skip(1)) {
        Ok(Args::Page { port }) => page(port).await,
        Ok(Args::Headless { lasts }) => headless(lasts).await,
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

async fn headless(lasts: Duration) -> Result<(), String> {
    let stage = Stage::start().map_err(text)?;
    let lines = tokio::spawn(stage.clone().watch(terminal::print));
    let summary = tell(&stage, lasts).await?;
    lines.abort();
    println!("\n{summary}");
    Ok(())
}

fn text(error: io::Error) -> String {
    error.to_string()
}
