//! How long it waits.

use std::time::Duration;

use http::Method;
use loadshed_client::{Backpressure, Deadline, NotSent};
use tokio::time::Instant;

use super::{BUSY, Server, call, grpc, ms, with_method};
use crate::support::get;

#[tokio::test(start_paused = true)]
async fn it_waits_exactly_as_told_each_time() {
    let server = Server::that_says([
        (429, &[("retry-after", "2")]),
        (503, &[("retry-after-ms", "250"), ("retry-after", "1")]),
    ]);
    let answer = call(&Backpressure::new(), &server, with_method(Method::POST)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(server.tries(), ms([0, 2_000, 2_250]));

    // By the server's clock, whatever the one here says.
    let server = Server::that_says([(
        503,
        &[
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT"),
        ],
    )]);
    let answer = call(&Backpressure::new(), &server, get("/")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(server.tries(), ms([0, 5_000]));
}

#[tokio::test(start_paused = true)]
async fn a_pushback_is_waited_for_to_the_millisecond_and_a_negative_one_is_a_no() {
    let server = Server::that_says([
        (
            200,
            &[("grpc-status", "8"), ("grpc-retry-pushback-ms", "1234")],
        ),
        (
            200,
            &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "7")],
        ),
    ]);
    call(&Backpressure::new(), &server, grpc()).await;
    assert_eq!(server.tries(), ms([0, 1_234, 1_241]));

    for no in ["-1", "soon"] {
        let server = Server::default();
        let headers = vec![("grpc-status", "8"), ("grpc-retry-pushback-ms", no)].leak();
        server.script.lock().unwrap().push_back((200, headers));
        let answer = call(&Backpressure::new(), &server, grpc()).await;
        assert_eq!(answer.headers()["grpc-retry-pushback-ms"], no);
        assert_eq!(server.tries(), ms([0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_callers_patience_is_returned_at_once_as_it_is() {
    let layer = Backpressure::new().patience(Duration::from_secs(3));
    for (hint, tries) in [
        ("3", ms([0, 3_000])),
        ("4", ms([0])),
        ("99999999999999999999", ms([0])),
    ] {
        let headers = vec![("retry-after", hint)].leak();
        let server = Server::that_says([(429, &*headers)]);
        let answer = call(&layer, &server, get("/")).await;
        assert_eq!(server.tries(), tries, "{hint}");
        if tries.len() == 1 {
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["retry-after"], hint);
            assert!(answer.extensions().get::<NotSent>().is_none());
        }
    }
    let default = Server::that_says([(429, &[("retry-after", "11")])]);
    assert_eq!(
        call(&Backpressure::new(), &default, get("/"))
            .await
            .status(),
        429
    );
    assert_eq!(default.tries(), ms([0]));
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_reaches_the_deadline_is_not_waited_for() {
    for (left, tries) in [(1_001, ms([0, 1_000])), (1_000, ms([0])), (1, ms([0]))] {
        let server = Server::that_says([BUSY]);
        let mut request = get("/");
        let deadline = Deadline::after(Duration::from_millis(left));
        request.extensions_mut().insert(deadline);
        let start = Instant::now();
        let answer = call(&Backpressure::new(), &server, request).await;
        assert_eq!(server.tries(), tries, "{left} ms");
        // The refusal itself, and at once; not a retry that came too late to be sent.
        let served = tries.len() == 2;
        assert_eq!(answer.status(), if served { 200 } else { 429 });
        assert!(served || start.elapsed().is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_it_backs_off_and_a_seed_makes_that_repeatable() {
    let waits = async |seed| {
        let server = Server::that_says([(429, &[]); 2]);
        call(&Backpressure::new().seed(seed), &server, get("/")).await;
        server.tries()
    };
    let (one, other) = (waits(1).await, waits(2).await);
    for tries in [&one, &other] {
        assert_eq!(tries.len(), 3);
        assert!(tries[1] < Duration::from_millis(101));
        assert!(tries[2] - tries[1] < Duration::from_millis(201));
    }
    assert_ne!(one, other);
    assert_eq!(waits(1).await, one);
}
