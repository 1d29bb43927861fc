//! Promises 3 and 7: a request through nested layers of one budget, in the stacks that axum and tower make.

use std::{convert::Infallible, panic::resume_unwind};

use axum::{Router, body::Body, routing::post_service};
use http::Request;
use tower::{Layer, ServiceExt, buffer::Buffer, service_fn};

use crate::observed::{Observed, Pools, Stack, Task, boxed, request};

/// A name, the number of budgets, and how the stack is built around a handler.
type Row = (&'static str, usize, fn(&Pools, Stack) -> Stack);

const STACKS: [Row; 5] = [
    ("axum's routers", 1, nested_routers),
    ("two budgets interleaved", 2, interleaved),
    ("a buffer", 1, buffer),
    ("a spawn", 1, spawn),
    ("another service", 1, another_service),
];

fn stacks() -> impl Iterator<Item = Observed> {
    [false, true].into_iter().flat_map(|shares_permits| {
        let observed = move |&(name, budgets, build): &Row| {
            Observed::new(name, budgets, shares_permits, build)
        };
        STACKS.iter().map(observed)
    })
}

/// Layers at the method, at the routes, and around the nested and the outer router.
fn nested_routers(pools: &Pools, handler: Stack) -> Stack {
    let inner = Router::new()
        .route("/work", post_service(handler).route_layer(pools.shed(0)))
        .route_layer(pools.shed(0))
        .layer(pools.shed(0));
    boxed(Router::new().nest("/api", inner).layer(pools.shed(0)))
}

fn interleaved(pools: &Pools, handler: Stack) -> Stack {
    let inner = pools.shed(0).layer(pools.shed(1).layer(handler));
    boxed(pools.shed(0).layer(pools.shed(1).layer(inner)))
}

fn buffer(pools: &Pools, handler: Stack) -> Stack {
    let buffer = Buffer::new(pools.shed(0).layer(handler), 4);
    let open = buffer.map_err(|error| -> Infallible { panic!("the buffer fails: {error}") });
    boxed(pools.shed(0).layer(open))
}

fn spawn(pools: &Pools, handler: Stack) -> Stack {
    let inner = pools.shed(0).layer(handler);
    boxed(pools.shed(0).layer(service_fn(move |request| {
        let call = tokio::spawn(inner.clone().oneshot(request));
        async {
            match call.await {
                Ok(response) => response,
                Err(error) => resume_unwind(error.into_panic()),
            }
        }
    })))
}

/// A handler that calls another service with a request of its own, and the extensions of the request that it serves.
fn another_service(pools: &Pools, handler: Stack) -> Stack {
    let inner = pools.shed(0).layer(handler);
    boxed(pools.shed(0).layer(service_fn(move |own: Request<Body>| {
        let task = own.extensions().get::<Task>().copied();
        let mut other = request(task.expect("a task"));
        *other.extensions_mut() = own.extensions().clone();
        inner.clone().oneshot(other)
    })))
}

#[tokio::test(start_paused = true)]
async fn p07_in_every_stack_a_request_holds_one_permit_of_each_budget() {
    for stack in stacks() {
        stack.holds_one_permit_a_request().await;
    }
}

#[tokio::test(start_paused = true)]
async fn p03_in_every_stack_a_handler_that_panics_releases_the_permit() {
    for stack in stacks() {
        stack.leaves_no_permit(Task::Panic, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn p03_in_every_stack_a_caller_that_leaves_releases_the_permit() {
    for stack in stacks() {
        stack.leaves_no_permit_of_a_caller_that_leaves().await;
    }
}
