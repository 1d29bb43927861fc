//! The demo in this process, without a browser. `tests/demo_page/run` checks its page.

#[allow(dead_code, reason = "its main and its page are left out")]
#[path = "../examples/demo/main.rs"]
mod demo;

use std::time::Duration;

use self::demo::Args;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_runs_its_three_phases_to_the_end() {
    let stage = demo::Stage::start().unwrap();

    let summary = demo::tell(&stage, Duration::from_secs(6)).await;

    // The goodput of each side depends on the machine; the offered load does not.
    let summary = summary.unwrap().to_string();
    for side in ["without", "LoadShed"] {
        let offered = |phase| {
            let of_side = |line: &&str| line.starts_with(phase) && line.contains(side);
            let (before, _) = summary.lines().find(of_side)?.split_once("/s")?;
            before.split_whitespace().last()?.parse::<f64>().ok()
        };
        let [normal, overload, recovery] = ["normal  ", "overload  ", "recovery  "].map(offered);
        assert!(
            recovery.is_some() && normal < overload,
            "{side}:\n{summary}"
        );
        assert!(normal > Some(20.0), "{side}:\n{summary}");
    }
}

#[test]
fn an_invalid_flag_of_the_demo_is_an_error_that_says_what_is_allowed() {
    let parse = |line: &str| Args::parse(line.split_whitespace().map(String::from));

    assert_eq!(parse(""), Ok(Args::Page { port: 3000 }));
    let duration = Duration::from_secs(9);
    let short = Args::Headless { duration };
    assert_eq!(parse("--headless --seconds=9"), Ok(short));

    for (line, expected) in [
        (
            "--port 99999",
            "invalid --port 99999: must be a whole number from 0 to 65535",
        ),
        (
            "--port",
            "--port without a value: must be a whole number from 0 to 65535",
        ),
        (
            "--headless --seconds 5",
            "invalid --seconds 5: must be a whole number from 6 to 3600",
        ),
        ("--seconds 9", "--seconds needs --headless"),
        ("--headless --port 3000", "--headless, which has no page"),
        ("--loud", "unknown flag --loud"),
    ] {
        let error = parse(line).unwrap_err();
        assert!(error.contains(expected), "{line}: {error}");
    }
}
