//! All interleavings of requests that enter and leave their tenant's cells, under loom:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use loom::{sync::Arc, thread};

use super::{Shares, Tenant, store};

/// Two units held by one tenant, whose fair share is half a unit: a third unit may go half of the way along the band, and a
/// fourth none of it.
fn shares() -> (Arc<Shares>, Tenant) {
    let (shares, tenant) = (Shares::new(), Tenant::of(&7));
    store(&shares.fair_share, 0.5);
    assert_eq!([1.0, 1.0], [0, 1].map(|_| shares.enter(tenant, 1, 1)));
    (Arc::new(shares), tenant)
}

#[test]
fn loom_p02_of_two_requests_of_a_tenant_one_is_judged_with_the_other_in_view() {
    loom::model(|| {
        let (shares, tenant) = shares();
        let other = {
            let shares = Arc::clone(&shares);
            thread::spawn(move || shares.enter(tenant, 1, 1))
        };
        let own = shares.enter(tenant, 1, 1);
        let other = other.join().unwrap();
        assert_eq!(own.min(other), 0.0, "both were judged alone");
        assert!(own.max(other) <= 0.5);
    });
}

#[test]
fn loom_p03_the_units_of_requests_that_have_left_are_in_no_cell() {
    loom::model(|| {
        let (shares, tenant) = shares();
        let other = {
            let shares = Arc::clone(&shares);
            thread::spawn(move || {
                shares.enter(tenant, 3, 3);
                shares.leave(tenant, 3);
            })
        };
        shares.leave(tenant, 2);
        other.join().unwrap();
        assert!(shares.is_empty());
    });
}
