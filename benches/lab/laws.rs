//! The laws that are compared.

use std::time::Duration;

use loadshed::{
    Adaptive, Aimd, Gradient2, Vegas,
    lab::{Law, controls},
};

/// The crate's own first, then the published ones, then those that must fail.
pub(crate) fn all() -> Vec<Law> {
    let mut laws = vec![
        Law::of("adaptive", Adaptive::default(), Adaptive::initial),
        Law::of("aimd", Aimd::default(), Aimd::initial),
        // Their default, 5 s, is longer than anybody waits here.
        Law::of(
            "aimd 1 s",
            Aimd::default().timeout(Duration::from_secs(1)),
            Aimd::initial,
        ),
        Law::of("vegas", Vegas::default(), Vegas::initial),
        Law::of("gradient2", Gradient2::default(), Gradient2::initial),
    ];
    laws.extend(controls());
    laws
}
