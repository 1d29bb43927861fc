use std::{fmt, str::FromStr};

use crate::support::invalid::InvalidSetting;

/// The class of a request: how much it matters, in the four classes of the SRE book.
///
/// Lower classes are refused first. A request without a class is [`Sheddable`](Self::Sheddable).
///
/// `Display` and `FromStr` use the names of that book, as headers and configuration do. With the feature `serde`, a class is
/// read and written by that name, too.
///
/// ```
/// use loadshed::Criticality;
///
/// assert_eq!(Criticality::SheddablePlus.to_string(), "SHEDDABLE_PLUS");
/// assert_eq!("CRITICAL".parse(), Ok(Criticality::Critical));
/// assert!("critical".parse::<Criticality>().is_err());
/// ```
///
/// Source: *Site Reliability Engineering*, chapter 21, "Handling Overload", section "Criticality". There a request
/// without a class is CRITICAL; here a route opts in to shedding, which says that its callers tolerate refusals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(rename_all = "SCREAMING_SNAKE_CASE")
)]
#[non_exhaustive]
pub enum Criticality {
    /// Frequent partial and occasional full unavailability is expected: batch jobs that retry by themselves.
    #[default]
    Sheddable,
    /// Partial unavailability is expected: batch work whose callers wait minutes or hours for a retry.
    SheddablePlus,
    /// A failure is visible to users, but less serious than of the next class.
    Critical,
    /// A failure has a serious impact that is visible to users.
    CriticalPlus,
}

impl Criticality {
    /// All classes, the lowest first.
    pub(crate) const ALL: [Self; 4] = [
        Self::Sheddable,
        Self::SheddablePlus,
        Self::Critical,
        Self::CriticalPlus,
    ];

    /// Returns the name on the wire, which `Display` and `FromStr` use, too.
    ///
    /// A header is made of this name without an allocation:
    ///
    /// ```
    /// use http::HeaderValue;
    /// use loadshed::Criticality;
    ///
    /// let value = HeaderValue::from_static(Criticality::CriticalPlus.name());
    /// assert_eq!(value, "CRITICAL_PLUS");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "SHEDDABLE",
            Self::SheddablePlus => "SHEDDABLE_PLUS",
            Self::Critical => "CRITICAL",
            Self::CriticalPlus => "CRITICAL_PLUS",
        }
    }

    /// Returns the index among the classes above the lowest.
    pub(crate) fn above_lowest(self) -> Option<usize> {
        (self as usize).checked_sub(1)
    }

    /// Returns the class of this name. `FromStr` does the same, but allocates for its error, and a caller can send any name.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|class| class.name().as_bytes() == name)
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// # Errors
///
/// If the text is none of the four names, in capital letters.
impl FromStr for Criticality {
    type Err = InvalidSetting;

    fn from_str(name: &str) -> Result<Self, InvalidSetting> {
        Self::from_name(name.as_bytes()).ok_or_else(|| {
            let allowed = "SHEDDABLE, SHEDDABLE_PLUS, CRITICAL or CRITICAL_PLUS";
            InvalidSetting::new("criticality", format_args!("{name:?}"), allowed)
        })
    }
}
