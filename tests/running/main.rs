//! Promises 3, 4, 5, 8 and 24: what a request holds while it runs, and what changes meanwhile.

mod inner_readiness;
mod limit_changes;
mod permit_release;
mod permit_until_body_end;
mod policy_changes;
mod ratio_changes;
#[path = "../support/mod.rs"]
mod support;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use loadshed::{Budget, LoadShed};
use tower::{Layer, Service, ServiceExt, util::BoxCloneService};

use crate::support::{
    BoxBody, Broken, FnController, Req, Scripted, all, answer, boxed_body, get, holding,
};

// ---- 3: given back, exactly once

type Boxed = BoxCloneService<Req, Response<BoxBody>, Broken>;

fn boxed<S, B>(service: S) -> Boxed
where
    S: Service<Req, Response = Response<B>, Error = Broken> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error = Broken> + Send + 'static,
{
    BoxCloneService::new(service.map_response(|head: Response<B>| head.map(boxed_body)))
}

#[derive(Clone, Copy, Debug)]
enum Stack {
    Alone,
    /// Inside another layer of the same budget, which then holds the place.
    Inside,
    /// With a layer of another budget between the two.
    Between,
}

struct Place {
    stack: Stack,
    budget: Budget,
    limit: usize,
    other: Budget,
}

impl Place {
    fn service(&self, inner: Scripted) -> Boxed {
        let (outer, between) = (
            LoadShed::observe().budget(&self.budget),
            LoadShed::observe().budget(&self.other),
        );
        let layer = LoadShed::ratio(1.0).budget(&self.budget);
        match self.stack {
            Stack::Alone => boxed(layer.layer(inner)),
            Stack::Inside => boxed(outer.layer(layer.layer(inner))),
            Stack::Between => boxed(outer.layer(between.layer(layer.layer(inner)))),
        }
    }

    /// Besides the one that is always held.
    #[track_caller]
    fn expect(&self, in_flight: usize) {
        assert_eq!(
            self.budget.in_flight(),
            1 + in_flight,
            "{:?} {:?}",
            self.stack,
            self.budget
        );
        assert_eq!(self.budget.limit(), self.limit);
    }
}

/// Under fixed and learned budgets, alone and nested. Whatever `run` does has to leave the count as it was, and the
/// thread too: what comes next on it must not be taken for the request that was.
fn everywhere(run: impl Fn(&Place)) {
    for stack in [Stack::Alone, Stack::Inside, Stack::Between] {
        // Of 1,000, threads keep places.
        for budget in [
            Budget::fixed(5),
            Budget::fixed(1_000),
            Budget::new(FnController::new(5..=5, 5, |_| 5)),
        ] {
            let place = Place {
                stack,
                limit: budget.limit(),
                budget,
                other: Budget::fixed(5),
            };
            // One more release than admissions would show in it, and at 0 would not.
            let held = place.budget.try_acquire(all()).unwrap();
            place.expect(0);
            run(&place);
            place.expect(0);
            assert_eq!(place.other.in_flight(), 0, "{stack:?}");

            let next = answer(&mut place.service(holding()), get("/"));
            place.expect(1);
            drop(next);
            place.expect(0);
            drop(held);
            assert_eq!(place.budget.in_flight(), 0);
        }
    }
}
