//! The benefit of a queue in a burst, and in sustained overload: `cargo test --test queue benefit -- --nocapture`.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Empty;
use loadshed::{Budget, LoadShed};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, Service, service_fn};

use super::{
    ms,
    support::{Req, get, is_refused},
};

const LIMIT: usize = 20;

/// A request takes from 5 to 15 ms, so that the capacity is 2 requests a millisecond.
const MEAN: Duration = ms(10);

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    served: usize,
    refused: usize,
    /// From the call to the response, of the served requests.
    median: Duration,
    p99: Duration,
    /// From the call to the refusal, of the refused requests.
    longest_refusal: Duration,
}

/// Calls at random times, at `load` times the capacity, for as long as `lasts`.
async fn run(shed: LoadShed, load: f64, lasts: Duration) -> Outcome {
    let mut random = fastrand::Rng::with_seed(7);
    let service = shed
        .budget(Budget::fixed(LIMIT))
        .layer(service_fn(|request: Req| async move {
            let micros: u64 = request.uri().path()[1..].parse().unwrap();
            sleep(Duration::from_micros(micros)).await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }));
    let seen = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let begin = Instant::now();
    let mut at = begin;
    let mut calls = Vec::new();
    loop {
        let gap = -(1.0 - random.f64()).ln() / (load * LIMIT as f64);
        at += MEAN.mul_f64(gap);
        if at > begin + lasts {
            break;
        }
        let micros = 5_000 + random.u64(..10_000);
        let (mut service, seen) = (service.clone(), Arc::clone(&seen));
        calls.push(tokio::spawn(async move {
            sleep_until(at).await;
            let called = Instant::now();
            let answer = service.call(get(&format!("/{micros}"))).await.unwrap();
            let mut seen = seen.lock().unwrap();
            let refused = is_refused(&answer);
            (if refused { &mut seen.1 } else { &mut seen.0 }).push(called.elapsed());
        }));
    }
    for call in calls {
        call.await.unwrap();
    }
    let (mut served, refused) = std::mem::take(&mut *seen.lock().unwrap());
    served.sort();
    Outcome {
        served: served.len(),
        refused: refused.len(),
        median: served[served.len() / 2],
        p99: served[served.len() * 99 / 100],
        longest_refusal: refused.into_iter().max().unwrap_or_default(),
    }
}

async fn both(load: f64, lasts: Duration) -> [Outcome; 2] {
    let shed = LoadShed::ratio(1.0);
    let without = run(shed.clone(), load, lasts).await;
    let with = run(shed.wait(64, ms(50)), load, lasts).await;
    println!("{load} x the capacity for {lasts:?}");
    println!("  at once:         {without:?}");
    println!("  wait(64, 50 ms): {with:?}");
    [without, with]
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_twice_the_capacity_is_served_whole_where_it_is_shorter_than_the_longest_wait() {
    let [without, with] = both(2.0, ms(30)).await;
    assert!(without.refused > 30 && with.refused == 0);
    assert!(with.p99 <= ms(50 + 15));
}

#[tokio::test(start_paused = true)]
async fn no_queue_is_standing_under_sustained_overload() {
    let [without, with] = both(3.0, ms(10_000)).await;
    assert!(with.served * 100 >= without.served * 97);
    assert!(with.median <= without.median + ms(10));
    assert!(with.longest_refusal <= ms(51));
}
