//! The configuration as it is written. Never used beyond [`super::read_config`].

use serde::Deserialize;
use std::path::PathBuf;

/// Keys of the document itself, besides the backends' sections. One list, so that a section's misspelt name finds them.
pub(super) const KEYS: &[&str] = &[
    "nodeName",
    "backend",
    "backendConfig",
    "policy",
    "underlay",
    "ipam",
    "masquerade",
    "services",
    "mtu",
    "store",
    "stateDir",
    "socket",
    "metrics",
    "log",
    "resyncSeconds",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawConfig {
    pub(super) node_name: Option<String>,
    pub(super) backend: String,
    pub(super) backend_config: Option<serde_json::Value>,
    pub(super) policy: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) underlay: RawUnderlay,
    #[serde(default)]
    pub(super) ipam: RawIpam,
    #[serde(default)]
    pub(super) masquerade: RawMasquerade,
    pub(super) services: Option<serde_json::Value>,
    pub(super) mtu: Option<u32>,
    pub(super) store: Option<RawStore>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) socket: Option<PathBuf>,
    pub(super) metrics: Option<RawMetrics>,
    pub(super) log: Option<String>,
    pub(super) resync_seconds: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawUnderlay {
    pub(super) interface: Option<String>,
    pub(super) v4: Option<String>,
    pub(super) v6: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawIpam {
    pub(super) mode: Option<RawMode>,
    #[serde(default)]
    pub(super) pools: Vec<RawPool>,
    pub(super) cool_down_seconds: Option<u64>,
    pub(super) strict_affinity: Option<bool>,
    pub(super) max_blocks_per_node: Option<u32>,
    pub(super) leak_grace_seconds: Option<u64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawMode {
    Pools,
    PodCidr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawPool {
    pub(super) name: String,
    pub(super) cidr: String,
    pub(super) block_size: Option<u8>,
    pub(super) encapsulation: Option<cni_core::model::Encapsulation>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMasquerade {
    pub(super) enabled: Option<bool>,
    #[serde(default, rename = "nonMasqueradeCIDRs")]
    pub(super) keep: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawStore {
    Memory,
    Files(RawFiles),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawFiles {
    pub(super) directory: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMetrics {
    pub(super) address: String,
}
