//! The engine's section of the configuration: as written, and checked. Never looks at the node.

use crate::kernel::Sizes;
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::flow::Wanted;
use cni_core::strict::from_value;
use serde::Deserialize;
use std::num::NonZeroU32;

/// The name of the section.
const SECTION: &str = "policy";
/// The most entries of one map: with the largest keys that is about 1.5 GB.
const MOST: u32 = 16 << 20;

/// The configuration: `{"flows": "denied", "sample": 1000, "maps": {"identities": 524288, ...}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which verdicts the agent hears of, as records of flows.
    pub flows: Wanted,
    /// One of so many packets of open connections is told of, too.
    pub sample: Option<NonZeroU32>,
    /// Entries of maps, 1 to 16 777 216 each.
    pub maps: Sizes,
    /// Whether clsact is left to others, as to the `bandwidth` plugin: programs of new pods are attached to TCX at once, and an ADD waits.
    #[serde(rename = "leaveClsact")]
    pub leave_clsact: bool,
}

impl Config {
    /// Reads the section.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the path of the key at fault.
    pub fn from_json(section: &serde_json::Value) -> Result<Self> {
        if section.is_null() {
            return Ok(Self::default());
        }
        let read: Self = from_value(section.clone(), SECTION).map_err(|error| {
            Error::new(ErrorKind::Invalid, "check", "configuration of policy in eBPF", &error).because(error)
        })?;
        for (name, entries) in read.maps.named() {
            if !(1..=MOST).contains(&entries) {
                let detail = format!("{SECTION}.maps.{name} is {entries}; write 1 to {MOST}");
                return Err(Error::new(ErrorKind::Invalid, "check", "configuration of policy in eBPF", detail));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_is_written_is_read_and_what_is_wrong_is_named() {
        assert_eq!(Config::from_json(&Value::Null).unwrap(), Config::default());
        let read = Config::from_json(&json!({ "maps": { "identities": 7 } })).unwrap();
        assert_eq!(read.maps, Sizes { identities: 7, ..Sizes::default() });
        assert_eq!(read.flows, Wanted::Denied);
        assert_eq!(Config::from_json(&json!({ "flows": "all" })).unwrap().flows, Wanted::All);
        assert_eq!((read.sample, read.leave_clsact), (None, false));
        assert!(Config::from_json(&json!({ "leaveClsact": true })).unwrap().leave_clsact);
        assert_eq!(Config::from_json(&json!({ "sample": 100 })).unwrap().sample, NonZeroU32::new(100));
        for (wrong, named) in [
            (json!({ "map": {} }), "policy"),
            (json!({ "flows": "some" }), "some"),
            (json!({ "sample": 0 }), "sample"),
            (json!({ "sample": "all" }), "sample"),
            (json!({ "leaveClsact": 1 }), "leaveClsact"),
            (json!({ "maps": { "identitys": 7 } }), "identitys"),
            (json!({ "maps": { "peers": 0 } }), "policy.maps.peers"),
            (json!({ "maps": { "verdicts": MOST + 1 } }), "policy.maps.verdicts"),
            (json!({ "maps": { "verdicts": -1 } }), "verdicts"),
        ] {
            let error = Config::from_json(&wrong).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
