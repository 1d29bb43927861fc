//! What gRPC and gRPC-Web say in headers: the content type, the status, the timeout.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Returns the time that the caller still waits: `None` without a `grpc-timeout` that can be read.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse_timeout(headers.get(GRPC_TIMEOUT)?)
}

/// gRPC over HTTP/2, "Requests": at most 8 digits, and a unit.
pub(crate) fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| fits)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The content type of a gRPC or gRPC-Web call: `application/grpc`, alone or before `+`, `-` or `;`.
pub(crate) fn grpc_content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    const GRPC: &[u8] = b"application/grpc";
    let value = headers.get(CONTENT_TYPE)?;
    let (start, rest) = value.as_bytes().split_at_checked(GRPC.len())?;
    let is_grpc = start.eq_ignore_ascii_case(GRPC)
        && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '));
    is_grpc.then_some(value)
}

/// Taken, as nobody asks for it again, and as the clone of a value that is its own owner is an allocation.
pub(crate) fn take_grpc_content_type(headers: &mut HeaderMap) -> Option<HeaderValue> {
    grpc_content_type(headers)?;
    headers.remove(CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_taken_for_grpc() {
        let is_grpc = |content_type: &'static str| {
            let value = HeaderValue::from_static(content_type);
            grpc_content_type(&HeaderMap::from_iter([(CONTENT_TYPE, value)])).is_some()
        };
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web-text+proto",
            "application/grpc; charset=utf-8",
            "Application/gRPC",
        ] {
            assert!(is_grpc(yes), "{yes}");
        }
        for no in [
            "application/json",
            "application/grpcish",
            "application/gr",
            "",
        ] {
            assert!(!is_grpc(no), "{no}");
        }
    }

    #[test]
    fn what_is_no_grpc_timeout_is_none() {
        for garbage in [
            "",
            "S",
            "1",
            "123456789S",
            "1s",
            "-1S",
            "+1S",
            " 1S",
            "1.5S",
            "1 S",
            "1SS",
        ] {
            assert_eq!(
                parse_timeout(&HeaderValue::from_static(garbage)),
                None,
                "{garbage}"
            );
        }
        let utf8 = HeaderValue::from_bytes("1µ".as_bytes()).unwrap();
        assert_eq!(parse_timeout(&utf8), None);
    }
}
