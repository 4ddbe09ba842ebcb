//! `GET /metrics` for Prometheus: what the vendor and the verifier count, and whatever else the process does.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// Upper ends of the buckets for durations, in seconds.
const DURATIONS: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Credentials live for an hour.
const AGES: [f64; 5] = [300.0, 900.0, 1_800.0, 2_700.0, 3_600.0];

/// The recorder, which is to be installed before a vendor or a verifier is built.
pub(crate) fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let ages = Matcher::Full("cognito_identity_pool_credentials_age_seconds".to_owned());
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATIONS)?
        .set_buckets_for_metric(ages, &AGES)?
        .build_recorder())
}

/// For a port that the scraper alone can reach.
pub(crate) fn routes(handle: PrometheusHandle) -> Router {
    let upkeep = handle.clone();
    // What histograms have collected is sorted into their buckets now and then, also if nobody scrapes.
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            upkeep.run_upkeep();
        }
    });
    Router::new().route("/metrics", get(scrape)).with_state(handle)
}

async fn scrape(State(handle): State<PrometheusHandle>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}
