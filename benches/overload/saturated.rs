//! The most refusals a second that a saturated server sends, compared with empty responses.
//!
//! A plain hyper server on one thread, HTTP/1.1. A client on another thread saturates it: it has 16 pipelined requests on
//! each of 16 connections, and does little with the responses, as otherwise the client would be the bottleneck. Server and
//! client have a processor each. Every server runs in every round, and is compared to the bare server of the same round.

// The bench measures wall-clock time.
#![expect(clippy::disallowed_methods)]

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{Empty, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use loadshed::{Budget, LoadShed, Threshold};
use tokio::runtime::Builder;
use tower::{
    BoxError, Layer, Service, ServiceExt, limit::ConcurrencyLimit,
    load_shed::LoadShed as TowerLoadShed, service_fn,
};

use crate::{
    output::Output,
    pin::pin,
    plan::Plan,
    processor::{SERVER, used},
};

const CONNECTIONS: usize = 16;
/// Pipelined requests per connection.
const PIPELINED: usize = 16;

/// The name and address of a server, and the first bytes of its responses.
type Entry = (&'static str, SocketAddr, &'static str);

const OK: &str = "HTTP/1.1 200";
const BUSY: &str = "HTTP/1.1 429";

/// Results of one round: responses a second, and the server's processor time for each, in seconds.
type Round = (f64, f64);

/// # Errors
///
/// If the figures cannot be written.
pub(crate) fn run(plan: &Plan, output: &mut Output) -> io::Result<()> {
    let (rounds, turn) = match plan.quick {
        true => (3, Duration::from_millis(20)),
        false => (41, Duration::from_millis(100)),
    };
    let entries = entries();
    let client = thread::spawn(move || {
        pin(0);
        let mut turns = vec![Vec::new(); entries.len()];
        let mut connections: Vec<_> = entries.iter().map(connect).collect();
        // The first round warms the caches, and is not counted.
        for round in 0..=rounds {
            for nth in 0..entries.len() {
                // Every server is the first of a round equally often.
                let nth = (nth + round) % entries.len();
                let took = keep_busy(&mut connections[nth], entries[nth].2, turn);
                turns[nth].push(took);
            }
        }
        turns.iter_mut().for_each(|turns| {
            turns.remove(0);
        });
        (entries, turns)
    });
    let (entries, turns) = client.join().expect("the client has not panicked");

    let mut csv =
        "row,responses_per_s,responses_over_bare,server_cpu_us,server_cpu_over_bare\n".to_owned();
    let rows = entries.iter().zip(&turns).map(|((name, ..), row)| {
        let (rate, spent) = ratios(row, &turns[0]);
        let middle = |of: fn(&Round) -> f64| median(row.iter().map(of));
        let (responses, micros) = (middle(|turn| turn.0), middle(|turn| turn.1 * 1e6));
        csv.push_str(&format!(
            "\"{name}\",{responses:.0},{rate:.4},{micros:.3},{spent:.4}\n"
        ));
        vec![
            (*name).to_owned(),
            format!("{responses:.0}"),
            format!("{rate:.3}"),
            format!("{micros:.1}"),
            format!("{spent:.3}"),
        ]
    });
    let rows = rows.collect();
    output.report.paragraph(format_args!(
        "**saturated.** A hyper server on one processor, kept busy from the other one over {CONNECTIONS} connections \
         with {PIPELINED} requests each; medians of {rounds} interleaved rounds of {turn:?}, and of the ratios within a round."
    ));
    let columns = ["responses/s", "÷ bare", "server's µs each", "÷ bare"];
    output.table(&columns.map(str::to_owned), rows);
    if !plan.quick {
        let rate = |nth: usize| ratios(&turns[nth], &turns[0]).0;
        output.at_least("unsaturated ÷ bare, responses/s, fixed", 0.99, rate(1));
        output.at_least("unsaturated ÷ bare, responses/s, adaptive", 0.99, rate(2));
        output.at_least(
            "refusals ÷ empty responses of the bare server",
            0.97,
            rate(3),
        );
    }
    output.report.write("-saturated.csv", &csv)
}

fn entries() -> Vec<Entry> {
    let budget = Budget::fixed(1);
    // The permit is held for as long as the process runs.
    Box::leak(Box::new(budget.try_acquire(Threshold::NEVER_SHED)));
    let tower = {
        let limit = ConcurrencyLimit::new(service_fn(empty), 0);
        let shed = TowerLoadShed::new(limit);
        shed.map_result(|response| Ok::<_, BoxError>(response.unwrap_or_else(|_| busy())))
    };
    let fixed = LoadShed::ratio(0.85).budget(Budget::fixed(200));
    vec![
        ("bare, an empty 200", start(service_fn(empty)), OK),
        (
            "loadshed, fixed, an empty 200",
            start(fixed.layer(service_fn(empty))),
            OK,
        ),
        (
            "loadshed, adaptive, an empty 200",
            start(LoadShed::ratio(0.85).layer(service_fn(empty))),
            OK,
        ),
        (
            "loadshed, full, its 429",
            start(
                LoadShed::ratio(0.85)
                    .budget(budget)
                    .layer(service_fn(empty)),
            ),
            BUSY,
        ),
        (
            "bare, a 429 of as many bytes",
            start(service_fn(async |_: Request<Incoming>| {
                Ok::<_, Infallible>(problem())
            })),
            BUSY,
        ),
        (
            "tower `ConcurrencyLimit` + `LoadShed`, full, an empty 429",
            start(tower),
            BUSY,
        ),
    ]
}

async fn empty(_: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    Ok(Response::new(Empty::new()))
}

fn busy() -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response
}

