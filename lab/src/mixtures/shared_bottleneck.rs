//! Several kinds on one pool or on one shared processor.

use std::time::Duration;

use super::parts::{AS_ORACLE, MILLI, Scale, UNREFUSED, absent, idle, limited};
use crate::{
    criterion::Criterion,
    scenario::{
        kind::Kind,
        phase::{Conditions, Phase},
        scenario::Scenario,
        server::{Server, Station, Times},
    },
    size::Size,
};

/// For kinds 10 × and more apart on a shared processor whose work goes on: as far as it gets. The phase after the overload
/// shows that the state is not stuck.
const FAR_APART: Criterion = Criterion::Score {
    mean: 0.45,
    worst: 0.0,
};

/// For kinds 100 × apart on four workers: the longest has some 50 calls on each seed.
const FEW_CALLS: Criterion = Criterion::Score {
    mean: 0.95,
    worst: 0.7,
};

/// For a rare kind under overload: a handful of calls on each seed.
const RARE: Criterion = Criterion::Score {
    mean: 0.5,
    worst: 0.0,
};

/// Kinds that share workers.
#[derive(Clone, Copy, Debug)]
struct Sharing {
    station: Station,
    kinds: usize,
    /// The service time of the slowest kind ÷ that of the quickest.
    apart: f64,
    size: Size,
}

pub(super) fn scenarios(scale: &Scale) -> Vec<Scenario> {
    let mut all = Vec::new();
    for station in [Station::Pool, Station::Shared { thrash: 0.0 }] {
        for kinds in [2, 8] {
            for apart in [1.0, 10.0, 100.0] {
                let sharing = Sharing {
                    station,
                    kinds,
                    apart,
                    size: scale.size,
                };
                all.extend([
                    sharing.one_floods(scale),
                    sharing.all_flood(scale),
                    sharing.one_appears(scale),
                ]);
            }
        }
    }
    if scale.size == Size::Tiny {
        all.push(rare(scale));
    }
    all.push(three_hundred(scale));
    all
}

/// Returns the service time of the `nth` of these kinds: equal steps of its logarithm.
fn service(nth: usize, kinds: usize, apart: f64) -> Duration {
    let quickest = match apart {
        100.0.. => 2.0,
        10.0.. => 10.0,
        _ => 20.0,
    };
    let millis = quickest * apart.powf(nth as f64 / (kinds - 1) as f64);
    Duration::from_secs_f64(millis / 1e3)
}

impl Sharing {
    fn kinds(self, scale: &Scale, name: impl Fn(usize) -> &'static str) -> Vec<Kind> {
        let kind = |nth| {
            let service = service(nth, self.kinds, self.apart);
            let server = Server {
                station: self.station,
                ..Server::pool(scale.workers, service, Times::Exponential)
            };
            let kind = Kind::new(name(nth), server).at(format!("/kind/{nth}"));
            if nth == 0 { kind } else { kind.sharing(0) }
        };
        (0..self.kinds).map(kind).collect()
    }

    fn name(self, what: &str) -> String {
        let Self { kinds, apart, .. } = self;
        let station = match self.station {
            Station::Pool => "pool",
            _ => "processor",
        };
        format!("shared bottleneck ({station}), {kinds} kinds {apart} × apart, {what}")
    }

    /// Returns conditions under overload.
    fn over(self, load: f64) -> Conditions {
        Conditions::at(load).must(match self.station {
            Station::Shared { .. } if self.apart >= 10.0 => FAR_APART,
            _ if self.apart >= 100.0 && self.size == Size::Tiny => FEW_CALLS,
            _ => AS_ORACLE,
        })
    }

    /// Returns a phase in which all kinds have the same share of this load.
    fn even(self, name: &str, seconds: f64, load: f64) -> Phase {
        let each = load / self.kinds as f64;
        let conditions = match name {
            "before" => idle(each),
            "after" => limited(each),
            _ => self.over(each),
        };
        Phase::of(name, seconds, vec![conditions; self.kinds])
    }

    /// Returns the name of a kind, where all are alike.
    fn role(self) -> impl Fn(usize) -> &'static str {
        move |nth| match self.apart {
            1.0 => "all",
            _ if nth < self.kinds / 2 => "shorter half",
            _ => "longer half",
        }
    }

    fn one_floods(self, scale: &Scale) -> Scenario {
        let kinds = self.kinds(scale, |nth| if nth == 0 { "floods" } else { "others" });
        let mut flood = self.even("flood", scale.long, 0.5);
        for conditions in &mut flood.kinds {
            *conditions = self.over(0.5 / self.kinds as f64);
        }
        flood.kinds[0] = self.over(3.0);
        Scenario::of(self.name("one floods"), kinds)
            .then(self.even("before", scale.brief, 0.5))
            .then(flood)
            .then(self.even("after", scale.brief, 0.5))
    }

    fn all_flood(self, scale: &Scale) -> Scenario {
        Scenario::of(self.name("all flood"), self.kinds(scale, self.role()))
            .then(self.even("before", scale.brief, 0.5))
            .then(self.even("flood", scale.long, 3.0))
            .then(self.even("after", scale.brief, 0.5))
    }

    fn one_appears(self, scale: &Scale) -> Scenario {
        let last = self.kinds - 1;
        let kinds = self.kinds(scale, |nth| if nth == last { "appears" } else { "others" });
        let each = self.over(1.5 / last as f64);
        let phase = |name, seconds, appears| {
            let mut kinds = vec![each; self.kinds];
            kinds[last] = appears;
            Phase::of(name, seconds, kinds)
        };
        Scenario::of(self.name("one appears"), kinds)
            .then(phase("over", scale.brief, absent()))
            .then(phase("appears", scale.long, self.over(1.0)))
            .then(self.even("after", scale.brief, 0.5))
    }
}

/// One call a minute beside a kind that is overloaded for ten minutes.
fn rare(scale: &Scale) -> Scenario {
    let usual = Kind::new("usual", scale.pool(20 * MILLI)).at("/usual");
    let mut rare = Kind::new("rare", scale.pool(20 * MILLI))
        .at("/rare")
        .sharing(0);
    rare.unit = 1.0 / 60.0;
    let seconds = 10.0 * scale.long;
    Scenario::of("shared bottleneck, a rare kind", [usual, rare])
        .then(Phase::of("before", seconds / 2.0, [idle(0.5), idle(1.0)]))
        .then(Phase::of(
            "over",
            seconds,
            [
                Conditions::at(3.0).must(AS_ORACLE),
                Conditions::at(1.0).must(RARE),
            ],
        ))
}

/// 300 kinds, 10 × apart, with equal shares of the load.
fn three_hundred(scale: &Scale) -> Scenario {
    const KINDS: usize = 300;
    let sharing = Sharing {
        station: Station::Pool,
        kinds: KINDS,
        apart: 10.0,
        size: scale.size,
    };
    let kinds = sharing.kinds(scale, |_| "all");
    let phase = |name, seconds, load: f64, criterion| {
        let each = Conditions::at(load / KINDS as f64).must(criterion);
        Phase::of(name, seconds, vec![each; KINDS])
    };
    Scenario::of("shared bottleneck, 300 kinds", kinds)
        .then(phase("before", scale.brief, 0.5, UNREFUSED))
        .then(phase("flood", scale.long, 3.0, AS_ORACLE))
        .then(phase("after", scale.brief, 0.5, AS_ORACLE))
}
