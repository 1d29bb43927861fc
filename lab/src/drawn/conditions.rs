//! A load curve and a fault, drawn at random.

use std::time::Duration;

use crate::{
    random::Random,
    scenario::{
        load::Load,
        phase::{Conditions, Disturbance},
        server::Server,
    },
};

/// The load of the phase in which something happens, in units of the capacity.
pub(super) struct Curve {
    pub(super) name: String,
    pub(super) load: Load,
}

/// Draws the load: steady below or above the capacity, a day with a peak over the capacity, bursts, or instances that are added
/// and removed.
pub(super) fn curve(random: &mut Random, seconds: f64) -> Curve {
    let time = Duration::from_secs_f64;
    let (below, above) = (random.between(0.3, 0.85), random.between(1.1, 8.0));
    let lasts = random.between(0.2, 1.0);
    let (name, load) = match random.uniform() {
        x if x < 0.3 => (format!("{below:.2} ×"), Load::Steady(below)),
        x if x < 0.6 => (format!("{above:.1} ×"), Load::Steady(above)),
        x if x < 0.75 => (
            format!("a day up to {:.1} ×", above.min(3.0)),
            Load::Wave {
                low: 0.2,
                high: above.min(3.0),
                period: time(seconds),
            },
        ),
        x if x < 0.85 => (
            format!("bursts of {above:.1} × for {lasts:.1} s"),
            Load::Bursts {
                base: 0.3,
                peak: above,
                lasts: time(lasts),
                every: time(5.0),
            },
        ),
        x if x < 0.925 => (
            format!("instances added from {:.1} ×", above.min(3.0)),
            Load::Ramp {
                from: above.min(3.0),
                to: below,
                within: time(seconds / 2.0),
            },
        ),
        _ => (
            format!("instances removed up to {:.1} ×", above.min(3.0)),
            Load::Ramp {
                from: below,
                to: above.min(3.0),
                within: time(seconds / 2.0),
            },
        ),
    };
    Curve { name, load }
}

/// Draws a fault, applies it to the conditions, and returns its name.
pub(super) fn fault(random: &mut Random, conditions: &mut Conditions, server: &Server) -> String {
    let time = Duration::from_secs_f64;
    let (pause, share) = (random.between(0.3, 2.0), random.uniform());
    let (factor, errors) = (random.between(3.0, 12.0), random.between(0.1, 0.9));
    match random.uniform() {
        x if x < 0.2 => "no fault".to_owned(),
        x if x < 0.32 => {
            conditions.disturbance = Some(Disturbance {
                lasts: time(pause),
                every: time(10.0),
                workers: 0.0,
            });
            format!("pauses of {pause:.1} s")
        }
        x if x < 0.44 => {
            let left = 0.3 + 0.4 * share;
            conditions.disturbance = Some(Disturbance {
                lasts: time(2.0 * pause),
                every: time(8.0),
                workers: left,
            });
            format!("a noisy neighbour leaves {left:.1}")
        }
        x if x < 0.56 => {
            conditions.service = (factor, 1.0);
            format!("a cache of {factor:.0} × is lost")
        }
        x if x < 0.66 => {
            conditions.hanging = 0.5;
            "half of the calls hang".to_owned()
        }
        x if x < 0.74 => {
            conditions.hanging = 0.05 + 0.25 * share;
            format!("{:.0} % hang", conditions.hanging * 100.0)
        }
        x if x < 0.86 => {
            conditions.failing = errors;
            format!("{:.0} % errors", errors * 100.0)
        }
        x if x < 0.93 && server.dependency.is_some() => {
            conditions.slowdown = (factor, factor);
            format!("a dependency {factor:.0} × slower")
        }
        _ => {
            conditions.workers = 0.25 + 0.5 * share;
            format!("{:.2} of the workers", conditions.workers)
        }
    }
}
