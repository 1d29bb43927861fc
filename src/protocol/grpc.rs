//! The headers of gRPC and gRPC-Web: the content type, the status, the timeout.

use std::{mem, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
// A static: a constant would be made and dropped for each measured request.
static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Returns how long the caller waits at most, or `None` without a valid `grpc-timeout`.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    parse_timeout(headers.get(&GRPC_TIMEOUT)?)
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

/// Returns the content type of a gRPC or gRPC-Web call.
pub(crate) fn grpc_content_type(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(CONTENT_TYPE).filter(|value| is_grpc(value))
}

/// Takes the content type of a gRPC call, and leaves an empty value. The request is refused, so its headers are not read again;
/// and the first clone of a value that owns its bytes would allocate.
pub(crate) fn take_grpc_content_type(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let value = headers.get_mut(CONTENT_TYPE)?;
    is_grpc(value).then(|| mem::replace(value, HeaderValue::from_static("")))
}

/// Returns whether this is the content type of gRPC: `application/grpc`, alone or before `+`, `-`, `;` or a space.
fn is_grpc(content_type: &HeaderValue) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let split = content_type.as_bytes().split_at_checked(GRPC.len());
    split.is_some_and(|(start, rest)| {
        start.eq_ignore_ascii_case(GRPC)
            && matches!(rest.first(), None | Some(b'+' | b'-' | b';' | b' '))
    })
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
    fn a_grpc_timeout_is_a_number_of_at_most_8_digits_and_a_unit() {
        for (value, timeout) in [
            ("1H", Duration::from_secs(3_600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("100m", Duration::from_millis(100)),
            ("99871u", Duration::from_micros(99_871)),
            ("7n", Duration::from_nanos(7)),
            ("0S", Duration::ZERO),
            ("00000001S", Duration::from_secs(1)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
        ] {
            let value = HeaderValue::from_static(value);
            assert_eq!(parse_timeout(&value), Some(timeout), "{value:?}");
            let headers = HeaderMap::from_iter([(GRPC_TIMEOUT.clone(), value)]);
            assert_eq!(super::timeout(&headers), Some(timeout));
        }
        assert_eq!(timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn an_invalid_grpc_timeout_is_ignored() {
        for garbage in [
            "",
            "S",
            "1",
            "123456789S",
            "99999999999999999999S",
            "1h",
            "1U",
            "1N",
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
