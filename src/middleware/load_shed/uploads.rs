use std::time::Duration;

use http_body::Body;

use super::load_shed::LoadShed;
use crate::{
    support::invalid::{InvalidSetting, expect_valid},
    upload::{min_rate::MinRate, watched_body::WatchedBody},
};

/// # Uploads
impl LoadShed {
    /// Watches request bodies of the type `B`, to tell the client's time from the server's. By default none is watched.
    ///
    /// A handler that reads an upload waits for its client: for 20 s on a slow network, for ever where the client goes silent.
    /// Under a learned limit that time is neither latency nor queue once the upload is watched. Meanwhile the request counts
    /// as responded: it holds its permit, and the limit is higher by it. Without the watch, some tens of silent uploads look like a
    /// queue that does not end, and short requests are refused. Under a fixed limit, [`min_upload_rate`](Self::min_upload_rate)
    /// needs the watch.
    ///
    /// `wrap` makes a body of the type `B` from a [`WatchedBody`] around the request's own body. Frameworks whose body can hold any other
    /// have a function for it. Several calls add several types; of two calls for the same type, the last counts.
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// let shed = LoadShed::ratio(0.85).watch_uploads(axum::body::Body::new);
    /// let shed = LoadShed::ratio(0.85).watch_uploads(tonic::body::Body::new);
    /// ```
    ///
    /// - **What counts.** The handler waits for its client from a poll of the body that finds nothing to the next poll that finds a
    ///   frame, or to the drop of the body. Work that a handler does meanwhile, with a body that it has polled and still
    ///   holds, counts as the client's time.
    /// - **What stays.** The body has the same type, frames, trailers, errors and size hint. It is not polled before the handler polls
    ///   it, so a client that sent `Expect: 100-continue` is asked for the body no sooner. Body limits apply as before.
    /// - **What it costs.** A request without a body pays for one test. A watched upload is allocated twice, once here and once by
    ///   `wrap`, and takes a lock of its own at each poll. Where its request is measured, it takes two allocations more. Without
    ///   `min_upload_rate`, only measured requests are watched.
    /// - **Several layers.** Of the layers of one budget, any may watch. Exempt requests are not watched. An inner call with the
    ///   extensions of the handler's request is a part of that request: where its layer watches, its body counts as the client's,
    ///   also a body that the handler itself computes. Give such a call a request without the extensions. While the handler waits
    ///   for any of several bodies, the request waits for its client.
    /// - **If `wrap` panics**, so does the call, as the body is lost. The permit is released.
    ///
    /// # Which bodies
    ///
    /// The type has to be the one that this layer sees. In axum and tonic that is their own `Body`, at any place in the stack where no
    /// other layer has changed it. A body type that holds no other body cannot be watched, such as `hyper::body::Incoming`, which has
    /// no public constructor. There, a layer outside of this one maps the body to a type that can:
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
    /// use hyper::body::Incoming;
    /// use loadshed::{LoadShed, WatchedBody};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// type Boxed = UnsyncBoxBody<Bytes, hyper::Error>;
    ///
    /// let handler = service_fn(async |_: Request<Boxed>| {
    ///     Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from("served"))))
    /// });
    /// let shed = LoadShed::ratio(0.85)
    ///     .watch_uploads(|body: WatchedBody<Boxed>| body.boxed_unsync());
    /// let service = shed
    ///     .layer(handler)
    ///     .map_request(|request: Request<Incoming>| request.map(BodyExt::boxed_unsync));
    /// ```
    ///
    /// A request with a body of another type is counted in the metric `loadshed_unwatched_uploads_total`.
    #[track_caller]
    pub fn watch_uploads<B>(
        self,
        wrap: impl Fn(WatchedBody<B>) -> B + Send + Sync + 'static,
    ) -> Self
    where
        B: Body + Send + 'static,
    {
        self.with(|settings| settings.uploads.body_types.add(wrap))
    }

    /// Ends uploads that arrive at less than `bytes_per_second`, while requests are refused. By default no upload is ended.
    ///
    /// For clients that hold permits by sending a byte from time to time. An upload is ended if all of this is so:
    ///
    /// - It is [watched](Self::watch_uploads), and its request has not responded yet.
    /// - Its handler waits for the client at that moment.
    /// - While the handler has waited for at least `grace`, fewer bytes have arrived than the rate asks for. The time
    ///   in which the handler works is left out, so a slow handler makes no upload slow. Each grace is judged by itself: bytes that
    ///   came early do not pay for a silence.
    /// - The budget refuses a request of the same threshold or a higher one. So an upload of a critical class goes on while sheddable
    ///   requests are refused. The layer that refuses may be another one of the same budget.
    ///
    /// Refusals look at uploads at most once a second, so an upload is ended up to a second after its grace.
    /// There is no timer, and no upload is ended while nothing is refused. A dry run ends no upload.
    ///
    /// The handler's future is dropped, the permit is released, and the caller gets a 408 with `Connection: close` (over HTTP/2 without
    /// that header), `Cache-Control: no-store` and a problem document. A gRPC caller gets `CANCELLED` as Trailers-Only. A
    /// learned limit takes no sample of it. [`on_shed`](Self::on_shed) is not called: it is no refusal. The metric is
    /// `loadshed_slow_uploads_total`. A client that is ended may upload again, and has a grace again.
    ///
    /// Choose a rate that is far below that of the slowest network of an honest client. A client that sends a packet of 1,400
    /// bytes every six seconds is at 233 bytes a second, and some graces see no packet.
    ///
    /// ```
    /// use std::time::Duration;
    /// use loadshed::{Budget, LoadShed};
    ///
    /// let pool = Budget::fixed(200);
    /// let shed = LoadShed::ratio(0.85)
    ///     .budget(&pool)
    ///     .watch_uploads(axum::body::Body::new)
    ///     .min_upload_rate(240, Duration::from_secs(5));
    /// ```
    ///
    /// A timeout around the whole request ends slow uploads in any case, and honest ones on slow networks as well. tower-http's
    /// `RequestBodyTimeout` starts anew with each frame, so a byte from time to time passes it.
    ///
    /// # Panics
    ///
    /// If `bytes_per_second` is not from 1 to 4,294,967,295, or `grace` not from a second to an hour, or `watch_uploads` was not
    /// called before: without it, the rate has no effect. [`try_min_upload_rate`](Self::try_min_upload_rate) returns an
    /// error instead.
    #[track_caller]
    pub fn min_upload_rate(self, bytes_per_second: u64, grace: Duration) -> Self {
        expect_valid(self.try_min_upload_rate(bytes_per_second, grace))
    }

    /// Ends uploads below a rate that comes from configuration, as [`min_upload_rate`](Self::min_upload_rate) does.
    ///
    /// # Errors
    ///
    /// If `bytes_per_second` is not from 1 to 4,294,967,295, or `grace` not from a second to an hour, or `watch_uploads` was not
    /// called before.
    #[track_caller]
    pub fn try_min_upload_rate(
        self,
        bytes_per_second: u64,
        grace: Duration,
    ) -> Result<Self, InvalidSetting> {
        let rate = MinRate::new(bytes_per_second, grace)?;
        self.try_with(|settings| settings.uploads.set_min_rate(rate))
    }
}
