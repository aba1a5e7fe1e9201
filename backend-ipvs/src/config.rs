//! The engine's section of the configuration: as written, and checked. Never looks at the node.

use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::strict::from_value;
use serde::Deserialize;
use std::time::Duration;

/// The name of the section.
pub const SECTION: &str = "services";

/// How long a destination that was taken away may finish its connections, where the configuration says nothing.
const DRAIN_SECONDS: u32 = 900;
/// The longest time that can be asked for: a day.
const MOST_DRAIN_SECONDS: u32 = 86_400;

/// As written.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct RawConfig {
    drain_seconds: u32,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self { drain_seconds: DRAIN_SECONDS }
    }
}

/// The configuration: `{"drainSeconds": 900}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long a destination that was taken away may finish its connections, 0 (not at all) to a day.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { drain: Duration::from_secs(DRAIN_SECONDS.into()) }
    }
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
        const WHAT: &str = "configuration of services on IPVS";
        let raw: RawConfig = from_value(section.clone(), SECTION)
            .map_err(|error| Error::new(ErrorKind::Invalid, "check", WHAT, &error).because(error))?;
        if raw.drain_seconds > MOST_DRAIN_SECONDS {
            let detail = format!("{} is more than a day; write 0 to {MOST_DRAIN_SECONDS}", raw.drain_seconds);
            let error = Error::new(ErrorKind::Invalid, "check", WHAT, detail);
            return Err(Error { field: Some("drainSeconds"), ..error });
        }
        Ok(Self { drain: Duration::from_secs(raw.drain_seconds.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_refused() {
        assert_eq!(Config::from_json(&json!({})).unwrap(), Config::default());
        assert_eq!(Config::from_json(&json!({ "drainSeconds": 0 })).unwrap().drain, Duration::ZERO);
        for wrong in [json!({ "drain": 1 }), json!({ "drainSeconds": 86_401 }), json!({ "drainSeconds": "15m" })] {
            let error = Config::from_json(&wrong).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        }
    }
}
