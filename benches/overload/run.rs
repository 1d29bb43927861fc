//! Runs one server under one load.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep_until},
};

use crate::{
    load::{Load, RequestResult},
    processor,
    score::Score,
    server::{Server, Service, Slowness},
    variants::Variant,
};

#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) service: Service,
    pub(crate) load: Load,
    /// Consecutive spans, each of which is scored.
    pub(crate) spans: Vec<Range<Duration>>,
    /// Time span in which service times are longer.
    pub(crate) slow: Option<Range<Duration>>,
}

/// Factor of the service times in that span.
pub(crate) const SLOWNESS: u32 = 5;

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) seen: Vec<RequestResult>,
    /// The score of each span.
    pub(crate) scores: Vec<Score>,
}

impl Run {
    pub(crate) fn of(&self, variant: Variant) -> Ran {
        let server = Server::start(self.service, variant.app);
        let callers = Builder::new_current_thread().enable_all().build();
        let callers = callers.expect("the system has threads");
        let used = Arc::new(Mutex::default());
        let seen = callers.block_on(self.load.offer(server.address, |began| {
            if let Some(span) = self.slow.clone() {
                let slowness = server.slowness.clone();
                tokio::spawn(step(slowness, began + span.start, began + span.end));
            }
            let starts = self.spans.iter().map(|span| span.start);
            let ends = self.spans.last().map(|span| span.end);
            let reads = starts.chain(ends).map(|at| began + at).collect();
            tokio::spawn(read_processor(reads, Arc::clone(&used)));
        }));
        // The last response may arrive before the end of the last span.
        let mut used = locked(&used).clone();
        used.push(processor::used());
        drop(callers);
        server.stop();
        let scores = self.spans.iter().zip(used.windows(2));
        let scores =
            scores.map(|(span, used)| Score::of(&seen, span, used[1].saturating_sub(used[0])));
        let scores = scores.collect();
        Ran { seen, scores }
    }
}

async fn step(slowness: Slowness, start: Instant, end: Instant) {
    sleep_until(start).await;
    slowness.set(SLOWNESS);
    sleep_until(end).await;
    slowness.set(1);
}

async fn read_processor(at: Vec<Instant>, used: Arc<Mutex<Vec<Duration>>>) {
    for at in at {
        sleep_until(at).await;
        locked(&used).push(processor::used());
    }
}

fn locked(used: &Mutex<Vec<Duration>>) -> MutexGuard<'_, Vec<Duration>> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}
