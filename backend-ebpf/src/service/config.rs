//! The section of services in eBPF: as written, and checked. Never looks at the node.

use crate::bpffs::BPFFS;
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::strict::from_value;
use serde::Deserialize;
use std::path::PathBuf;

/// The name of the section.
pub const SECTION: &str = "services";

/// The most entries of one map: with Maglev's tables that is 2 GB.
const MOST: u32 = 1 << 20;

/// How many entries maps have room for. One that is full refuses, and what needs it is a problem of its service's; of those
/// that programs fill, what was quiet for longest makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sizes {
    /// Network namespaces that are served: pods of this node, and the node itself.
    pub clients: u32,
    /// Prefixes of `loadBalancerSourceRanges`, of all frontends together.
    pub ranges: u32,
    /// Addresses with port and protocol: a service has one for each of its addresses and ports.
    pub frontends: u32,
    /// Backends of all frontends together.
    pub backends: u32,
    /// Frontends that choose by Maglev's table, of 2 KB each.
    pub tables: u32,
    /// Backends of all frontends with affinity or over UDP together.
    pub members: u32,
    /// Clients with affinity. Filled by programs.
    pub affinity: u32,
    /// Sockets that were led to a backend, and so show the service. Filled by programs.
    pub sockets: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            clients: 4096,
            ranges: 65_536,
            frontends: 65_536,
            backends: 524_288,
            tables: 16_384,
            members: 262_144,
            affinity: 65_536,
            sockets: 65_536,
        }
    }
}

impl Sizes {
    /// Each with its name in the configuration and that of its map.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, &'static str, u32); 9] {
        [
            ("maps.clients", "CLIENTS", self.clients),
            // One of each version.
            ("maps.clients", "ADDRESSES", self.clients.saturating_mul(2)),
            ("maps.ranges", "RANGES", self.ranges),
            ("maps.frontends", "FRONTENDS", self.frontends),
            ("maps.backends", "SLOTS", self.backends),
            ("maps.tables", "TABLES", self.tables),
            ("maps.members", "MEMBERS", self.members),
            ("maps.affinity", "AFFINITY", self.affinity),
            ("maps.sockets", "REVERSE", self.sockets),
        ]
    }

    /// The key of the configuration that says how large a map is.
    pub(super) fn key_of(&self, map: &str) -> Option<(&'static str, u32)> {
        self.named().into_iter().find(|(_, name, _)| *name == map).map(|(key, _, entries)| (key, entries))
    }
}

/// The configuration: `{"cgroup": "/sys/fs/cgroup/kubepods", "bpffs": "/sys/fs/bpf", "maps": {"frontends": 65536}, "outsideClients": true}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// The directory of cgroup v2 whose processes see services; `None`: the root of the first mount of cgroup v2.
    pub cgroup: Option<PathBuf>,
    /// Where the BPF file system is; mounted there if it is not.
    pub bpffs: PathBuf,
    /// Entries of maps, 1 to 1 048 576 each.
    pub maps: Sizes,
    /// Whether clients outside of the node are served too, by nftables.
    pub outside_clients: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { cgroup: None, bpffs: PathBuf::from(BPFFS), maps: Sizes::default(), outside_clients: true }
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
        for (key, _, entries) in read.maps.named() {
            if !(1..=MOST).contains(&entries) {
                let detail = format!("{SECTION}.{key} is {entries}; write 1 to {MOST}");
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
        let read = Config::from_json(&json!({ "maps": { "backends": 7 } })).unwrap();
        assert_eq!(read.maps, Sizes { backends: 7, ..Sizes::default() });
        for (wrong, named) in [
            (json!({ "cgroups": "/a" }), "cgroups"),
            (json!({ "cgroup": "a" }), "services.cgroup"),
            (json!({ "bpffs": "a" }), "services.bpffs"),
            (json!({ "maps": { "clients": 0 } }), "services.maps.clients is 0"),
            (json!({ "maps": { "sockets": MOST + 1 } }), "services.maps.sockets"),
            (json!({ "maps": { "slots": 7 } }), "slots"),
            (json!(7), "services"),
        ] {
            let error = Config::from_json(&wrong).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
