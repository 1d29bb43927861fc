use std::fmt;

use matchit::{InsertError, Router};

use crate::support::invalid::InvalidSetting;

/// `"POST /mail/{id}"`: a path in axum's syntax, after a method or alone.
pub(crate) struct Pattern<'a> {
    pub(crate) method: Option<&'a str>,
    pub(crate) path: &'a str,
}

const MOST_PARAMETERS: usize = 25;

impl<'a> Pattern<'a> {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// If axum's router would refuse the path, or the method is not in capital letters.
    pub(crate) fn parse(route: &'a str) -> Result<Self, InvalidSetting> {
        let (method, path) = match route.split_once(' ') {
            Some((method, path)) => (Some(method), path.trim_start()),
            None => (None, route),
        };
        let is_method = |name: &str| {
            let mut letters = name.bytes();
            !name.is_empty() && letters.all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        };
        let allowed = match path.starts_with('/') && method.is_none_or(is_method) {
            true => required(path),
            false => Some("a path that begins with /, alone or after a method in capital letters"),
        };
        match allowed {
            None => Ok(Self { method, path }),
            Some(allowed) => Err(InvalidSetting::new(
                "route",
                format_args!("{route:?}"),
                allowed,
            )),
        }
    }
}

/// Returns what the path has to be instead, if it is malformed.
fn required(path: &str) -> Option<&'static str> {
    // Parameters of older routers would be literals, which no request is meant to match. axum refuses them, too.
    let old = path
        .split('/')
        .find_map(|segment| match segment.as_bytes() {
            [b':', ..] => Some("{name} for a parameter"),
            [b'*', ..] => Some("{*name} for the rest of the path"),
            _ => None,
        });
    if old.is_some() {
        return old;
    }
    // With more, the router panics.
    if path.matches('{').count() > MOST_PARAMETERS {
        return Some("at most 25 parameters");
    }
    Router::new()
        .insert(path, ())
        .err()
        .map(|error| match error {
            InsertError::InvalidParamSegment => "one parameter for each segment, at its end",
            InsertError::InvalidCatchAll => "{*name} at the end of the path alone",
            _ => "{name} for a parameter, and a brace of the path itself twice",
        })
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Some(method) => write!(f, "{method} {}", self.path),
            None => f.write_str(self.path),
        }
    }
}
