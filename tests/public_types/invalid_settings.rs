//! The error of an invalid setting: what was given, what is allowed, and at which call.

use std::{
    cell::{Cell, RefCell},
    fmt::Debug,
    ops::RangeInclusive,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Duration,
};

use http::StatusCode;
use loadshed::{
    Adaptive, Budget, Criticality, InvalidSetting, LoadShed, RefusedUpload, RetryAfter, Threshold,
};

use crate::support::FnController;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
    static PANICKED: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Returns the text of the panic and the file that its location names.
fn panic_of<T>(run: impl FnOnce() -> T) -> (String, String) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !EXPECTED.get() {
                return usual(info);
            }
            let text = info.payload().downcast_ref::<String>().cloned();
            let file = info.location().map(|location| location.file().to_owned());
            PANICKED.set(text.zip(file));
        }));
    });
    EXPECTED.set(true);
    let panicked = panic::catch_unwind(AssertUnwindSafe(run)).is_err();
    EXPECTED.set(false);
    assert!(panicked, "an invalid setting panics");
    PANICKED.take().expect("a text and a location")
}

fn error_of<T: Debug>(checked: Result<T, InvalidSetting>) -> String {
    checked.unwrap_err().to_string()
}

#[test]
fn an_invalid_setting_panics_at_its_call_with_what_was_given_and_what_is_allowed() {
    let too_long = Duration::from_secs(1 << 32);
    let a_little_too_long = Duration::new(u64::from(u32::MAX), 1);
    let adaptive = Adaptive::default;
    let bounds = RefusedUpload::default;
    let second = Duration::from_secs(1);
    let watching = || LoadShed::ratio(0.85).watch_uploads(axum::body::Body::new);
    let narrow = || adaptive().max(20).initial(15).min(10);
    let controller = |limits: RangeInclusive<usize>, initial| {
        FnController::new(limits, initial, |window| window.limit)
    };
    let backwards = || RangeInclusive::new(9, 3);
    let ratio = "greater than 0 and at most 1";
    let path = "a path that begins with /, alone or after a method in capital letters";
    let limit = "from 1 to 2147483647";
    let hint = "greater than 0 and at most 4294967295 seconds";
    let status = "a client error or a server error, 400 to 599";
    let some = "at least 1; RefusedUpload::none() reads nothing";
    let range = "a range within 1 to 2147483647";
    let cases: Vec<(_, String, String)> = vec![
        (
            panic_of(|| LoadShed::ratio(f64::NAN)),
            error_of(LoadShed::try_ratio(f64::NAN)),
            format!("invalid ratio NaN: must be {ratio}"),
        ),
        (
            panic_of(|| LoadShed::ratio(0.0)),
            error_of(LoadShed::try_ratio(0.0)),
            format!("invalid ratio 0: must be {ratio}"),
        ),
        (
            panic_of(|| LoadShed::ratio(1.5)),
            error_of(LoadShed::try_ratio(1.5)),
            format!("invalid ratio 1.5: must be {ratio}"),
        ),
        (
            panic_of(|| LoadShed::ratio(-0.85)),
            error_of(LoadShed::try_ratio(-0.85)),
            format!("invalid ratio -0.85: must be {ratio}"),
        ),
        (
            panic_of(|| Threshold::ratio(85.0)),
            error_of(Threshold::try_ratio(85.0)),
            format!("invalid ratio 85: must be {ratio}"),
        ),
        (
            panic_of(|| Budget::fixed(0)),
            error_of(Budget::try_fixed(0)),
            format!("invalid limit 0: must be {limit}"),
        ),
        (
            panic_of(|| Budget::fixed(1 << 31)),
            error_of(Budget::try_fixed(1 << 31)),
            format!("invalid limit 2147483648: must be {limit}"),
        ),
        (
            panic_of(|| RetryAfter::fixed(Duration::ZERO)),
            error_of(RetryAfter::try_fixed(Duration::ZERO)),
            format!("invalid retry after 0ns: must be {hint}"),
        ),
        (
            panic_of(|| RetryAfter::fixed(too_long)),
            error_of(RetryAfter::try_fixed(too_long)),
            format!("invalid retry after 4294967296s: must be {hint}"),
        ),
        (
            panic_of(|| RetryAfter::fixed(a_little_too_long)),
            error_of(RetryAfter::try_fixed(a_little_too_long)),
            format!("invalid retry after 4294967295.000000001s: must be {hint}"),
        ),
        (
            panic_of(|| LoadShed::ratio(1.0).status(StatusCode::OK)),
            error_of(LoadShed::ratio(1.0).try_status(StatusCode::OK)),
            format!("invalid status 200: must be {status}"),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).only(["mail"])),
            error_of(LoadShed::ratio(0.85).try_only(["mail"])),
            format!("invalid route \"mail\": must be {path}"),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).except(["get /"])),
            error_of(LoadShed::ratio(0.85).try_except(["get /"])),
            format!("invalid route \"get /\": must be {path}"),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).only(["/a/{x}"]).at("/a/{*rest}", 0.5)),
            error_of(
                LoadShed::ratio(0.85)
                    .only(["/a/{x}"])
                    .try_at("/a/{*rest}", 0.5),
            ),
            r#"invalid route "/a/{*rest}": must be one that does not conflict with "/a/{x}""#
                .into(),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).at("/a", 50.0)),
            error_of(LoadShed::ratio(0.85).try_at("/a", 50.0)),
            format!("invalid ratio 50: must be {ratio}"),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).except(["/a"]).exempt(["/a"])),
            error_of(LoadShed::ratio(0.85).except(["/a"]).try_exempt(["/a"])),
            "invalid route \"/a\", exempt: must be given one meaning: this route is opted out"
                .into(),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).class_ratios([(Criticality::Critical, 0.8)])),
            error_of(LoadShed::ratio(0.85).try_class_ratios([(Criticality::Critical, 0.8)])),
            "invalid class ratios CRITICAL at 0.8: must be in class order, and SHEDDABLE_PLUS \
             would be at 0.9, CRITICAL at 0.8"
                .into(),
        ),
        (
            panic_of(|| bounds().max_bytes(0)),
            error_of(bounds().try_max_bytes(0)),
            format!("invalid max bytes of a refused upload 0: must be {some}"),
        ),
        (
            panic_of(|| bounds().max_concurrent(0)),
            error_of(bounds().try_max_concurrent(0)),
            format!("invalid max concurrent refused uploads 0: must be {some}"),
        ),
        (
            panic_of(|| bounds().min_rate(0)),
            error_of(bounds().try_min_rate(0)),
            "invalid min rate of a refused upload 0: must be at least 1 byte per second".into(),
        ),
        (
            panic_of(|| bounds().timeout(Duration::ZERO)),
            error_of(bounds().try_timeout(Duration::ZERO)),
            format!("invalid timeout of a refused upload 0ns: must be {hint}"),
        ),
        (
            panic_of(|| bounds().idle_timeout(too_long)),
            error_of(bounds().try_idle_timeout(too_long)),
            format!("invalid idle timeout of a refused upload 4294967296s: must be {hint}"),
        ),
        (
            panic_of(|| watching().min_upload_rate(0, second)),
            error_of(watching().try_min_upload_rate(0, second)),
            "invalid min upload rate 0: must be from 1 to 4294967295 bytes a second".into(),
        ),
        (
            panic_of(|| watching().min_upload_rate(1 << 32, second)),
            error_of(watching().try_min_upload_rate(1 << 32, second)),
            "invalid min upload rate 4294967296: must be from 1 to 4294967295 bytes a second"
                .into(),
        ),
        (
            panic_of(|| watching().min_upload_rate(240, second / 2)),
            error_of(watching().try_min_upload_rate(240, second / 2)),
            "invalid grace of the min upload rate 500ms: must be from 1s to 3600s".into(),
        ),
        (
            panic_of(|| watching().min_upload_rate(240, second * 3_601)),
            error_of(watching().try_min_upload_rate(240, second * 3_601)),
            "invalid grace of the min upload rate 3601s: must be from 1s to 3600s".into(),
        ),
        (
            panic_of(|| LoadShed::ratio(0.85).min_upload_rate(240, second)),
            error_of(LoadShed::ratio(0.85).try_min_upload_rate(240, second)),
            "invalid order of calls `min_upload_rate`: must be set after `watch_uploads`: only \
             watched uploads have a rate"
                .into(),
        ),
        (
            panic_of(|| adaptive().min(0)),
            error_of(adaptive().try_min(0)),
            format!("invalid min 0: must be {limit}"),
        ),
        (
            panic_of(|| adaptive().initial(0)),
            error_of(adaptive().try_initial(0)),
            format!("invalid initial limit 0: must be {limit}"),
        ),
        (
            panic_of(|| adaptive().max(1 << 31)),
            error_of(adaptive().try_max(1 << 31)),
            format!("invalid max 2147483648: must be {limit}"),
        ),
        (
            panic_of(|| Budget::new(adaptive().min(16).max(15))),
            error_of(Budget::try_new(adaptive().min(16).max(15))),
            format!("invalid range of limits 16 to 15: must be {range}"),
        ),
        (
            panic_of(|| Budget::new(narrow().initial(9))),
            error_of(Budget::try_new(narrow().initial(9))),
            "invalid initial limit 9: must be from 10 to 20, the smallest and the largest limit"
                .into(),
        ),
        (
            panic_of(|| Budget::new(narrow().initial(21))),
            error_of(Budget::try_new(narrow().initial(21))),
            "invalid initial limit 21: must be from 10 to 20, the smallest and the largest limit"
                .into(),
        ),
        (
            panic_of(|| Budget::new(controller(0..=9, 5))),
            error_of(Budget::try_new(controller(0..=9, 5))),
            format!("invalid range of limits 0 to 9: must be {range}"),
        ),
        (
            panic_of(|| Budget::new(controller(backwards(), 5))),
            error_of(Budget::try_new(controller(backwards(), 5))),
            format!("invalid range of limits 9 to 3: must be {range}"),
        ),
        (
            panic_of(|| Budget::new(controller(1..=1 << 31, 5))),
            error_of(Budget::try_new(controller(1..=1 << 31, 5))),
            format!("invalid range of limits 1 to 2147483648: must be {range}"),
        ),
        (
            panic_of(|| Budget::new(controller(2..=9, 1))),
            error_of(Budget::try_new(controller(2..=9, 1))),
            "invalid initial limit 1: must be from 2 to 9, the smallest and the largest limit"
                .into(),
        ),
    ];
    for ((text, file), twin, expected) in cases {
        assert_eq!(text, expected);
        assert_eq!(twin, expected);
        assert_eq!(file, file!(), "{expected}: the location is the caller's");
    }
}

