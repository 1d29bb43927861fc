use std::{borrow::Cow, error::Error, fmt};

/// The error of a setting that was given a value outside the allowed ones.
///
/// The `try_` constructors and the setters of a live [`Handle`](crate::Handle) return it, for values that come from
/// configuration. Its text says what is wrong, then what is allowed.
///
/// ```
/// let refused = loadshed::Threshold::try_ratio(1.5).unwrap_err();
/// assert_eq!(refused.to_string(), "invalid ratio 1.5: must be greater than 0 and at most 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    setting: Cow<'static, str>,
    given: String,
    allowed: Cow<'static, str>,
}

impl InvalidSetting {
    /// Creates an error, for the settings of another crate.
    ///
    /// `setting` names the setting, `given` is the refused value, and `allowed` completes the sentence "must be …".
    ///
    /// ```
    /// let refused = loadshed::InvalidSetting::new("retries", -1, "from 0 to 10");
    /// assert_eq!(refused.to_string(), "invalid retries -1: must be from 0 to 10");
    /// ```
    pub fn new(
        setting: impl Into<Cow<'static, str>>,
        given: impl fmt::Display,
        allowed: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            setting: setting.into(),
            given: given.to_string(),
            allowed: allowed.into(),
        }
    }

    /// Creates the error of a budget or a layer, `what`, that is given a second name.
    pub(crate) fn named_twice(what: &str, first: &str, second: &str) -> Self {
        let allowed = format!("given once: this {what} is named {first:?} already");
        Self::new("name", format_args!("{second:?}"), allowed)
    }
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid {} {}: must be {}",
            self.setting, self.given, self.allowed
        )
    }
}

impl Error for InvalidSetting {}

/// Returns the value, or panics with the text of the error: for the panicking twin of a `try_` constructor.
#[track_caller]
pub(crate) fn expect_valid<T>(checked: Result<T, InvalidSetting>) -> T {
    match checked {
        Ok(value) => value,
        Err(invalid) => panic!("{invalid}"),
    }
}
