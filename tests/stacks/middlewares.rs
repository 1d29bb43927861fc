//! Promises 3 and 7: a request through the layers of tower-http, inside of the layer, outside of it, and between two layers of one
//! budget.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use tower::{Layer, ServiceExt};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, limit::RequestBodyLimitLayer,
    timeout::TimeoutLayer, trace::TraceLayer,
};

use crate::observed::{Observed, Pools, Stack, Task, boxed};

/// A layer, and how requests end in it: with a status, or with a panic.
struct Middleware {
    name: &'static str,
    wrap: fn(Stack) -> Stack,
    ends: &'static [(Task, Option<u16>)],
}

const MIDDLEWARES: [Middleware; 5] = [
    Middleware {
        name: "compression",
        wrap: |inner| boxed(CompressionLayer::new().layer(inner)),
        ends: &[(Task::Panic, None), (Task::Read, Some(200))],
    },
    Middleware {
        name: "timeout",
        wrap: |inner| {
            let (status, time) = (StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(5));
            boxed(TimeoutLayer::with_status_code(status, time).layer(inner))
        },
        ends: &[(Task::Panic, None), (Task::Hang, Some(504))],
    },
    Middleware {
        name: "trace",
        wrap: |inner| boxed(TraceLayer::new_for_http().layer(inner)),
        ends: &[(Task::Panic, None), (Task::Read, Some(200))],
    },
    Middleware {
        name: "catch-panic",
        wrap: |inner| boxed(CatchPanicLayer::new().layer(inner)),
        ends: &[(Task::Panic, Some(500)), (Task::Read, Some(200))],
    },
    Middleware {
        name: "body limit",
        wrap: |inner| {
            let inner = inner.map_request(|request: Request<_>| request.map(Body::new));
            boxed(RequestBodyLimitLayer::new(200).layer(inner))
        },
        ends: &[
            (Task::Panic, None),
            (Task::Read, Some(413)),
            (Task::ReadAnnounced, Some(413)),
        ],
    },
];

#[derive(Clone, Copy, Debug)]
enum Order {
    Inside,
    Outside,
    BetweenTwoLayers,
}

impl Order {
    const ALL: [Self; 3] = [Self::Inside, Self::Outside, Self::BetweenTwoLayers];

    fn build(self, wrap: fn(Stack) -> Stack, pools: &Pools, handler: Stack) -> Stack {
        let shed = |inner| boxed(pools.shed(0).layer(inner));
        match self {
            Self::Inside => shed(wrap(handler)),
            Self::Outside => wrap(shed(handler)),
            Self::BetweenTwoLayers => shed(wrap(shed(handler))),
        }
    }
}

/// Each middleware in each order, with permits that are shared with the handler and without.
fn stacks() -> impl Iterator<Item = (Observed, &'static Middleware)> {
    let orders = Order::ALL.into_iter();
    let settings = orders.flat_map(|order| [(order, false), (order, true)]);
    settings.flat_map(|(order, shares_permits)| {
        MIDDLEWARES.iter().map(move |middleware| {
            let name = format!("{}, {order:?}", middleware.name);
            let stack = Observed::new(name, 1, shares_permits, |pools, handler| {
                order.build(middleware.wrap, pools, handler)
            });
            (stack, middleware)
        })
    })
}

#[tokio::test(start_paused = true)]
async fn p07_with_every_layer_of_tower_http_in_every_order_a_request_holds_one_permit() {
    for (stack, _) in stacks() {
        stack.holds_one_permit_a_request().await;
    }
}

#[tokio::test(start_paused = true)]
async fn p03_a_panic_a_timeout_and_a_body_over_its_limit_release_the_permit_in_every_order() {
    for (stack, middleware) in stacks() {
        for &(task, expected) in middleware.ends {
            stack.leaves_no_permit(task, expected).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn p03_with_every_layer_of_tower_http_a_caller_that_leaves_releases_the_permit() {
    for (stack, _) in stacks() {
        stack.leaves_no_permit_of_a_caller_that_leaves().await;
    }
}