#[test]
fn a_second_name_panics_at_its_call_with_both_names() {
    let budget = Budget::fixed(1).named("mail");
    let again = budget.clone();
    let (text, file) = panic_of(|| again.named("export"));
    assert_eq!(
        text,
        "invalid name \"export\": must be given once: this budget is named \"mail\" already"
    );
    assert_eq!(file, file!());
    assert_eq!(budget.name(), Some("mail"));
    let layer = LoadShed::ratio(0.85).named("mail");
    let (text, file) = panic_of(|| layer.named("export"));
    assert_eq!(
        text,
        "invalid name \"export\": must be given once: this layer is named \"mail\" already"
    );
    assert_eq!(file, file!());
}

#[test]
fn a_setter_after_the_handle_is_an_error_at_that_call() {
    type Setter = fn(LoadShed) -> LoadShed;
    let setters: [(&str, Setter); 6] = [
        ("budget", |shed| shed.budget(Budget::fixed(1))),
        ("named", |shed| shed.named("mail")),
        ("watch_uploads", |shed| {
            shed.watch_uploads(axum::body::Body::new)
        }),
        ("dry_run", |shed| shed.dry_run(true)),
        ("only", |shed| shed.only(["/"])),
        ("try_ratio", |shed| shed.try_class_ratios([]).unwrap()),
    ];
    for (name, setter) in setters {
        let shed = LoadShed::ratio(0.85);
        let handle = shed.handle();
        let clone = shed.clone();
        for value in [shed, clone] {
            let (text, file) = panic_of(|| setter(value));
            assert!(
                text.starts_with(
                    "invalid order of calls: `handle` must be called after all settings"
                ),
                "{name}: {text}"
            );
            assert_eq!(file, file!(), "{name}");
        }
        assert!(handle.set_ratio(0.5).is_ok());
    }
}