/// Sends as many bytes as a refusal of this crate.
fn problem() -> Response<Full<Bytes>> {
    let problem = br#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"The server is busy. Retry later.","status":429}"#;
    let response = Response::builder()
        .status(StatusCode::TOO_MANY_REQUESTS)
        .header(header::RETRY_AFTER, "1")
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::CONTENT_TYPE, "application/problem+json")
        .body(Full::new(Bytes::from_static(problem)));
    response.expect("a response")
}

/// Starts a server on its own thread, for as long as the process runs.
fn start<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: hyper::body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let serve = move || {
        pin(1);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system has threads");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                let service = TowerToHyperService::new(service.clone());
                let serve = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                tokio::spawn(serve);
            }
        });
    };
    let thread = thread::Builder::new().name(SERVER.into());
    thread.spawn(serve).expect("the system has threads");
    address
}

/// Opens the connections, and sends the first requests.
fn connect(entry: &Entry) -> Vec<TcpStream> {
    let connect = |_| {
        let mut socket = TcpStream::connect(entry.1).expect("a connection");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        send_requests(&mut socket);
        socket
    };
    (0..CONNECTIONS).map(connect).collect()
}

fn send_requests(socket: &mut TcpStream) {
    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: server\r\n\r\n";
    static REQUESTS: LazyLock<String> = LazyLock::new(|| REQUEST.repeat(PIPELINED));
    socket
        .write_all(REQUESTS.as_bytes())
        .expect("the connection is open");
}

/// Reads the responses of each connection in turn and sends its next requests, for this duration.
fn keep_busy(connections: &mut [TcpStream], expected: &str, duration: Duration) -> Round {
    let before = used();
    let start = Instant::now();
    let mut responses = 0.0;
    let mut bytes = Vec::new();
    while start.elapsed() < duration {
        for socket in &mut *connections {
            read_responses(socket, expected, &mut bytes);
            send_requests(socket);
            responses += PIPELINED as f64;
        }
    }
    let took = start.elapsed().as_secs_f64();
    let spent = used().saturating_sub(before).as_secs_f64();
    (responses / took, spent / responses)
}

fn read_responses(socket: &mut TcpStream, expected: &str, bytes: &mut Vec<u8>) {
    bytes.clear();
    let mut buffer = [0; 16 * 1_024];
    let (mut whole, mut responses) = (0, 0);
    while responses < PIPELINED {
        let count = socket.read(&mut buffer).expect("the connection is open");
        assert!(count > 0, "the connection is open");
        bytes.extend_from_slice(&buffer[..count]);
        while let Some(length) = length_of_first(&bytes[whole..]) {
            let response = &bytes[whole..whole + length];
            let is_expected = response.starts_with(expected.as_bytes());
            assert!(is_expected, "{:?}", response.utf8_chunks());
            (whole, responses) = (whole + length, responses + 1);
        }
    }
}

/// Returns the length of the first response, or `None` if it is not complete.
fn length_of_first(responses: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let find = |what: &[u8]| {
        responses
            .windows(what.len())
            .position(|bytes| bytes == what)
    };
    let (end, length) = (find(b"\r\n\r\n")?, find(LENGTH)?);
    let digits = responses[length + LENGTH.len()..].iter();
    let digits = digits.take_while(|digit| digit.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let all = end + 4 + length;
    (all <= responses.len()).then_some(all)
}

/// Returns the ratios of responses a second, and of the server's time for each.
fn ratios(row: &[Round], bare: &[Round]) -> (f64, f64) {
    let both = || row.iter().zip(bare);
    let rate = both().map(|(turn, bare)| turn.0 / bare.0);
    let spent = both().map(|(turn, bare)| turn.1 / bare.1);
    (median(rate), median(spent))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
