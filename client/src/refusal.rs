//! What an answer says about the next try.

use std::time::Duration;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{DATE, RETRY_AFTER},
};
use httpdate::parse_http_date;

use super::grpc::GRPC_STATUS;

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Not of any RFC; SDKs of several vendors read it in place of whole seconds.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server took the request on, however it ended.
    Accepted,
    Refused(Retry),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    Never,
    /// It may be tried again. When, is left to the caller.
    BackOff,
    After(Duration),
}

impl Answer {
    /// The answer to a request of this `method`.
    pub(super) fn of<B>(method: &Method, response: &Response<B>) -> Self {
        let headers = response.headers();
        // In the head, so the call has failed before its first message: Trailers-Only.
        if let Some(code) = headers.get(GRPC_STATUS) {
            return match code.as_bytes() {
                // RESOURCE_EXHAUSTED, UNAVAILABLE
                b"8" | b"14" => Self::Refused(pushback(headers)),
                _ => Self::Accepted,
            };
        }
        match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Self::Refused(hint(headers).unwrap_or(Retry::BackOff)),
            StatusCode::SERVICE_UNAVAILABLE => {
                let unasked = if method.is_idempotent() {
                    Retry::BackOff
                } else {
                    Retry::Never
                };
                Self::Refused(hint(headers).unwrap_or(unasked))
            }
            _ => Self::Accepted,
        }
    }
}

/// gRFC A6: what is negative or no number means that there is to be no retry. Without any, these codes may as well be
/// a quota, or a call that had begun.
fn pushback(headers: &HeaderMap) -> Retry {
    headers
        .get(PUSHBACK)
        .and_then(number)
        .map_or(Retry::Never, |ms| Retry::after(Duration::from_millis(ms)))
}

/// `None` if there is none, or none that can be read.
fn hint(headers: &HeaderMap) -> Option<Retry> {
    let milliseconds = || headers.get(RETRY_AFTER_MS).and_then(number);
    milliseconds()
        .map(Duration::from_millis)
        .or_else(|| retry_after(headers))
        .map(Retry::after)
}

/// RFC 9110, 10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    if let Some(seconds) = number(value) {
        return Some(Duration::from_secs(seconds));
    }
    let date = |value: &HeaderValue| parse_http_date(value.to_str().ok()?).ok();
    // By the server's own clock, which need not agree with the one here. A server that has a clock sends it (6.6.1).
    let (then, now) = (date(value)?, date(headers.get(DATE)?)?);
    Some(then.duration_since(now).unwrap_or_default())
}

