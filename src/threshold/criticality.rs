use std::{fmt, str::FromStr};

use crate::support::invalid::InvalidSetting;

/// How much a request matters, in the four classes of the SRE book.
///
/// Lower classes are shed first. What nobody classified is [`Sheddable`](Self::Sheddable).
///
/// It is written and read as in that book, which is what goes into headers and configuration:
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
/// without a class is CRITICAL; here a route opts in to shedding, which says that its calls can bear it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Criticality {
    /// Partial, even full, unavailability is expected: batch jobs that retry by themselves.
    #[default]
    Sheddable,
    /// Partial unavailability is expected: batch work whose callers wait minutes or hours for a retry.
    SheddablePlus,
    /// Users see it when it fails, if less than the next class.
    Critical,
    /// Serious trouble for users when it fails.
    CriticalPlus,
}

impl Criticality {
    /// Lowest first.
    pub(crate) const ALL: [Self; 4] = [
        Self::Sheddable,
        Self::SheddablePlus,
        Self::Critical,
        Self::CriticalPlus,
    ];

    /// Returns the name on the wire, which `Display` and `FromStr` use, too.
    ///
    /// It makes a header without an allocation:
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

    /// Its place among the classes above the lowest.
    pub(crate) fn above_lowest(self) -> Option<usize> {
        (self as usize).checked_sub(1)
    }

    /// Apart from `from_str`, whose error allocates: callers can send anything.
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
/// If it is none of the four names, in capital letters.
impl FromStr for Criticality {
    type Err = InvalidSetting;

    fn from_str(name: &str) -> Result<Self, InvalidSetting> {
        Self::from_name(name.as_bytes()).ok_or_else(|| {
            let allowed = "SHEDDABLE, SHEDDABLE_PLUS, CRITICAL or CRITICAL_PLUS";
            InvalidSetting::new("criticality", format_args!("{name:?}"), allowed)
        })
    }
}
