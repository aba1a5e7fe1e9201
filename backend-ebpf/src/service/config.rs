//! The section of services in eBPF: as written, and checked. Never looks at the node.

use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::strict::from_value;
use serde::Deserialize;
use std::path::PathBuf;

/// The name of the section.
pub const SECTION: &str = "services.ebpf";

/// The configuration: `{"cgroup": "/sys/fs/cgroup/kubepods", "bpffs": "/sys/fs/bpf"}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The directory of cgroup v2 whose processes see services; `None`: the root of the first mount of cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// Where the BPF file system is; mounted there if it is not.
    pub bpffs: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self { cgroup: None, bpffs: PathBuf::from("/sys/fs/bpf") }
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
        let object = "configuration of services in eBPF";
        let read: Self = from_value(section.clone(), SECTION)
            .map_err(|error| Error::new(ErrorKind::Invalid, "check", object, &error).because(error))?;
        for (key, path) in [("cgroup", read.cgroup.as_ref()), ("bpffs", Some(&read.bpffs))] {
            if path.is_some_and(|path| path.is_relative()) {
                let detail = format!("{SECTION}.{key}: a path from the root, such as /sys/fs/cgroup");
                return Err(Error::new(ErrorKind::Invalid, "check", object, detail));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_and_what_cannot_be_is_refused() {
        assert_eq!(Config::from_json(&json!(null)).unwrap(), Config::default());
        let read = Config::from_json(&json!({ "cgroup": "/sys/fs/cgroup/a" })).unwrap();
        assert_eq!(read, Config { cgroup: Some("/sys/fs/cgroup/a".into()), ..Config::default() });
        for wrong in [json!({ "cgroups": "/a" }), json!({ "cgroup": "a" }), json!({ "bpffs": "a" }), json!(7)] {
            assert_eq!(Config::from_json(&wrong).unwrap_err().kind, ErrorKind::Invalid, "{wrong}");
        }
    }
}
