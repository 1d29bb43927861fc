//! Tenants in one queue.

use std::collections::VecDeque;

use loadshed::{Budget, LoadShed};

use super::{Answer, Call, Now, Server, ms, pass};

/// A limit of 10, and requests of 50 ms: a capacity of 200 requests a second. The large tenant sends 1,000 a second, so that the
/// queue is never empty, and the small tenant 40, for five seconds. Returns how many requests of the small tenant were refused in
/// the last four seconds.
async fn refused_of_the_small_tenant(shed: LoadShed) -> usize {
    let mut server = Server::new(shed);
    let mut waiting: Vec<(bool, Call)> = Vec::new();
    let mut running: VecDeque<(usize, Answer)> = VecDeque::new();
    let mut refused = 0;
    for step in 0..5_000 {
        pass(1).await;
        while running.front().is_some_and(|(ends, _)| *ends <= step) {
            running.pop_front();
        }
        waiting.push((false, server.call("/large")));
        if step % 25 == 0 {
            waiting.push((true, server.call("/small")));
        }
        waiting.retain_mut(|(is_small, call)| match call.now() {
            Now::Waits => true,
            Now::Served(answer) => {
                running.push_back((step + 50, answer));
                false
            }
            Now::Refused(_) => {
                refused += usize::from(*is_small && step >= 1_000);
                false
            }
        });
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn no_tenant_fills_the_queue_so_that_others_cannot_join() {
    let shed = || {
        LoadShed::ratio(1.0)
            .budget(Budget::fixed(10))
            .wait(8, ms(100))
    };
    let without = refused_of_the_small_tenant(shed()).await;
    let with =
        refused_of_the_small_tenant(shed().fair_by(|head| head.uri().path().to_owned())).await;
    assert!(without > 40, "{without} of 160");
    assert!(with <= 8, "{with} of 160, {without} without shares");
}
