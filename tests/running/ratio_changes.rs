//! Ratios of classes and of routes, changed while running.

use loadshed::{
    Budget,
    Criticality::{Critical, CriticalPlus, Sheddable, SheddablePlus},
    LoadShed,
};
use tower::Layer;

use crate::support::{answer, get, holding, is_refused};

/// How many of 100 are admitted to a path, if nothing else comes.
fn room(shed: &LoadShed, path: &str) -> usize {
    let mut service = shed.layer(holding());
    let running = Vec::from_iter((0..100).map(|_| answer(&mut service, get(path))));
    running.iter().filter(|it| !is_refused(it)).count()
}

fn by_path(shed: LoadShed) -> LoadShed {
    shed.classify(|head| head.uri().path()[1..].parse().unwrap())
}

#[test]
fn p24_classes_stop_where_they_are_told_to_while_running() {
    let shed = by_path(LoadShed::ratio(0.5)).budget(Budget::fixed(100));
    let handle = shed.handle();
    let rooms = || {
        [Sheddable, SheddablePlus, Critical, CriticalPlus]
            .map(|class| room(&shed, &format!("/{class}")))
    };
    assert_eq!(rooms(), [50, 66, 83, 100]);
    handle.set_class_ratios([(Critical, 0.7)]).unwrap();
    assert_eq!(rooms(), [50, 66, 70, 100]);
    handle
        .set_class_ratios([(Sheddable, 0.2), (CriticalPlus, 0.9)])
        .unwrap();
    assert_eq!(rooms(), [20, 46, 70, 90]);
    handle.set_ratio(0.4).unwrap();
    assert_eq!(rooms(), [40, 60, 70, 90]);

    for (bad, why) in [
        (
            vec![(Sheddable, 0.1), (SheddablePlus, 0.71)],
            "invalid class ratios SHEDDABLE at 0.1, SHEDDABLE_PLUS at 0.71: must be in class order, \
             and SHEDDABLE_PLUS would be at 0.71, CRITICAL at 0.7",
        ),
        (
            vec![(Sheddable, 0.1), (Critical, 0.0)],
            "invalid ratio 0: must be greater than 0 and at most 1",
        ),
    ] {
        let told = handle.set_class_ratios(bad).unwrap_err().to_string();
        assert_eq!(told, why);
        assert_eq!(rooms(), [40, 60, 70, 90], "the old ones stay, all of them");
    }
}

#[test]
fn p24_a_route_that_has_a_ratio_of_its_own_is_given_another_while_running() {
    let shed = LoadShed::ratio(0.9)
        .budget(Budget::fixed(100))
        .only(["/mail"])
        .at("/export/{*path}", 0.5)
        .at("POST /export/{*path}", 0.3);
    let handle = shed.handle();
    handle.set_at("/export/{*path}", 0.2).unwrap();
    assert_eq!(room(&shed, "/export/a/b"), 20);
    assert_eq!(room(&shed, "/mail"), 90);

    for (route, ratio, why) in [
        (
            "/mail",
            0.5,
            "invalid route \"/mail\": must be a route with a ratio of its own: [\"/export/{*path}\", \
             \"POST /export/{*path}\"]",
        ),
        (
            "/export/{*path}",
            1.5,
            "invalid ratio 1.5: must be greater than 0 and at most 1",
        ),
        (
            "export",
            0.5,
            "invalid route \"export\": must be a path that begins with /, alone or after a method in capital letters",
        ),
    ] {
        assert_eq!(handle.set_at(route, ratio).unwrap_err().to_string(), why);
    }
    assert_eq!(room(&shed, "/export/a/b"), 20, "the old one stays");
    let plain = LoadShed::ratio(0.5);
    assert!(plain.handle().set_at("/mail", 0.5).is_err());
}
