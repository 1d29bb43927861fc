use std::time::Duration;

#[cfg(feature = "metrics")]
use super::write;

use super::registry;

/// Publishes the metrics of all budgets to the recorder of the `metrics` facade, and logs which budgets no longer shed.
///
/// A call takes some microseconds a budget. No request waits for it, nor does a budget that is made or dropped. Calls may overlap.
pub fn publish() {
    let live = registry::live();
    #[cfg(feature = "metrics")]
    write::write(registry::series(&live), &live);
    live.iter().for_each(|budget| budget.check_shedding());
}

/// Calls [`publish`] now and every `period`, forever. Spawn it as a task for a recorder that pushes.
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
/// If `period` is 0, or if the runtime has no timer.
pub async fn publish_every(period: Duration) {
    let mut interval = tokio::time::interval(period);
    loop {
        interval.tick().await;
        publish();
    }
}
