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
    pub(crate) fn parse(route: &'a str) -> Result<Self, InvalidSetting> {
        let (method, path) = match route.split_once(' ') {
            Some((method, path)) => (Some(method), path.trim_start()),
            None => (None, route),
        };
        let is_method = |name: &str| {
            let mut letters = name.bytes();
            !name.is_empty() && letters.all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        };
        if !path.starts_with('/') || !method.is_none_or(is_method) {
            let allowed = "a path that begins with /, alone or after a method in capital letters";
            return Err(InvalidSetting::new("route", quoted(route), allowed));
        }
        // What older routers took for a parameter would be a literal here that nobody asks for. axum refuses it, too.
        for segment in path.split('/') {
            let allowed = match segment.as_bytes() {
                [b':', ..] => "{name} for a parameter",
                [b'*', ..] => "{*name} for the rest of the path",
                _ => continue,
            };
            return Err(InvalidSetting::new("route", quoted(route), allowed));
        }
        // With more, the router panics.
        if path.matches('{').count() > MOST_PARAMETERS {
            return Err(InvalidSetting::new(
                "route",
                quoted(route),
                "at most 25 parameters",
            ));
        }
        Ok(Self { method, path })
    }

    /// Adds the path to `router`, which has the `others`.
    pub(crate) fn join(
        &self,
        router: &mut Router<()>,
        others: &[String],
    ) -> Result<(), InvalidSetting> {
        let path = self.path;
        let Err(error) = router.insert(path, ()) else {
            return Ok(());
        };
        let allowed = match error {
            InsertError::Conflict { .. } => {
                let other = others.iter().find(|other| conflict(other, path));
                let other = other.map(|other| quoted(other)).unwrap_or_default();
                format!("one that does not conflict with {other}")
            }
            InsertError::InvalidParamSegment => "one parameter for each segment, at its end".into(),
            InsertError::InvalidCatchAll => "{*name} at the end of the path alone".into(),
            _ => "{name} for a parameter, and a brace of the path itself twice".into(),
        };
        Err(InvalidSetting::new("route", quoted(path), allowed))
    }
}

impl fmt::Display for Pattern<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Some(method) => write!(f, "{method} {}", self.path),
            None => f.write_str(self.path),
        }
    }
}

/// The router knows which other one it is, and names it in its own spelling.
fn conflict(one: &str, other: &str) -> bool {
    let mut both = Router::new();
    both.insert(one, ()).is_ok() && both.insert(other, ()).is_err()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}
