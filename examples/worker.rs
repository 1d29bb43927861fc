//! A queue consumer that takes no more jobs than the pool behind it carries.
//!
//! There is no tower here. The consumer asks the budget for a permit; a job that gets none goes
//! back into the queue after the time that the refusal names. These times follow one another at the
//! pace at which jobs end, so the refused jobs do not all come back in one instant.
//!
//! It needs no client: it works off 24 jobs, prints what happens to each, and ends by itself.
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

/// How long the back end takes for one.
const BACK_END: Duration = Duration::from_millis(200);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = Budget::fixed(10).named("smtp");
    let done = work_off(JOBS, &pool).await;

    let figures = pool.snapshot();
    println!(
        "{} of {JOBS} jobs done, {} at once at most, after {} refusals",
        done.len(),
        figures.peak_in_flight,
        figures.refused
    );
    Ok(())
}

/// A job knows its way back into the queue, so the queue is closed once no job is left: neither in
/// it, nor waiting to return, nor running.
struct Job {
    number: usize,
    queue: mpsc::Sender<Self>,
}

/// Returns the numbers of the jobs in the order in which they were done.
pub(crate) async fn work_off(jobs: usize, pool: &Budget) -> Vec<usize> {
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
        // 8 of 10: the last two are for what cannot wait, which would ask with `Threshold::NEVER_SHED`.
        match pool.try_acquire(Threshold::ratio(0.8)) {
            Ok(permit) => {
                println!("{now:.2} s: job {number:>2} taken");
                running.spawn(async move {
                    // The job lasts until here, and the permit as long as the job.
                    sleep(BACK_END).await;
                    drop((job, permit));
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
    // If the queue is gone, nobody waits for the job any more.
    let _ = job.queue.clone().send(job).await;
}
