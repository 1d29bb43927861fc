//! All interleavings of requests that enter and leave their tenant's cells, under loom:
//! `RUSTFLAGS="--cfg loadshed_loom" cargo test --lib loom`.

use loom::{sync::Arc, thread};

use super::{Shares, Tenant, store};

/// With two units held, where half of one is the tenant's part: a third may go half of the way, and a fourth must not.
fn shares() -> (Arc<Shares>, Tenant) {
    let (shares, tenant) = (Shares::new(), Tenant::of(&7));
    store(&shares.part, 0.5);
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
        assert_eq!(own.min(other), 0.0, "both came through");
        assert!(own.max(other) <= 0.5);
    });
}

#[test]
fn loom_p03_what_enters_leaves_and_nothing_is_left() {
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
