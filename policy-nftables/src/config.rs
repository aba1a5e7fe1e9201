//! The engine's section of the configuration: as written, and checked. Never looks at the node.

use cni_core::backend::{Error, ErrorKind, Result, Translation};
use cni_core::flow::Wanted;
use cni_core::strict::from_value;
use net_linux::marks;
use serde::Deserialize;

/// The name of the section.
pub const SECTION: &str = "policy";

/// How verdicts are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The NFLOG group, 0 to 65535.
    pub group: u16,
    /// Which verdicts. What [`cni_core::policy::model::Action::Log`] asks for is logged in any case.
    pub what: Wanted,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { group: marks::POLICY_LOG_GROUP, what: Wanted::default() }
    }
}

/// The configuration: `{"flows": "denied", "log": {"group": 203, "what": "denied"}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which verdicts the agent hears of, as records of flows. [`Wanted::None`]: nothing, not even what rules ask to log.
    pub flows: Wanted,
    /// Logging, for whoever else wants to read.
    pub log: LogConfig,
    /// Where a proxy beside the engine translates services, as whoever opens the engine knows. Nobody writes it.
    #[serde(skip)]
    pub translation: Option<Translation>,
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
        let object = "configuration of policy on nftables";
        if section.get("sample").is_some() {
            let detail = format!(
                "{SECTION}.sample: these rules see the packets that open connections and let all later ones pass unseen, which is what \
                 makes them cheap; remove it, or use policy: ebpf"
            );
            return Err(Error::new(ErrorKind::Unsupported, "check", object, detail));
        }
        let read: Self = from_value(section.clone(), SECTION)
            .map_err(|error| Error::new(ErrorKind::Invalid, "check", object, &error).because(error))?;
        if read.log.group == marks::POLICY_FLOW_GROUP {
            let detail = format!("{SECTION}.log.group: {} is the group of flows; choose another", read.log.group);
            return Err(Error::new(ErrorKind::Invalid, "check", object, detail));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_and_unknown_keys_are_refused() {
        assert_eq!(Config::from_json(&json!({})).unwrap(), Config::default());
        let read = Config::from_json(&json!({ "log": { "group": 7, "what": "all" } })).unwrap();
        assert_eq!(read.log, LogConfig { group: 7, what: Wanted::All });
        assert_eq!(read.flows, Wanted::Denied);
        assert_eq!(Config::from_json(&json!({ "flows": "all" })).unwrap().flows, Wanted::All);
        for wrong in [
            json!({ "logs": {} }),
            json!({ "log": { "group": 70_000 } }),
            json!({ "log": { "what": "some" } }),
            json!({ "log": { "group": marks::POLICY_FLOW_GROUP } }),
            json!({ "flows": true }),
        ] {
            let error = Config::from_json(&wrong).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        }
        let error = Config::from_json(&json!({ "sample": 100 })).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.to_string().contains("policy.sample") && error.to_string().contains("policy: ebpf"), "{error}");
    }
}
