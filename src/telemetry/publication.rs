use std::time::Duration;

#[cfg(feature = "metrics")]
use super::write;

use super::registry;

/// Hands the metrics of all budgets to the recorder of the `metrics` facade, and logs where shedding has stopped.
///
/// A call costs some microseconds a budget, and no request waits for it. Concurrent calls publish the same values.
pub fn publish() {
    let live = registry::live();
    #[cfg(feature = "metrics")]
    write::write(registry::series(&live), &live);
    live.iter().for_each(|budget| budget.check_shedding());
}

/// Calls [`publish`] now and every `period`, without an end: a task for recorders that push.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::time::Duration;
///
/// tokio::spawn(loadshed::telemetry::publish_every(Duration::from_secs(5)));
/// # }
/// ```
///
/// # Panics
///
/// If `period` is zero, or where the runtime has no timer.
pub async fn publish_every(period: Duration) {
    let mut interval = tokio::time::interval(period);
    loop {
        interval.tick().await;
        publish();
    }
}
