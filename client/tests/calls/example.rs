//! The example, in this process, over real sockets.

#[allow(dead_code, reason = "its main is left out")]
#[path = "../../examples/client.rs"]
mod client_example;

use loadshed::Budget;

use crate::support::bind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_clients_at_once_are_all_served_by_a_pool_of_4() {
    let (listener, server) = bind().await;
    let pool = Budget::fixed(4);
    tokio::spawn(client_example::serve(listener, pool.clone()));

    let served = client_example::call_at_once(10, server).await;

    assert_eq!(served, 10);
    let figures = pool.snapshot();
    assert_eq!((figures.admitted, figures.peak_in_flight), (10, 4));
    assert!((6..=10).contains(&figures.refused), "{figures:?}");
}
