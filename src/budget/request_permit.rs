use std::sync::Arc;

use crate::admission::shared_permit::SharedPermit;

/// The permit of a request, for work that goes on after the response or without the caller.
///
/// A layer with [`share_permit`](crate::LoadShed::share_permit) puts it into the extensions of each request that it admits. The
/// units of the request stay in flight until the response has ended and the last clone is dropped, the one in the extensions
/// included. That holds too where an inner layer refuses the request: its units are counted again once it has responded, for the
/// work that goes on.
///
/// With the feature `axum` it is an extractor. In tonic it is in the extensions of the request:
/// `request.extensions().get::<RequestPermit>().cloned()`. The example `detached_work` runs all four kinds of work below.
///
/// # Blocking jobs
///
/// The caller may leave. A job of `spawn_blocking` cannot be cancelled, and stays in flight until the permit is dropped:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::{Router, routing::post};
/// use loadshed::{LoadShed, RequestPermit};
///
/// async fn report(permit: RequestPermit) {
///     let job = tokio::task::spawn_blocking(move || {
///         // the work
///         drop(permit);
///     });
///     job.await.unwrap();
/// }
///
/// let app: Router = Router::new()
///     .route("/report", post(report))
///     .layer(LoadShed::ratio(0.85).share_permit());
/// # }
/// ```
///
/// # Tasks
///
/// To drop the handle of a task does not cancel the task:
///
/// ```
/// # use loadshed::RequestPermit;
/// # async fn work() {}
/// async fn import(permit: RequestPermit) {
///     tokio::spawn(async move {
///         work().await;
///         drop(permit);
///     });
/// }
/// ```
///
/// # Streams
///
/// The body of the response needs no permit: the layer holds one until the body ends. Where a task produces the body, move the
/// permit into that task. It may be at work when the reader has left:
///
/// ```
/// use axum::body::Body;
/// use futures_util::stream;
/// # use std::convert::Infallible;
/// # use loadshed::RequestPermit;
/// # async fn next_item() -> String { String::new() }
///
/// async fn export(permit: RequestPermit) -> Body {
///     let (items, mut received) = tokio::sync::mpsc::channel(1);
///     tokio::spawn(async move {
///         // `send` fails once the body is dropped.
///         while items.send(Ok::<_, Infallible>(next_item().await)).await.is_ok() {}
///         drop(permit);
///     });
///     Body::from_stream(stream::poll_fn(move |cx| received.poll_recv(cx)))
/// }
/// ```
///
/// # Upgraded connections
///
/// The response to an upgrade ends before the connection is upgraded. Move the permit into the task that serves the connection. This
/// is the same for a WebSocket over HTTP/1 and for one over HTTP/2 (extended CONNECT):
///
/// ```
/// use axum::extract::ws::{WebSocket, WebSocketUpgrade};
/// use axum::response::Response;
/// # use loadshed::RequestPermit;
///
/// async fn open(permit: RequestPermit, upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(move |socket| serve(socket, permit))
/// }
///
/// async fn serve(mut socket: WebSocket, _permit: RequestPermit) {
///     while let Some(Ok(message)) = socket.recv().await {
///         // the work
///     }
/// }
/// ```
///
/// # The sample
///
/// A learned budget takes its sample at the response. From then on the request counts as responded while clones live. Where the
/// caller leaves before the response, that is no success.
#[derive(Debug)]
pub struct RequestPermit {
    /// `None` for a request that is not counted.
    permit: Option<Arc<SharedPermit>>,
    /// The permit of another budget, from a layer further out.
    outer: Option<Box<Self>>,
}

impl RequestPermit {
    pub(crate) fn new(permit: Option<Arc<SharedPermit>>, outer: Option<Self>) -> Self {
        if let Some(permit) = &permit {
            permit.take_along();
        }
        let outer = outer.map(Box::new);
        Self { permit, outer }
    }
}

impl Clone for RequestPermit {
    fn clone(&self) -> Self {
        Self::new(self.permit.clone(), self.outer.as_deref().cloned())
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        if let Some(permit) = &self.permit {
            permit.bring_back();
        }
    }
}
