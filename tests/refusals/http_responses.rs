//! Promise 18: the refusal of an HTTP request.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Body;
use loadshed::{Budget, LoadShed, RetryAfter, Shed, Threshold};

use super::{full, grpc, header, refusal, text};
use crate::support::{all, get};

pub(crate) fn json(text: &str, status: StatusCode) -> BTreeMap<String, String> {
    // The only number is read as text, so that the document is a map of strings.
    let number = format!("\"status\":{}", status.as_u16());
    assert!(text.contains(&number), "{text}");
    let quoted = text.replace(&number, &format!("\"status\":\"{}\"", status.as_u16()));
    axum::Json::from_bytes(quoted.as_bytes())
        .expect("valid JSON")
        .0
}

#[test]
fn p18_a_refusal_over_http_is_a_429_with_a_retry_hint_and_no_other_number() {
    let (shed, _held) = full();
    for method in ["GET", "POST", "OPTIONS", "BREW"] {
        let mut request = get("/");
        *request.method_mut() = method.parse().unwrap();
        let response = refusal(&shed, request);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(
            header(&response, "content-type"),
            "application/problem+json"
        );
        assert_eq!(response.headers().len(), 3);
        let length = response.body().size_hint().exact();
        let document = text(response);
        assert_eq!(length, Some(document.len() as u64));
        let digits: String = document.chars().filter(char::is_ascii_digit).collect();
        assert_eq!(
            digits, "429",
            "the document has no other number: {document}"
        );
        let fields = json(&document, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(
            fields["type"],
            "https://iana.org/assignments/http-problem-types#quota-exceeded"
        );
        assert!(!fields["title"].is_empty());
    }
}

#[test]
fn p18_a_refused_head_request_gets_the_length_and_no_body() {
    let (shed, _held) = full();
    let written = |body: &'static str, length: Option<&'static str>| {
        let mut response = Response::new(Bytes::from_static(body.as_bytes()));
        if let Some(length) = length {
            let value = HeaderValue::from_static(length);
            response.headers_mut().insert(CONTENT_LENGTH, value);
        }
        shed.clone().on_shed(move |_| response.clone())
    };
    let own = text(refusal(&shed, get("/"))).len().to_string();
    for (shed, length) in [
        (shed.clone(), Some(own.as_str())),
        (written("later", None), Some("5")),
        (written("", None), None),
        (written("", Some("7")), Some("7")),
        (written("later", Some("7")), Some("7")),
    ] {
        let mut request = get("/");
        *request.method_mut() = Method::HEAD;
        let response = refusal(&shed, request);
        assert!(response.body().is_end_stream());
        let length_header = response.headers().get(CONTENT_LENGTH);
        assert_eq!(
            length_header.map(|length_header| length_header.to_str().unwrap()),
            length
        );
    }
}

#[test]
fn p18_the_status_of_a_refusal_is_a_setting() {
    for status in [400, 420, 429, 500, 503, 599] {
        let status = StatusCode::from_u16(status).unwrap();
        let (shed, _held) = full();
        let response = refusal(&shed.status(status), get("/"));
        assert_eq!(response.status(), status);
        assert!(header(&response, "retry-after").parse::<u32>().unwrap() >= 1);
        assert_eq!(header(&response, "cache-control"), "no-store");
        let document: serde_json::Value = serde_json::from_str(&text(response)).unwrap();
        assert_eq!(document["title"], "The server is busy. Retry later.");
        // The member is optional (RFC 9457, 3.1.2). It may be left out, and must not say another status.
        let told = document.get("status").and_then(serde_json::Value::as_u64);
        let expected = [429, 503]
            .contains(&status.as_u16())
            .then(|| u64::from(status.as_u16()));
        assert_eq!(told, expected, "{status}");
    }
    for bad in [100, 200, 204, 304, 399, 600, 999] {
        let status = StatusCode::from_u16(bad).unwrap();
        let invalid = LoadShed::ratio(1.0).try_status(status).unwrap_err();
        let allowed = "a client error or a server error, 400 to 599";
        assert_eq!(
            invalid.to_string(),
            format!("invalid status {bad}: must be {allowed}")
        );
    }
}

#[test]
fn p18_a_fixed_retry_hint_is_sent_in_whole_seconds_rounded_up() {
    let (shed, _held) = full();
    for (hint, seconds, milliseconds) in [
        (Duration::from_nanos(1), "1", "1"),
        (Duration::from_millis(1), "1", "1"),
        (Duration::from_micros(1_500), "1", "2"),
        (Duration::from_secs(1), "1", "1000"),
        (Duration::from_millis(1_001), "2", "1001"),
        (Duration::from_secs(5), "5", "5000"),
        (
            Duration::from_secs(u64::from(u32::MAX)),
            "4294967295",
            "4294967295000",
        ),
    ] {
        let shed = shed.clone().retry_after(RetryAfter::fixed(hint));
        let response = refusal(&shed, get("/"));
        assert_eq!(header(&response, "retry-after"), seconds);
        assert_eq!(
            response.extensions().get::<Shed>().unwrap().retry_after(),
            hint
        );
        let response = refusal(&shed, grpc("application/grpc"));
        assert_eq!(header(&response, "grpc-retry-pushback-ms"), milliseconds);
    }
}

#[tokio::test(start_paused = true)]
async fn p18_at_any_load_the_retry_hint_is_an_integer_of_at_least_1() {
    let budget = Budget::fixed(3);
    let shed = LoadShed::ratio(1.0).budget(&budget);
    for step in 0..5_000_u64 {
        // Bursts, lulls, and a clock that stands still. Some requests complete, so that there is a completion rate.
        tokio::time::advance(Duration::from_millis(
            [0, 0, 7, 300, 0][step as usize % 5] * (step % 11),
        ))
        .await;
        drop(budget.try_acquire(all()));
        let _full: Vec<_> = (0..3)
            .map(|_| budget.try_acquire(Threshold::NEVER_SHED))
            .collect();
        let response = refusal(&shed, get("/"));
        let seconds: u64 = header(&response, "retry-after").parse().unwrap();
        let reason = response.extensions().get::<Shed>().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(seconds, reason.retry_after_secs());
        assert!(reason.retry_after() >= Duration::from_secs(1));
        let response = refusal(&shed, grpc("application/grpc"));
        let milliseconds: u64 = header(&response, "grpc-retry-pushback-ms").parse().unwrap();
        assert!((10..=60_000).contains(&milliseconds));
    }
}
