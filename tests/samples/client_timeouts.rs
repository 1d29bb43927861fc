//! The client timeouts that requests state.

use std::time::Duration;

use loadshed::{Criticality, LoadShed};
use tokio::time::sleep;
use tower::{Layer, ServiceExt};

use super::{Recorded, answers, head};
use crate::support::{Req, all, answer, get};

const MILLI: Duration = Duration::from_millis(1);

fn stating(timeout: &str) -> Req {
    let mut request = get("/");
    let timeout = timeout.parse().unwrap();
    request.headers_mut().insert("grpc-timeout", timeout);
    request
}

impl Recorded {
    fn client_timeouts(&self) -> Vec<Option<Duration>> {
        let samples = self.samples();
        samples.iter().map(|sample| sample.client_timeout).collect()
    }
}

#[test]
fn a_sample_has_the_client_timeout_that_the_request_states() {
    let kinds: [fn(LoadShed) -> LoadShed; 4] = [
        |shed| shed,
        |shed| shed.classify(|_| Criticality::Critical),
        |shed| shed.share_permit(),
        |shed| shed.dry_run(true),
    ];
    for kind in kinds {
        // Each has a budget of its own: layers of one budget share the permits of their requests.
        let controller = Recorded::new();
        let shed = kind(LoadShed::ratio(1.0).budget(&controller.budget));
        let mut service = shed.layer(answers(head(200, &[])));
        for (stated, timeout) in [
            ("100m", Some(100 * MILLI)),
            ("2S", Some(2_000 * MILLI)),
            ("1999u", Some(MILLI)),
            ("1H", Some(65_535 * MILLI)),
            // Less than 1 ms, and more than 1 h.
            ("999u", None),
            ("3601S", None),
            ("soon", None),
        ] {
            answer(&mut service, stating(stated));
            assert_eq!(controller.client_timeouts(), [timeout], "{stated}");
        }
        answer(&mut service, get("/"));
        assert_eq!(controller.client_timeouts(), [None]);
    }
}

#[test]
fn a_permit_has_no_client_timeout() {
    let controller = Recorded::new();
    controller.budget.try_acquire(all()).unwrap().succeeded();
    assert_eq!(controller.client_timeouts(), [None]);
}

#[test]
fn a_request_that_passes_two_layers_of_a_budget_has_its_client_timeout_once() {
    let controller = Recorded::new();
    let shed = || LoadShed::ratio(1.0).budget(&controller.budget);
    let mut service = shed().layer(shed().layer(answers(head(200, &[]))));
    answer(&mut service, stating("100m"));
    assert_eq!(controller.client_timeouts(), [Some(100 * MILLI)]);
}

/// Queues a request for 30 ms, in a layer alone or within another layer of its budget, and returns its client timeout.
async fn queued(is_nested: bool) -> Vec<Option<Duration>> {
    let controller = Recorded::new();
    let budget = &controller.budget;
    let queue = LoadShed::ratio(0.5).budget(budget);
    let queue = queue.wait(10, 1_000 * MILLI).layer(answers(head(200, &[])));
    let held = [(); 50].map(|()| budget.try_acquire(all()).unwrap());
    let called = match is_nested {
        true => {
            let outer = LoadShed::ratio(1.0).budget(budget);
            let service = outer.layer(queue);
            tokio::spawn(async { service.oneshot(stating("100m")).await.is_ok() })
        }
        false => tokio::spawn(async { queue.oneshot(stating("100m")).await.is_ok() }),
    };
    sleep(30 * MILLI).await;
    held.into_iter().for_each(loadshed::Permit::discard);
    assert!(called.await.unwrap());
    controller.client_timeouts()
}

#[tokio::test(start_paused = true)]
async fn the_time_in_a_queue_is_no_part_of_the_client_timeout() {
    for is_nested in [false, true] {
        let timeouts = queued(is_nested).await;
        assert_eq!(timeouts, [Some(70 * MILLI)], "{is_nested}");
    }
}
