//! The class that a header claims.

use http::HeaderName;
use loadshed::{
    Budget,
    Criticality::{self, CriticalPlus, Sheddable, SheddablePlus},
    LoadShed,
};
use tower::Layer;

use crate::{
    ALL, shed_of,
    support::{all, answer, get, holding},
};

pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-criticality");

/// The class that `believed` and the headers come to.
fn by_header(believed: Criticality, claims: &[&str]) -> Criticality {
    let mut request = get("/");
    for claim in claims {
        request.headers_mut().append(HEADER, claim.parse().unwrap());
    }
    let budget = Budget::fixed(1);
    let _held = budget.try_acquire(all()).unwrap();
    let shed = LoadShed::ratio(0.5)
        .budget(&budget)
        .classify_by_header(HEADER, move |_| believed);
    shed_of(&answer(&mut shed.layer(holding()), request)).criticality()
}

#[test]
fn a_header_is_believed_up_to_what_the_caller_is_allowed() {
    for believed in ALL {
        for claimed in ALL {
            let class = by_header(believed, &[&claimed.to_string()]);
            assert_eq!(class, claimed.min(believed));
        }
    }
    for nothing in [
        &[][..],
        &[""],
        &["critical"],
        &["CRITICAL,CRITICAL"],
        &["4"],
    ] {
        assert_eq!(by_header(CriticalPlus, nothing), Sheddable, "{nothing:?}");
    }
    // A proxy that adds its own is not outbid by the caller.
    assert_eq!(
        by_header(CriticalPlus, &["CRITICAL_PLUS", "SHEDDABLE_PLUS"]),
        SheddablePlus
    );
    assert_eq!(
        by_header(CriticalPlus, &["CRITICAL", "none of them"]),
        Sheddable
    );
}

#[test]
fn a_class_is_read_as_it_is_written() {
    for class in ALL {
        assert_eq!(class.to_string().parse(), Ok(class));
        assert_eq!(format!("{class:>14}").trim_start(), class.to_string());
    }
    let told = "critical".parse::<Criticality>().unwrap_err().to_string();
    let expected = "invalid criticality \"critical\": must be SHEDDABLE, SHEDDABLE_PLUS, CRITICAL or CRITICAL_PLUS";
    assert_eq!(told, expected);
    assert!(ALL.is_sorted());
}
