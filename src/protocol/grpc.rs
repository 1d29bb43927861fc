//! The headers of gRPC and gRPC-Web: the content type, the status, the timeout.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Returns how long the caller waits at most, or `None` without a valid `grpc-timeout`.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse_timeout(headers.get(GRPC_TIMEOUT)?)
}

/// Parses at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
fn parse_timeout(value: &HeaderValue) -> Option<Duration> {
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

/// Returns the content type of a gRPC or gRPC-Web call: `application/grpc`, alone or before `+`, `-`, `;` or a space.
pub(crate) fn grpc_content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    const GRPC: &[u8] = b"application/grpc";
    let value = headers.get(CONTENT_TYPE)?;
    let (start, rest) = value.as_bytes().split_at_checked(GRPC.len())?;
    let is_grpc = start.eq_ignore_ascii_case(GRPC)
        && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '));
    is_grpc.then_some(value)
}

/// Removes the content type of a gRPC call and returns it. The request is refused, so its headers are not read again; and the
/// first clone of a value that owns its bytes would allocate.
pub(crate) fn take_grpc_content_type(headers: &mut HeaderMap) -> Option<HeaderValue> {
    grpc_content_type(headers)?;
    headers.remove(CONTENT_TYPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_types_of_grpc_are_recognised_as_grpc() {
        let is_grpc = |content_type: &'static str| {
            let value = HeaderValue::from_static(content_type);
            grpc_content_type(&HeaderMap::from_iter([(CONTENT_TYPE, value)])).is_some()
        };
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc-web-text+proto",
            "application/grpc; charset=utf-8",
            "application/grpc ; charset=utf-8",
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
    fn an_invalid_grpc_timeout_is_ignored() {
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
