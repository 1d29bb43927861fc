//! Promise 14: the cap of a sample.

use std::fmt::Debug;

use loadshed::{LoadShed, Threshold};
use tower::{Layer, Service, service_fn};

use super::Recorded;
use crate::support::{Req, answer, get, holding, run};

#[test]
fn p14_a_sample_has_the_cap_of_its_admission() {
    let controller = Recorded::new();
    for (threshold, limit, cap) in [
        (Threshold::ratio(0.5), 100, 50),
        (Threshold::ratio(0.85), 100, 85),
        (Threshold::ratio(0.85), 199, 169),
        (Threshold::ratio(1.0), 199, 199),
        (Threshold::ratio(0.001), 10, 1),
        (Threshold::NEVER_SHED, 7, 7),
    ] {
        controller.set_limit(limit);
        let shed = LoadShed::observe().budget(&controller.budget);
        let mut service = shed.threshold(move |_| threshold).layer(holding());
        drop(answer(&mut service, get("/")));
        drop(controller.budget.try_acquire(threshold).unwrap());
        let samples = controller.samples();
        assert_eq!(samples.len(), 2);
        for sample in samples {
            let told = (sample.in_flight, sample.limit, sample.cap);
            assert_eq!(told, (1, limit, cap), "{threshold:?}");
        }
    }
}

#[test]
fn p14_the_cap_of_a_sample_is_that_of_the_lowest_ratio_that_the_request_has_passed() {
    let controller = Recorded::new();
    let shed = |ratio| LoadShed::ratio(ratio).budget(&controller.budget);
    let observe = LoadShed::observe().budget(&controller.budget);
    let exempt = LoadShed::observe()
        .budget(&controller.budget)
        .threshold(|_| Threshold::EXEMPT);
    let inner = holding;
    assert_eq!(
        caps(&controller, observe.layer(shed(0.85).layer(inner()))),
        [85]
    );
    assert_eq!(
        caps(&controller, shed(0.5).layer(shed(0.85).layer(inner()))),
        [50]
    );
    let three = observe.layer(shed(0.9).layer(shed(0.3).layer(inner())));
    assert_eq!(caps(&controller, three), [30]);
    assert_eq!(
        caps(&controller, shed(0.5).layer(exempt.layer(inner()))),
        [50]
    );

    // The inner layer decides after `call`.
    let route = shed(0.85).layer(inner());
    let app = service_fn(move |request| {
        let mut route = route.clone();
        async move {
            tokio::task::yield_now().await;
            route.call(request).await
        }
    });
    let mut app = observe.layer(app);
    drop(run(app.call(get("/"))));
    assert_eq!(controller.caps(), [85]);

    // The limit changes between the layers: the sample has the limit of the outer decision.
    let (route, budget) = (shed(0.85).layer(inner()), controller.budget.clone());
    let app = service_fn(move |request| {
        budget.set_limit(10).unwrap();
        budget.resume_learning();
        route.clone().call(request)
    });
    assert_eq!(caps(&controller, observe.layer(app)), [85]);
}

fn caps<S: Service<Req, Error: Debug>>(controller: &Recorded, mut service: S) -> Vec<usize> {
    drop(answer(&mut service, get("/")));
    controller.caps()
}
