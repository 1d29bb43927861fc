//! Promise 3: runs the example of work that goes on when its callers have left.

#[allow(dead_code, reason = "its main is unused here")]
#[path = "../../examples/detached_work.rs"]
mod example;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{client::conn::http2::handshake, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use loadshed::Budget;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, connect_async,
    tungstenite::{Error as WebSocketError, Message, protocol::Role},
};

use self::example::{BackEnd, LIMIT};
use crate::{
    Http, eventually, http1, http2,
    support::sockets::{bind, soon},
};

/// The example, whose back end is paused until it is told to go on, or the test has failed.
struct Server {
    address: SocketAddr,
    jobs: Budget,
    back_end: BackEnd,
    back_end_paused: watch::Sender<bool>,
    callers: Arc<()>,
}

impl Server {
    async fn start() -> Self {
        let (listener, address) = bind().await;
        let (back_end_paused, is_paused) = watch::channel(true);
        let server = Self {
            address,
            jobs: Budget::fixed(LIMIT),
            back_end: BackEnd::new(Duration::from_millis(1), is_paused),
            back_end_paused,
            callers: Arc::default(),
        };
        let app = example::app(&server.jobs, server.back_end.clone());
        let app = app.layer(from_fn_with_state(server.callers.clone(), note_caller));
        tokio::spawn(async { axum::serve(listener, app).await });
        server
    }

    /// Waits until the server has dropped the future and the body of each request.
    async fn has_seen_all_callers_leave(&self) {
        let what = "the server has seen all callers leave";
        eventually(what, || Arc::weak_count(&self.callers) == 0).await;
    }

    /// Waits until the limit is at work. All of it is in flight, and there is no more.
    async fn is_full(&self) {
        // A blocking job may wait for a thread.
        eventually("the limit is at work", || self.back_end.at_work() >= LIMIT).await;
        let most = (self.jobs.in_flight(), self.back_end.most());
        assert_eq!(most, (LIMIT, LIMIT), "in flight, most at work");
    }

    /// Resumes the back end, and waits until all jobs have ended. Each is in flight until it has.
    async fn finish(&self) {
        self.back_end_paused.send_replace(false);
        eventually("all jobs have ended", || {
            // In this order: a job is at work for a shorter time than its permit is held.
            let at_work = self.back_end.at_work();
            let in_flight = self.jobs.in_flight();
            at_work == 0 && in_flight == 0
        })
        .await;
        let most = self.back_end.most();
        assert!(
            most <= LIMIT,
            "{most} jobs at work under a limit of {LIMIT}"
        );
    }
}

/// Holds a reference for as long as the request has a future or a body.
async fn note_caller(State(callers): State<Arc<()>>, request: Request, next: Next) -> Response {
    let caller = Arc::downgrade(&callers);
    drop(callers);
    let response = next.run(request).await;
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _caller = &caller;
            frame
        }))
    })
}

