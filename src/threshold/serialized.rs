use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, Visitor},
};

use super::threshold::Threshold;
use crate::support::invalid::InvalidSetting;

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.as_ratio() {
            Some(ratio) => serializer.serialize_f64(ratio),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrName)
    }
}

struct NumberOrName;

impl Visitor<'_> for NumberOrName {
    type Value = Threshold;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a ratio greater than 0 and at most 1, \"NEVER_SHED\" or \"EXEMPT\"")
    }

    fn visit_f64<E: Error>(self, ratio: f64) -> Result<Threshold, E> {
        Threshold::try_ratio(ratio).map_err(E::custom)
    }

    // A ratio of 1 may be written without a point.
    fn visit_u64<E: Error>(self, ratio: u64) -> Result<Threshold, E> {
        self.visit_f64(ratio as f64)
    }

    fn visit_i64<E: Error>(self, ratio: i64) -> Result<Threshold, E> {
        self.visit_f64(ratio as f64)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Threshold, E> {
        let exceptions = [Threshold::NEVER_SHED, Threshold::EXEMPT];
        let found = exceptions.into_iter().find(|it| it.to_string() == name);
        found.ok_or_else(|| {
            let allowed = "a ratio, NEVER_SHED or EXEMPT";
            E::custom(InvalidSetting::new(
                "threshold",
                format_args!("{name:?}"),
                allowed,
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::threshold::criticality::Criticality;

    fn error<T: for<'a> Deserialize<'a> + fmt::Debug>(json: &str) -> String {
        serde_json::from_str::<T>(json).unwrap_err().to_string()
    }

    #[test]
    fn a_threshold_is_read_as_it_was_written() {
        for (threshold, json) in [
            (Threshold::ratio(0.85), "0.85"),
            (Threshold::ratio(1.0), "1.0"),
            (Threshold::NEVER_SHED, "\"NEVER_SHED\""),
            (Threshold::EXEMPT, "\"EXEMPT\""),
        ] {
            assert_eq!(serde_json::to_string(&threshold).unwrap(), json);
            assert_eq!(serde_json::from_str::<Threshold>(json).unwrap(), threshold);
        }
        assert_eq!(
            serde_json::from_str::<Threshold>("1").unwrap(),
            Threshold::ratio(1.0)
        );
        let toml = "batch = 0.5\nweb = 1\nlogin = \"NEVER_SHED\"";
        let read: BTreeMap<String, Threshold> = toml::from_str(toml).unwrap();
        let expected = [
            Threshold::ratio(0.5),
            Threshold::NEVER_SHED,
            Threshold::ratio(1.0),
        ];
        assert_eq!(read.into_values().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_threshold_out_of_range_is_an_error_that_says_what_is_allowed() {
        for (json, text) in [
            ("0", "invalid ratio 0: must be greater than 0 and at most 1"),
            (
                "-1",
                "invalid ratio -1: must be greater than 0 and at most 1",
            ),
            (
                "1.5",
                "invalid ratio 1.5: must be greater than 0 and at most 1",
            ),
            (
                "\"never\"",
                "invalid threshold \"never\": must be a ratio, NEVER_SHED or EXEMPT",
            ),
            (
                "true",
                "expected a ratio greater than 0 and at most 1, \"NEVER_SHED\" or \"EXEMPT\"",
            ),
        ] {
            let told = error::<Threshold>(json);
            assert!(told.contains(text), "{told}");
        }
    }

    #[test]
    fn a_class_is_read_and_written_by_its_wire_name() {
        for class in Criticality::ALL {
            let json = format!("\"{class}\"");
            assert_eq!(serde_json::to_string(&class).unwrap(), json);
            assert_eq!(serde_json::from_str::<Criticality>(&json).unwrap(), class);
        }
        let by_class: BTreeMap<Criticality, f64> = toml::from_str("CRITICAL_PLUS = 0.9").unwrap();
        assert_eq!(by_class, BTreeMap::from([(Criticality::CriticalPlus, 0.9)]));
        let told = error::<Criticality>("\"critical\"");
        for class in Criticality::ALL {
            assert!(told.contains(&format!("`{class}`")), "{told}");
        }
    }
}
