use std::{borrow::Cow, error::Error, fmt};

/// A setting was given a value outside of what is allowed.
///
/// The `try_` constructors and the setters of a live [`Handle`](crate::Handle) return it, for values that come from
/// configuration. Its text says what was set, what was given and what is allowed.
///
/// ```
/// let refused = loadshed::Threshold::try_ratio(1.5).unwrap_err();
/// assert_eq!(refused.to_string(), "ratio: 1.5 was given, allowed is more than 0 and at most 1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSetting {
    setting: Cow<'static, str>,
    given: String,
    allowed: Cow<'static, str>,
}

impl InvalidSetting {
    /// Creates the error of a setting, for the settings of another crate.
    ///
    /// `setting` names the setting, `given` is the refused value, and `allowed` describes the allowed values.
    ///
    /// ```
    /// let refused = loadshed::InvalidSetting::new("retries", -1, "0 to 10");
    /// assert_eq!(refused.to_string(), "retries: -1 was given, allowed is 0 to 10");
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
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} was given, allowed is {}",
            self.setting, self.given, self.allowed
        )
    }
}

impl Error for InvalidSetting {}

/// What the panicking twin of a `try_` constructor does with the error.
#[track_caller]
pub(crate) fn expect_valid<T>(checked: Result<T, InvalidSetting>) -> T {
    match checked {
        Ok(value) => value,
        Err(invalid) => panic!("{invalid}"),
    }
}
