//! Settings that are read from a file, here in TOML.

use std::time::Duration;

use loadshed::{Adaptive, Budget, LatencyTarget, RefusedUpload};
use serde::{Deserialize, de::DeserializeOwned};

#[derive(Debug, Deserialize)]
struct Config {
    refused_upload: RefusedUpload,
}

#[track_caller]
fn assert_error<T: DeserializeOwned>(file: &str, expected: &str) {
    let error = toml::from_str::<T>(file).err().expect("an error");
    assert!(error.message().contains(expected), "{error}");
}

fn refused_upload(value: &str) -> RefusedUpload {
    let config: Config = toml::from_str(&format!("refused_upload = {value}")).unwrap();
    config.refused_upload
}

#[test]
fn absent_bounds_of_refused_uploads_have_their_defaults() {
    assert_eq!(refused_upload("{}"), RefusedUpload::default());
    assert_eq!(
        refused_upload("{ timeout = 0.5, min_rate = 1000, max_concurrent = 3 }"),
        RefusedUpload::default()
            .timeout(Duration::from_millis(500))
            .min_rate(1_000)
            .max_concurrent(3)
    );
    assert_eq!(refused_upload("'none'"), RefusedUpload::none());
    // Files are not the only source, and other formats have other deserializers.
    let json = serde_json::json!({ "max_bytes": 10, "idle_timeout": 1 });
    assert_eq!(
        serde_json::from_value::<RefusedUpload>(json).unwrap(),
        RefusedUpload::default()
            .max_bytes(10)
            .idle_timeout(Duration::from_secs(1))
    );
}

#[test]
fn bounds_of_refused_uploads_out_of_range_are_errors_that_say_what_is_allowed() {
    for (file, expected) in [
        (
            "max_bytes = 0",
            "invalid max bytes of a refused upload 0: must be at least 1",
        ),
        (
            "timeout = 0.0",
            "invalid timeout of a refused upload 0ns: must be greater than 0",
        ),
        (
            "timeout = -1.5",
            "invalid timeout of a refused upload -1.5 s: must be greater than 0",
        ),
        (
            "idle_timeout = nan",
            "invalid idle timeout of a refused upload NaN s: must be greater than 0",
        ),
        (
            "max_concurrent = 0",
            "invalid max concurrent refused uploads 0: must be at least 1",
        ),
        (
            "min_rate = 0",
            "invalid min rate of a refused upload 0: must be at least 1 byte per second",
        ),
        ("max_byte = 1", "unknown field `max_byte`"),
    ] {
        assert_error::<RefusedUpload>(file, expected);
    }
    assert_error::<Config>(
        "refused_upload = 'all'",
        "the bounds of refused uploads, or \"none\"",
    );
}

fn limits<T: DeserializeOwned + loadshed::control::Controller>(
    file: &str,
) -> (usize, usize, usize) {
    let controller: T = toml::from_str(file).unwrap();
    let (min, max) = controller.limits().into_inner();
    (controller.initial_limit(), min, max)
}

#[test]
fn limits_of_a_controller_are_read_in_any_order() {
    assert_eq!(limits::<Adaptive>(""), (65_536, 1, 65_536));
    assert_eq!(
        limits::<Adaptive>("initial = 80000\nmin = 70000\nmax = 90000"),
        (80_000, 70_000, 90_000)
    );
    assert_eq!(
        limits::<LatencyTarget>("target = 1\nmin = 8\nmax = 100"),
        (100, 8, 100)
    );
    let controller: LatencyTarget = toml::from_str("target = 0.25\npercentile = 0.95").unwrap();
    let expected = LatencyTarget::new(Duration::from_millis(250)).percentile(0.95);
    assert_eq!(format!("{controller:?}"), format!("{expected:?}"));
    assert_eq!(Budget::new(controller).limit(), 65_536);
}

#[test]
fn settings_of_a_controller_out_of_range_are_errors_that_say_what_is_allowed() {
    for (file, expected) in [
        ("min = 0", "invalid min 0: must be from 1 to 2147483647"),
        ("max = 0", "invalid max 0: must be from 1 to 2147483647"),
        (
            "min = 9\nmax = 8",
            "invalid range of limits 9 to 8: must be a range within 1 to",
        ),
        (
            "initial = 9\nmax = 8",
            "invalid initial limit 9: must be from 1 to 8",
        ),
        ("limit = 9", "unknown field `limit`"),
    ] {
        assert_error::<Adaptive>(file, expected);
        assert_error::<LatencyTarget>(&format!("target = 1\n{file}"), expected);
    }
    for (file, expected) in [
        ("min = 1", "missing field `target`"),
        ("target = 0", "invalid target 0 s: must be greater than 0 s"),
        (
            "target = -1",
            "invalid target -1 s: must be greater than 0 s",
        ),
        (
            "target = 1\npercentile = 1.0",
            "invalid percentile 1: must be from 0.5 to 0.99",
        ),
    ] {
        assert_error::<LatencyTarget>(file, expected);
    }
}