#[test]
fn the_extreme_valid_values_of_a_setting_are_allowed() {
    for ratio in [f64::MIN_POSITIVE, 1e-300, 0.5, 1.0 - f64::EPSILON, 1.0] {
        assert!(LoadShed::try_ratio(ratio).is_ok() && Threshold::try_ratio(ratio).is_ok());
    }
    assert_eq!(
        Budget::try_fixed((1 << 31) - 1).unwrap().limit(),
        (1 << 31) - 1
    );
    assert!(RetryAfter::try_fixed(Duration::from_secs(u64::from(u32::MAX))).is_ok());
    assert!(RetryAfter::try_fixed(Duration::from_nanos(1)).is_ok());
    let longest = Duration::from_secs(u64::from(u32::MAX));
    let bounds = RefusedUpload::default().try_max_bytes(1).unwrap();
    let bounds = bounds.try_max_bytes(usize::MAX).unwrap();
    let bounds = bounds.try_min_rate(1).unwrap();
    let bounds = bounds.try_min_rate(usize::MAX).unwrap();
    let bounds = bounds.try_max_concurrent(1).unwrap();
    let bounds = bounds.try_max_concurrent(usize::MAX).unwrap();
    let bounds = bounds.try_timeout(Duration::from_nanos(1)).unwrap();
    let bounds = bounds.try_timeout(longest).unwrap();
    assert!(bounds.try_idle_timeout(longest).is_ok());
    assert!(
        LoadShed::ratio(1.0)
            .try_status(StatusCode::BAD_REQUEST)
            .is_ok()
    );
    let watching = LoadShed::ratio(1.0).watch_uploads(axum::body::Body::new);
    for (rate, grace) in [(1, 1), (u64::from(u32::MAX), 3_600)] {
        let shed = watching.clone();
        assert!(
            shed.try_min_upload_rate(rate, Duration::from_secs(grace))
                .is_ok()
        );
    }
    let one = Adaptive::default().max(7).initial(7).min(7);
    assert_eq!(Budget::new(one).limit(), 7);
    assert_eq!(
        Budget::try_new(FnController::new(1..=(1 << 31) - 1, 1, |_| 1))
            .unwrap()
            .limit(),
        1
    );
}
