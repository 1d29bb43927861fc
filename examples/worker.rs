//! A queue consumer that runs no more jobs at once than the pool behind it carries.
//!
//! It uses a budget without tower. The consumer asks the budget for a permit; a refused job goes
//! back into the queue after the retry hint. Hints are spread over time at the rate at which jobs
//! end, so the refused jobs do not all return in one instant.
//!
//! It needs no client: it runs 24 jobs, prints what happens to each, and ends by itself.
//!
//! ```text
//! cargo run --example worker
//! ```

use std::{error::Error, time::Duration};

use loadshed::{Budget, Threshold};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

const JOBS: usize = 24;

/// Time that the back end takes for a job.
const BACK_END: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = Budget::fixed(10).named("smtp");
    let done = run_jobs(JOBS, &pool).await;

    let snapshot = pool.snapshot();
    println!(
        "{} of {JOBS} jobs done, {} at once at most, after {} refusals",
        done.len(),
        snapshot.peak_in_flight,
        snapshot.refused
    );
    Ok(())
}

/// A job holds a sender of its queue. So the queue is closed once no job is left: none in it, none
/// waiting to return, none running.
struct Job {
    number: usize,
    queue: mpsc::Sender<Self>,
}

/// Returns the numbers of the jobs in the order in which they were done.
pub(crate) async fn run_jobs(jobs: usize, pool: &Budget) -> Vec<usize> {
    let (queue, mut next) = mpsc::channel(16);
    tokio::spawn(async move {
        for number in 1..=jobs {
            let queue = queue.clone();
            let job = Job { number, queue };
            if job.queue.clone().send(job).await.is_err() {
                break;
            }
        }
    });

    let start = Instant::now();
    let mut running = JoinSet::new();
    while let Some(job) = next.recv().await {
        let number = job.number;
        let now = start.elapsed().as_secs_f64();
        // 8 of 10: the last two permits are for urgent jobs, which would use `Threshold::NEVER_SHED`.
        match pool.try_acquire(Threshold::ratio(0.8)) {
            Ok(permit) => {
                println!("{now:.2} s: job {number:>2} admitted");
                running.spawn(async move {
                    sleep(BACK_END).await;
                    drop(job);
                    permit.succeeded();
                    number
                });
            }
            Err(shed) => {
                let wait = shed.retry_after();
                println!("{now:.2} s: job {number:>2} refused, back in {wait:.2?}");
                tokio::spawn(requeue(job, wait));
            }
        }
    }
    running.join_all().await
}

async fn requeue(job: Job, wait: Duration) {
    sleep(wait).await;
    // If the queue is closed, the consumer has ended.
    let _ = job.queue.clone().send(job).await;
}