/// Callers leave after 50 ms, 16 at once, until 100 others have been refused.
async fn callers_that_leave(http: Http, method: Method, path: &str) {
    let server = Server::start().await;
    let uri = format!("http://{}{path}", server.address);
    let mut callers = JoinSet::new();
    let begin = |callers: &mut JoinSet<Option<StatusCode>>| {
        let request = Request::builder().method(&method).uri(&uri);
        let response = http.request(request.body(Body::empty()).unwrap());
        let read = async {
            let (head, body) = response.await.unwrap().into_parts();
            body.collect().await.unwrap();
            head.status
        };
        callers.spawn(async { timeout(Duration::from_millis(50), read).await.ok() });
    };
    (0..16).for_each(|_| begin(&mut callers));
    let mut refused = 0;
    soon(async {
        while refused < 100 {
            match callers.join_next().await.unwrap().unwrap() {
                None => {}
                Some(StatusCode::TOO_MANY_REQUESTS) => refused += 1,
                Some(status) => panic!("a job has ended: {status}"),
            }
            begin(&mut callers);
        }
        callers.shutdown().await;
    })
    .await;
    server.has_seen_all_callers_leave().await;
    server.is_full().await;
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_blocking_jobs_stay_in_flight_when_their_callers_disconnect() {
    callers_that_leave(http1(), Method::POST, "/report").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_blocking_jobs_stay_in_flight_when_their_callers_reset_the_stream() {
    callers_that_leave(http2(), Method::POST, "/report").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_spawned_tasks_stay_in_flight_when_their_callers_disconnect() {
    callers_that_leave(http1(), Method::POST, "/import").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_spawned_tasks_stay_in_flight_when_their_callers_reset_the_stream() {
    callers_that_leave(http2(), Method::POST, "/import").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_the_producer_of_a_stream_stays_in_flight_when_its_reader_disconnects() {
    callers_that_leave(http1(), Method::GET, "/export").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_the_producer_of_a_stream_stays_in_flight_when_its_reader_resets_it() {
    callers_that_leave(http2(), Method::GET, "/export").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_callers_that_stay_get_the_results_of_detached_work() {
    let server = Server::start().await;
    server.back_end_paused.send_replace(false);
    for (method, path, text) in [
        (Method::POST, "/report", "done\n"),
        (Method::POST, "/import", "done\n"),
        (Method::GET, "/export", "item 0\nitem 1\nitem 2\n"),
    ] {
        let uri = format!("http://{}{path}", server.address);
        let request = Request::builder().method(method).uri(uri);
        let response = http1().request(request.body(Body::empty()).unwrap());
        let body = soon(response).await.unwrap().into_body();
        assert_eq!(soon(body.collect()).await.unwrap().to_bytes(), text);
    }
    server.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_a_websocket_over_http_1_is_in_flight_until_its_task_ends() {
    websockets(async |server| Ok(connect_async(format!("ws://{server}/ws")).await?.0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p03_a_websocket_over_http_2_is_in_flight_until_its_task_ends() {
    websockets(extended_connect).await;
}

/// Opens a WebSocket by an extended CONNECT (RFC 8441).
async fn extended_connect(
    server: SocketAddr,
) -> Result<WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, WebSocketError> {
    let io = TokioIo::new(TcpStream::connect(server).await?);
    let (mut sender, mut connection) = handshake(TokioExecutor::new(), io).await.unwrap();
    // The settings of the server, which allow it, arrive after the handshake.
    while !connection.is_extended_connect_protocol_enabled() {
        let ended = timeout(Duration::from_millis(1), &mut connection).await;
        assert!(ended.is_err(), "the connection has ended: {ended:?}");
    }
    tokio::spawn(connection);
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://{server}/ws"))
        .extension(Protocol::from_static("websocket"))
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .body(Empty::<Bytes>::new());
    let response = sender.send_request(request.unwrap()).await.unwrap();
    if response.status() != StatusCode::OK {
        let refused = response.map(|_| None);
        return Err(WebSocketError::Http(Box::new(refused)));
    }
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await)
}

async fn websockets<S>(open: impl AsyncFn(SocketAddr) -> Result<WebSocketStream<S>, WebSocketError>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let server = Server::start().await;
    server.back_end_paused.send_replace(false);
    let mut sockets = Vec::new();
    for _ in 0..LIMIT {
        sockets.push(soon(open(server.address)).await.unwrap());
    }
    for socket in &mut sockets {
        assert_echoes(socket).await;
    }
    assert_eq!(server.jobs.in_flight(), LIMIT);

    let Err(WebSocketError::Http(refused)) = soon(open(server.address)).await else {
        panic!("one socket more was not refused, with {LIMIT} of {LIMIT} open");
    };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));

    let mut closed = sockets.remove(0);
    match closed.close(None).await {
        Ok(()) => {}
        // Over HTTP/2, the server may answer the close and reset the stream (RFC 9113, 8.1)
        // before the flush returns.
        Err(WebSocketError::Io(_)) => {}
        Err(error) => panic!("the socket does not close: {error}"),
    }
    eventually("the permit of the closed socket is free", || {
        server.jobs.in_flight() == LIMIT - 1
    })
    .await;
    drop(closed);
    sockets.push(soon(open(server.address)).await.unwrap());
    assert_echoes(sockets.last_mut().unwrap()).await;

    // The callers leave without a close, while the tasks of their sockets work.
    server.back_end_paused.send_replace(true);
    for socket in &mut sockets {
        socket.send(Message::text("hello")).await.unwrap();
    }
    eventually("all messages are at work", || {
        server.back_end.at_work() == LIMIT
    })
    .await;
    drop(sockets);
    server.has_seen_all_callers_leave().await;
    server.is_full().await;
    server.finish().await;
}

async fn assert_echoes(socket: &mut WebSocketStream<impl AsyncRead + AsyncWrite + Unpin>) {
    let text = Message::text("hello");
    socket.send(text.clone()).await.unwrap();
    assert_eq!(soon(socket.next()).await.unwrap().unwrap(), text);
}
