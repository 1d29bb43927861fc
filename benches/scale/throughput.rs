//! The throughput of large responses, bare and with the layer, over HTTP/1 and HTTP/2.
//!
//! A plain hyper server on one thread, and a hyper client on another, which reads and drops the response. In each round each
//! response is transferred by the bare service and through the layer, in alternating order. The ratio is of one round.

// The bench measures wall-clock time.
#![expect(clippy::disallowed_methods)]

use std::{
    convert::Infallible,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{LazyLock, mpsc},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, runtime::Builder};
use tower::{Layer, Service, service_fn};

use crate::{pin::pin, report::Report, sections::fixed, series::Plan};

/// Bytes of a response.
const LENGTH: usize = 64 << 20;

/// Bytes of a frame of the streamed response.
const FRAME: usize = 64 << 10;

const MIB: f64 = (1 << 20) as f64;

/// The responses, by protocol and path.
const CELLS: [(&str, Protocol, &str); 4] = [
    ("HTTP/1, one frame", Protocol::Http1, "/frame"),
    ("HTTP/1, frames of 64 KiB", Protocol::Http1, "/stream"),
    ("HTTP/2, one frame", Protocol::Http2, "/frame"),
    ("HTTP/2, frames of 64 KiB", Protocol::Http2, "/stream"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

/// What the transfer of one response took.
#[derive(Clone, Copy, Default)]
struct Transfer {
    time: Duration,
    /// Processor time of the server's thread. Zero where the system is not Linux.
    processor: Duration,
}

pub(crate) fn report(plan: &Plan, report: &mut Report, csv: &mut String) {
    let servers = [
        Server::start(service_fn(respond)),
        Server::start(fixed().layer(service_fn(respond))),
    ];
    let rounds = plan.rounds;
    let client = thread::spawn(move || {
        pin(0);
        runtime().block_on(transfer_all(&servers, rounds))
    });
    let cells = client.join().expect("the client has not panicked");
    report.paragraph(format_args!(
        "Responses of {} MiB over the loopback interface, medians of {rounds} interleaved rounds. *÷ bare*: medians and quartiles of \
         the ratios within a round.",
        LENGTH >> 20
    ));
    let mut rows = Vec::new();
    for ((name, ..), pairs) in CELLS.iter().zip(cells) {
        let rate = |transfer: Transfer| LENGTH as f64 / MIB / transfer.time.as_secs_f64();
        let used = |transfer: Transfer| transfer.processor.as_secs_f64() * 1e3;
        let of = |figure: &dyn Fn([Transfer; 2]) -> f64| {
            quartiles(pairs.iter().map(|pair| figure(*pair)))
        };
        let [_, bare, _] = of(&|[bare, _]| rate(bare));
        let [_, layer, _] = of(&|[_, layer]| rate(layer));
        let rates = of(&|[bare, layer]| rate(layer) / rate(bare));
        let [_, layer_used, _] = of(&|[_, layer]| used(layer));
        let times = of(&|[bare, layer]| used(layer) / used(bare));
        rows.push(vec![
            (*name).to_owned(),
            format!("{bare:.0}"),
            format!("{layer:.0}"),
            spread(rates),
            format!("{layer_used:.1}"),
            spread(times),
        ]);
        for (row, figure) in [
            ("bare, MiB/s", bare),
            ("loadshed, MiB/s", layer),
            ("loadshed ÷ bare, MiB/s", rates[1]),
            ("loadshed ÷ bare, processor time", times[1]),
        ] {
            csv.push_str(&format!(
                "throughput,\"{name}, {row}\",{LENGTH},{figure:.3}\n"
            ));
        }
    }
    let head = [
        "",
        "bare, MiB/s",
        "loadshed, MiB/s",
        "÷ bare",
        "server's ms of processor time",
        "÷ bare",
    ];
    report.table(&head, &rows);
}

fn spread([low, median, high]: [f64; 3]) -> String {
    format!("{median:.3} ({low:.3} to {high:.3})")
}

/// Returns for each cell the transfers of each round, bare and with the layer.
async fn transfer_all(servers: &[Server; 2], rounds: usize) -> Vec<Vec<[Transfer; 2]>> {
    let mut clients = Vec::new();
    for (_, protocol, _) in CELLS {
        let mut pair = Vec::new();
        for server in servers {
            pair.push(Client::new(server.address, protocol).await);
        }
        clients.push(pair);
    }
    let mut cells = vec![Vec::new(); CELLS.len()];
    // The first round warms up, and is not counted.
    for round in 0..=rounds {
        for (nth, (_, _, path)) in CELLS.into_iter().enumerate() {
            let mut pair = [Transfer::default(); 2];
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let before = servers[which].processor_time();
                let time = clients[nth][which].transfer(path).await;
                let processor = servers[which].processor_time() - before;
                pair[which] = Transfer { time, processor };
            }
            if round > 0 {
                cells[nth].push(pair);
            }
        }
    }
    cells
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values = Vec::from_iter(values);
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

enum Client {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Client {
    async fn new(server: SocketAddr, protocol: Protocol) -> Self {
        let io = TcpStream::connect(server)
            .await
            .expect("the server listens");
        let io = TokioIo::new(io);
        if protocol == Protocol::Http1 {
            let (sender, connection) = http1::handshake(io).await.expect("a handshake");
            tokio::spawn(connection);
            return Self::Http1(sender);
        }
        let executor = TokioExecutor::new();
        let (sender, connection) = http2::handshake(executor, io).await.expect("a handshake");
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    async fn transfer(&mut self, path: &str) -> Duration {
        let request = Request::get(format!("http://a{path}")).header("host", "a");
        let request = request.body(Empty::new()).expect("valid");
        let start = Instant::now();
        let response = match self {
            Self::Http1(sender) => {
                sender.ready().await.expect("the connection is open");
                sender.send_request(request).await
            }
            Self::Http2(sender) => sender.send_request(request).await,
        };
        let mut body = response.expect("a response").into_body();
        let mut received = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.expect("a frame");
            received += frame.data_ref().map_or(0, Bytes::len);
        }
        let took = start.elapsed();
        assert_eq!(received, LENGTH, "refused");
        took
    }
}

/// A server on a thread of its own, until the process ends.
struct Server {
    address: SocketAddr,
    /// The thread, in /proc.
    thread: PathBuf,
}

impl Server {
    fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        let (tell, thread) = mpsc::channel();
        thread::spawn(move || {
            pin(1);
            let own = fs::read_link("/proc/thread-self").unwrap_or_default();
            tell.send(Path::new("/proc").join(own)).expect("it waits");
            runtime().block_on(serve(listener, service));
        });
        let thread = thread.recv().expect("the thread has begun");
        Self { address, thread }
    }

    fn processor_time(&self) -> Duration {
        // Nanoseconds on the processor, nanoseconds waiting for it, time slices.
        let schedule = fs::read_to_string(self.thread.join("schedstat")).unwrap_or_default();
        let nanos = schedule
            .split(' ')
            .next()
            .and_then(|used| used.parse().ok());
        Duration::from_nanos(nanos.unwrap_or(0))
    }
}

async fn serve<S, B>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (io, _) = listener.accept().await.expect("a connection");
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(async move {
            let connection = auto::Builder::new(TokioExecutor::new());
            let _ = connection.serve_connection(TokioIo::new(io), service).await;
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("the system has threads")
}

async fn respond(request: Request<Incoming>) -> Result<Response<Frames>, Infallible> {
    Ok(Response::new(match request.uri().path() {
        "/frame" => Frames::new(1),
        _ => Frames::new(LENGTH / FRAME),
    }))
}

/// A body of equal frames, which are there at once.
struct Frames {
    frame: Bytes,
    left: usize,
    /// The length of one frame is known, as of a `Full`.
    is_sized: bool,
}

impl Frames {
    fn new(count: usize) -> Self {
        // Written once: pages that were never written are all one page, which stays in the cache.
        static BYTES: LazyLock<Bytes> = LazyLock::new(|| vec![7; LENGTH].into());
        Self {
            frame: BYTES.slice(..LENGTH / count),
            left: count,
            is_sized: count == 1,
        }
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        match self.is_sized {
            true => SizeHint::with_exact((self.left * self.frame.len()) as u64),
            false => SizeHint::default(),
        }
    }
}