/// Digits and nothing else. What does not fit is longer than anyone waits.
fn number(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

impl Retry {
    /// 0 says that a retry is welcome, and is no time to wait: all who were told would come in the same instant.
    fn after(wait: Duration) -> Self {
        if wait.is_zero() {
            Self::BackOff
        } else {
            Self::After(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Headers<'a> = &'a [(&'static str, &'a str)];

    fn answer(method: &Method, status: u16, headers: Headers<'_>) -> Answer {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Answer::of(method, &response.body(()).unwrap())
    }

    fn after(milliseconds: u64) -> Answer {
        Answer::Refused(Retry::After(Duration::from_millis(milliseconds)))
    }

    const BACK_OFF: Answer = Answer::Refused(Retry::BackOff);
    const NEVER_SHED: Answer = Answer::Refused(Retry::Never);

    #[test]
    fn http_answers_say_what_the_table_says() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let table: [(u16, Headers<'_>, Answer); 21] = [
            (200, &[], Answer::Accepted),
            (200, &[("retry-after", "1")], Answer::Accepted),
            (500, &[("retry-after", "1")], Answer::Accepted),
            (504, &[], Answer::Accepted),
            (429, &[], BACK_OFF),
            (503, &[], NEVER_SHED),
            (429, &[("retry-after", "7")], after(7_000)),
            (503, &[("retry-after", "007")], after(7_000)),
            (429, &[("retry-after", "0")], BACK_OFF),
            (503, &[("retry-after", "0")], BACK_OFF),
            (429, &[("retry-after", "1.5")], BACK_OFF),
            (429, &[("retry-after", "-1")], BACK_OFF),
            (503, &[("retry-after", "+1")], NEVER_SHED),
            (503, &[("retry-after", "soon")], NEVER_SHED),
            (
                429,
                &[("retry-after-ms", "250"), ("retry-after", "1")],
                after(250),
            ),
            (
                429,
                &[("retry-after-ms", "2.5"), ("retry-after", "1")],
                after(1_000),
            ),
            // The three forms of RFC 9110, 5.6.7.
            (
                429,
                &[date, ("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")],
                after(3_000),
            ),
            (
                429,
                &[date, ("retry-after", "Sunday, 06-Nov-94 08:50:37 GMT")],
                after(60_000),
            ),
            (
                503,
                &[date, ("retry-after", "Sun Nov  6 09:49:37 1994")],
                after(3_600_000),
            ),
            (
                503,
                &[date, ("retry-after", "Sun, 06 Nov 1994 08:49:30 GMT")],
                BACK_OFF,
            ),
            (
                503,
                &[("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT")],
                NEVER_SHED,
            ),
        ];
        for (status, headers, expected) in table {
            assert_eq!(
                answer(&Method::POST, status, headers),
                expected,
                "{status} {headers:?}"
            );
        }
        assert_eq!(answer(&Method::PUT, 503, &[]), BACK_OFF);
        assert_eq!(answer(&Method::GET, 503, &[("retry-after", "?")]), BACK_OFF);
    }

    #[test]
    fn grpc_answers_say_what_the_table_says() {
        let table: [(&str, Option<&str>, Answer); 13] = [
            ("0", None, Answer::Accepted),
            ("4", Some("5"), Answer::Accepted),
            ("13", Some("5"), Answer::Accepted),
            ("8", Some("5"), after(5)),
            ("14", Some("1500"), after(1_500)),
            ("8", Some("0"), BACK_OFF),
            ("8", None, NEVER_SHED),
            ("14", None, NEVER_SHED),
            ("8", Some("-1"), NEVER_SHED),
            ("14", Some("-1500"), NEVER_SHED),
            ("8", Some("soon"), NEVER_SHED),
            ("8", Some("1.5"), NEVER_SHED),
            ("8", Some(""), NEVER_SHED),
        ];
        for (code, pushback, expected) in table {
            let headers = [
                ("grpc-status", code),
                ("grpc-retry-pushback-ms", pushback.unwrap_or_default()),
            ];
            let headers = &headers[..1 + usize::from(pushback.is_some())];
            assert_eq!(answer(&Method::POST, 200, headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn a_number_that_does_not_fit_is_longer_than_anyone_waits() {
        let ages = "9".repeat(100);
        let Answer::Refused(Retry::After(wait)) =
            answer(&Method::GET, 429, &[("retry-after", &ages)])
        else {
            panic!("it is a hint");
        };
        assert!(wait > Duration::from_secs(1 << 60));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let near =
            "(Sun|Sunday)?,? ?[0-9]{1,2}[ -](Nov|Foo)[ -][0-9]{2,5} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT";
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[-+ ]?[0-9]{0,30}[.a-z]?".prop_map(String::into_bytes),
            near.prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_headers_are_nothing_panics_and_garbage_is_no_hint(
            name in prop::sample::select(vec!["retry-after", "retry-after-ms", "grpc-retry-pushback-ms"]),
            value in bytes(),
            date in bytes(),
            grpc in any::<bool>(),
        ) {
            let Ok(header) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(name, header);
            if let Ok(date) = HeaderValue::from_bytes(&date) {
                response.headers_mut().insert("date", date);
            }
            if grpc {
                response.headers_mut().insert("grpc-status", HeaderValue::from_static("8"));
            }
            let read = Answer::of(&Method::POST, &response);
            let Answer::Refused(retry) = read else { panic!("it is a refusal") };
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let a_date = !grpc && name == "retry-after" && value.ends_with(b"GMT");
            let of_this_kind = grpc == (name == "grpc-retry-pushback-ms");
            if let Retry::After(_) = retry {
                prop_assert!(of_this_kind && (digits || a_date), "{response:?}");
            } else if digits && of_this_kind {
                prop_assert!(value.iter().all(|digit| *digit == b'0'), "{response:?}");
            }
        }
    }
}
