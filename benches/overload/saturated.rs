//! How many refusals a second a server has in it that does nothing else, beside as many empty answers.
//!
//! A plain hyper server on one thread, HTTP/1.1. A client on another one keeps it busy: it has 16 requests out on each of
//! 16 connections, sent at once, and does next to nothing with the answers; else it would be the client that is busy. Each
//! has a processor for itself. Each server has its turn in each of the rounds, and is compared to the bare one in the same
//! round.

// The wall clock is what is measured.
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
    plan::Plan,
    processor::{SERVER, used},
};

const CONNECTIONS: usize = 16;
/// Requests out on each.
const AT_ONCE: usize = 16;

/// A server, and how its answers begin.
type Entry = (&'static str, SocketAddr, &'static str);

const OK: &str = "HTTP/1.1 200";
const BUSY: &str = "HTTP/1.1 429";

/// In one round: answers a second, and the server's time for each, in seconds.
type Turn = (f64, f64);

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
        // The first round is for the caches.
        for round in 0..=rounds {
            for nth in 0..entries.len() {
                // Each comes first as often as any other.
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
    let (entries, turns) = client.join().expect("the client got its answers");

    let mut csv =
        "row,answers_per_s,answers_over_bare,server_cpu_us,server_cpu_over_bare\n".to_owned();
    let rows = entries.iter().zip(&turns).map(|((name, ..), row)| {
        let (rate, spent) = ratios(row, &turns[0]);
        let middle = |of: fn(&Turn) -> f64| median(row.iter().map(of));
        let (answers, micros) = (middle(|turn| turn.0), middle(|turn| turn.1 * 1e6));
        csv.push_str(&format!(
            "\"{name}\",{answers:.0},{rate:.4},{micros:.3},{spent:.4}\n"
        ));
        vec![
            (*name).to_owned(),
            format!("{answers:.0}"),
            format!("{rate:.3}"),
            format!("{micros:.1}"),
            format!("{spent:.3}"),
        ]
    });
    let rows = rows.collect();
    output.report.paragraph(format_args!(
        "**saturated.** A hyper server on one processor, kept busy from the other one over {CONNECTIONS} connections \
         with {AT_ONCE} requests each; medians of {rounds} interleaved rounds of {turn:?}, and of the ratios within a round."
    ));
    let columns = ["answers/s", "÷ bare", "server's µs each", "÷ bare"];
    output.table(&columns.map(str::to_owned), rows);
    if !plan.quick {
        let rate = |nth: usize| ratios(&turns[nth], &turns[0]).0;
        output.at_least("unsaturated ÷ bare, answers/s, fixed", 0.99, rate(1));
        output.at_least("unsaturated ÷ bare, answers/s, adaptive", 0.99, rate(2));
        output.at_least("refusals ÷ empty answers of the bare server", 0.97, rate(3));
    }
    output.report.leave("-saturated.csv", &csv)
}

fn entries() -> Vec<Entry> {
    let budget = Budget::fixed(1);
    // For as long as the process runs.
    Box::leak(Box::new(budget.try_acquire(Threshold::NEVER_SHED)));
    let tower = {
        let limit = ConcurrencyLimit::new(service_fn(empty), 0);
        let shed = TowerLoadShed::new(limit);
        shed.map_result(|answer| Ok::<_, BoxError>(answer.unwrap_or_else(|_| busy())))
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

/// As much as a refusal of ours has to send.
fn problem() -> Response<Full<Bytes>> {
    let problem = br#"{"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"The server is busy. Retry later.","status":429}"#;
    let answer = Response::builder()
        .status(StatusCode::TOO_MANY_REQUESTS)
        .header(header::RETRY_AFTER, "1")
        .header(header::CACHE_CONTROL, "no-store")
        .header(header::CONTENT_TYPE, "application/problem+json")
        .body(Full::new(Bytes::from_static(problem)));
    answer.expect("a response")
}

/// A server on a thread of its own, for as long as the process runs.
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

/// A request is out on each.
fn connect(entry: &Entry) -> Vec<TcpStream> {
    let connect = |_| {
        let mut socket = TcpStream::connect(entry.1).expect("a connection");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        ask(&mut socket);
        socket
    };
    (0..CONNECTIONS).map(connect).collect()
}

fn ask(socket: &mut TcpStream) {
    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: server\r\n\r\n";
    static REQUESTS: LazyLock<String> = LazyLock::new(|| REQUEST.repeat(AT_ONCE));
    socket.write_all(REQUESTS.as_bytes()).expect("it is open");
}

/// Whoever has its answers asks again.
fn keep_busy(connections: &mut [TcpStream], expected: &str, lasts: Duration) -> Turn {
    let before = used();
    let start = Instant::now();
    let mut answers = 0.0;
    let mut bytes = Vec::new();
    while start.elapsed() < lasts {
        for socket in &mut *connections {
            read_answers(socket, expected, &mut bytes);
            ask(socket);
            answers += AT_ONCE as f64;
        }
    }
    let took = start.elapsed().as_secs_f64();
    let spent = used().saturating_sub(before).as_secs_f64();
    (answers / took, spent / answers)
}

fn read_answers(socket: &mut TcpStream, expected: &str, bytes: &mut Vec<u8>) {
    bytes.clear();
    let mut buffer = [0; 16 * 1_024];
    let (mut whole, mut answers) = (0, 0);
    while answers < AT_ONCE {
        let count = socket.read(&mut buffer).expect("it is open");
        assert!(count > 0, "it is open");
        bytes.extend_from_slice(&buffer[..count]);
        while let Some(length) = length_of_first(&bytes[whole..]) {
            let answer = &bytes[whole..whole + length];
            let is_expected = answer.starts_with(expected.as_bytes());
            assert!(is_expected, "{:?}", answer.utf8_chunks());
            (whole, answers) = (whole + length, answers + 1);
        }
    }
}

/// `None` if it is not whole.
fn length_of_first(answers: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let find = |what: &[u8]| answers.windows(what.len()).position(|bytes| bytes == what);
    let (end, length) = (find(b"\r\n\r\n")?, find(LENGTH)?);
    let digits = answers[length + LENGTH.len()..].iter();
    let digits = digits.take_while(|digit| digit.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let all = end + 4 + length;
    (all <= answers.len()).then_some(all)
}

/// Of answers a second, and of the server's time for each.
fn ratios(row: &[Turn], bare: &[Turn]) -> (f64, f64) {
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

/// This thread, to the `nth` processor, if there is one.
fn pin(nth: usize) {
    let processors = core_affinity::get_core_ids().unwrap_or_default();
    processors
        .get(nth)
        .copied()
        .map(core_affinity::set_for_current);
}
