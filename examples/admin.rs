//! What an operator needs: metrics to look at, and settings to change without a restart.
//!
//! - A mail service with a pool of 200. Exports may take a half; mail that a person waits for (`x-person`) nearly all.
//! - Lists of mails, under a learned limit.
//! - An admin page. In production it belongs on an address of its own, with access control.
//! - A file of settings that can be edited while the service runs.
//!
//! `tests/prometheus/run` checks it with Prometheus.
//!
//! ```text
//! cargo run --release --features metrics,serde,tracing --example admin -- target/mail.toml
//! ```
//!
//! In another terminal: the present state and the metrics, then a valid and an invalid change by request, then both by the
//! file, which is read every two seconds:
//!
//! ```text
//! curl http://127.0.0.1:3004/admin/budget
//! curl http://127.0.0.1:3004/metrics
//! curl -i -X PUT -H 'content-type: application/json' -d '{"ratio": 0.5, "limit": 100}' http://127.0.0.1:3004/admin/budget
//! curl -i -X PUT -H 'content-type: application/json' -d '{"ratio": 0.9, "limit": 0}' http://127.0.0.1:3004/admin/budget
//! echo 'limit = 150' > target/mail.toml
//! echo 'ratio = 85' > target/mail.toml
//! ```
//!
//! The first refusal of a burst writes a log line, the others write none. Ten seconds after the last refusal, the next
//! request or scrape of the metrics writes another line:
//!
//! ```text
//! curl -Z --parallel-immediate --parallel-max 300 --no-progress-meter -o /dev/null \
//!     'http://127.0.0.1:3004/mail?[1-300]'
//! ```

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use loadshed::{
    Budget, Criticality, Handle, InvalidSetting, LimitChange, LoadShed, Snapshot, Threshold,
    telemetry,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    time::{interval, sleep},
};
use tracing::{Level, info, warn};

const ADDRESS: &str = "127.0.0.1:3004";

const EXPORT: &str = "/export/{year}";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_max_level(Level::DEBUG)
        .init();
    let settings = std::env::args().nth(1).map(|path| SettingsFile {
        path: path.into(),
        every: Duration::from_secs(2),
    });
    let listener = TcpListener::bind(ADDRESS)
        .await
        .map_err(|error| format!("cannot listen on {ADDRESS}: {error}"))?;
    println!("listening on http://{ADDRESS}");
    let prometheus = prometheus()?.install_recorder()?;
    serve(
        listener,
        Budget::fixed(200).named("mail"),
        prometheus,
        settings,
    )
    .await?;
    Ok(())
}

/// The exporter writes a histogram only for metrics that have buckets; without them, a summary.
pub(crate) fn prometheus() -> Result<PrometheusBuilder, Box<dyn Error>> {
    let latency = Matcher::Full("loadshed_latency_seconds".into());
    let buckets = [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];
    Ok(PrometheusBuilder::new().set_buckets_for_metric(latency, &buckets)?)
}

pub(crate) async fn serve(
    listener: TcpListener,
    pool: Budget,
    prometheus: PrometheusHandle,
    settings: Option<SettingsFile>,
) -> io::Result<()> {
    let shed = LoadShed::ratio(0.85)
        .budget(&pool)
        .only(["/mail"])
        .at(EXPORT, 0.5)
        .exempt(["/healthz"])
        // A person waits for it. Check what a caller claims about itself: see `classify_by_header`.
        .classify(|head| match head.headers().contains_key("x-person") {
            true => Criticality::Critical,
            false => Criticality::Sheddable,
        });
    let admin = Admin(shed.handle());
    if let Some(file) = settings {
        tokio::spawn(file.watch(admin.clone()));
    }
    let lists = LoadShed::ratio(0.85)
        .budget(Budget::adaptive().named("lists"))
        .named("/lists");
    let app = Router::new()
        .route("/mail", get(mail))
        .route(EXPORT, get(mail))
        .route("/healthz", get(async || "healthy\n"))
        .layer(shed)
        .route("/lists", get(list).layer(lists))
        // Outside of the layer: operators must get through when all other requests are refused.
        .route("/admin/budget", get(show).put(change))
        .with_state(admin)
        .route("/metrics", get(async move || scrape(&prometheus)));
    axum::serve(listener, app).await
}

async fn mail() -> &'static str {
    sleep(Duration::from_millis(100)).await;
    "no mail\n"
}

async fn list() -> &'static str {
    sleep(Duration::from_millis(20)).await;
    "no lists\n"
}

fn scrape(prometheus: &PrometheusHandle) -> String {
    telemetry::publish();
    prometheus.render()
}

/// The handle of the layer, for operators.
#[derive(Clone)]
struct Admin(Handle);

/// The present state.
#[derive(Serialize)]
struct Shown<'a> {
    name: Option<&'a str>,
    dry_run: bool,
    utilization: f64,
    snapshot: Snapshot,
    changes: Vec<LimitChange>,
}

/// A change of settings. An absent field stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    ratio: Option<f64>,
    export_ratio: Option<f64>,
    limit: Option<usize>,
    dry_run: Option<bool>,
}

impl Admin {
    /// Applies all of the settings, or none if one is invalid.
    fn apply(&self, settings: &Settings) -> Result<(), InvalidSetting> {
        let Self(handle) = self;
        for ratio in [settings.ratio, settings.export_ratio].iter().flatten() {
            let _valid = Threshold::try_ratio(*ratio)?;
        }
        if let Some(limit) = settings.limit {
            handle.budget().set_limit(limit)?;
        }
        if let Some(ratio) = settings.ratio {
            handle.set_ratio(ratio)?;
        }
        if let Some(ratio) = settings.export_ratio {
            handle.set_at(EXPORT, ratio)?;
        }
        if let Some(dry_run) = settings.dry_run {
            handle.set_dry_run(dry_run);
        }
        Ok(())
    }
}

async fn show(State(Admin(handle)): State<Admin>) -> Response {
    let budget = handle.budget();
    Json(Shown {
        name: budget.name(),
        dry_run: handle.dry_run(),
        utilization: budget.utilization(),
        snapshot: budget.snapshot(),
        changes: budget.changes(),
    })
    .into_response()
}

async fn change(State(admin): State<Admin>, Json(settings): Json<Settings>) -> Response {
    match admin.apply(&settings) {
        Ok(()) => show(State(admin)).await,
        Err(invalid) => (StatusCode::BAD_REQUEST, format!("{invalid}\n")).into_response(),
    }
}

/// A file of [`Settings`] that can be edited while the service runs.
pub(crate) struct SettingsFile {
    pub(crate) path: PathBuf,
    pub(crate) every: Duration,
}

impl SettingsFile {
    /// Applies the file's settings whenever its text has changed. An invalid file changes nothing.
    async fn watch(self, admin: Admin) {
        let mut ticks = interval(self.every);
        let mut last = String::new();
        loop {
            ticks.tick().await;
            // A file that is absent is no change.
            let Ok(text) = tokio::fs::read_to_string(&self.path).await else {
                continue;
            };
            if text != last {
                report(&self.path, apply(&text, &admin));
                last = text;
            }
        }
    }
}

fn apply(text: &str, admin: &Admin) -> Result<Settings, Box<dyn Error>> {
    let settings = toml::from_str(text)?;
    admin.apply(&settings)?;
    Ok(settings)
}

fn report(path: &Path, applied: Result<Settings, Box<dyn Error>>) {
    let path = path.display();
    match applied {
        Ok(settings) => info!(%path, ?settings, "settings changed"),
        Err(error) => warn!(%path, %error, "settings refused; the old settings stay"),
    }
}
