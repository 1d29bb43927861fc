use std::time::Duration;

use super::load_shed::LoadShed;
use crate::{
    middleware::stalled::{ResponseStalled, StalledError},
    support::invalid::{InvalidSetting, expect_valid},
};

/// # How long a permit is held
///
/// A permit is held until the response has left, up to what the server buffers, and no longer. The page `docs/permit.md` of the
/// repository lists what ends it.
impl LoadShed {
    /// Puts a [`RequestPermit`](crate::RequestPermit) into the extensions of each request: for work that goes on after the
    /// response or without the caller. By default a request leaves the count when its caller leaves, whatever it has spawned.
    ///
    /// | work | move the permit into |
    /// | --- | --- |
    /// | `spawn_blocking` | [the closure](crate::RequestPermit#blocking-jobs) |
    /// | `tokio::spawn` | [the task](crate::RequestPermit#tasks) |
    /// | a stream that a task produces | [the producer](crate::RequestPermit#streams) |
    /// | an upgrade: WebSocket, extended CONNECT | [the task that serves the connection](crate::RequestPermit#upgraded-connections) |
    ///
    /// ```
    /// # #[cfg(feature = "axum")] {
    /// use axum::{Router, extract::WebSocketUpgrade, response::Response, routing::{any, post}};
    /// use loadshed::{LoadShed, RequestPermit};
    /// use tokio::task::spawn_blocking;
    ///
    /// async fn report(permit: RequestPermit) {
    ///     let job = spawn_blocking(move || {
    ///         // the work
    ///         drop(permit);
    ///     });
    ///     job.await.unwrap();
    /// }
    ///
    /// async fn open(permit: RequestPermit, upgrade: WebSocketUpgrade) -> Response {
    ///     upgrade.on_upgrade(async move |mut socket| {
    ///         while let Some(Ok(message)) = socket.recv().await {}
    ///         drop(permit);
    ///     })
    /// }
    ///
    /// let app: Router = Router::new()
    ///     .route("/report", post(report))
    ///     .route("/ws", any(open))
    ///     .layer(LoadShed::ratio(0.85).share_permit());
    /// # }
    /// ```
    ///
    /// It costs each request some allocations.
    #[track_caller]
    pub fn share_permit(self) -> Self {
        self.with(|settings| settings.share_permit = true)
    }

    /// Sets how long a response may stall before its permit is released. The default is 60 s.
    ///
    /// A response stalls while its reader does not read: the server has taken a frame of the body and has no space for the next one.
    /// A body that waits for the server, such as a silent event stream, never stalls. Stalled responses are looked for when a
    /// request is refused or queued, and while a task waits in the queue or for [`emptied`](crate::Budget::emptied), at most eight
    /// times in the timeout: the permit is released up to an eighth later.
    ///
    /// A response that goes on takes a permit again, under the threshold of its request (to four decimals of the ratio). If it does
    /// not fit, its body ends with an error: see [`stall_error`](Self::stall_error). A released permit does not free the memory of the response. What ends a stalled
    /// connection are TCP_USER_TIMEOUT, the keep-alive of HTTP/2 and the send timeout of a proxy.
    ///
    /// The kernel's buffers hide the progress of a slow reader: a reader of some 24 KB/s or more is seen to read within 60 s. With a
    /// shorter timeout faster readers are taken for stalled ones. `Duration::MAX` means never. Where layers of one budget set
    /// different timeouts, the shortest of these holds.
    ///
    /// # Panics
    ///
    /// If `timeout` is 0. [`try_stall_timeout`](Self::try_stall_timeout) returns an error instead.
    #[track_caller]
    pub fn stall_timeout(self, timeout: Duration) -> Self {
        expect_valid(self.try_stall_timeout(timeout))
    }

    /// [`stall_timeout`](Self::stall_timeout) for a value that comes from configuration.
    ///
    /// # Errors
    ///
    /// If `timeout` is 0.
    #[track_caller]
    pub fn try_stall_timeout(self, timeout: Duration) -> Result<Self, InvalidSetting> {
        if timeout.is_zero() {
            let given = format_args!("{timeout:?}");
            let allowed = "greater than 0; Duration::MAX for never";
            return Err(InvalidSetting::new("stall timeout", given, allowed));
        }
        Ok(self.with(|settings| settings.stall.timeout = Some(timeout)))
    }

    /// Sets the error with which the body of a stalled response ends that goes on while the budget is full, where bodies have the
    /// error type `E`.
    ///
    /// It is not needed for boxed errors, `std::io::Error` and `axum::Error`. For other types without it, such a response goes on
    /// over the limit, and is counted.
    ///
    /// ```
    /// use loadshed::LoadShed;
    ///
    /// # struct Status; impl Status { fn unavailable(_: String) -> Self { Self } }
    /// // in tonic: `tonic::Status`
    /// let shed = LoadShed::ratio(0.85).stall_error(|stalled| Status::unavailable(stalled.to_string()));
    /// ```
    #[track_caller]
    pub fn stall_error<E: 'static>(
        self,
        error: impl Fn(ResponseStalled) -> E + Send + Sync + 'static,
    ) -> Self {
        let error = StalledError::new(error);
        self.with(|settings| settings.stall.errors.push(error))
    }
}
