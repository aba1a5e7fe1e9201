//! The backend's section of the configuration: as written, checked, and what is wrong with it. Never looks at the node.

use cni_core::backend::{Error, ErrorKind};
use cni_core::model::InterfaceName;
use cni_core::strict::{StrictError, from_value};
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

const SECTION: &str = "ebpf";

/// A key and what its value has to be.
type Setting = (&'static str, &'static str);
const VNI: Setting = ("vni", "an integer from 1 to 16777215");
const PORT: Setting = ("port", "a port from 1 to 65535");
const MTU: Setting = ("mtu", "an integer from 576 to 65535 (from 1280 with IPv6 pods)");
const FAMILIES: Setting = ("families", "a list of ipv4 and ipv6, each at most once, not empty");
const DEVICE: Setting = ("deviceName", "an interface name of 1 to 15 bytes");
const MAX_PODS: Setting = ("maxPods", "an integer from 1 to 1048576");
const MAX_PREFIXES: Setting = ("maxPrefixes", "an integer from 1 to 1048576");
const MASQUERADE_PORTS: Setting =
    ("masqueradePorts", "FIRST-LAST, ports from 1024 to 65535 that nothing else on this node uses");
const MAX_MASQUERADED: Setting = ("maxMasqueraded", "an integer from 1 to 1048576");
const KEYS: [&str; 13] = [
    "mode",
    VNI.0,
    PORT.0,
    MTU.0,
    FAMILIES.0,
    DEVICE.0,
    "fastPath",
    MAX_PODS.0,
    MAX_PREFIXES.0,
    "masquerade",
    MASQUERADE_PORTS.0,
    MAX_MASQUERADED.0,
    "leaveClsact",
];

/// Between what Linux gives to sockets by itself (`ip_local_port_range`: 32768 to 60999) and the end.
const DEFAULT_PORTS: (u16, u16) = (61_000, 4536);

/// The smallest MTU of a link that carries IPv6, in bytes. RFC 8200, section 5.
pub const MIN_MTU_V6_BYTES: u32 = 1280;
/// The smallest datagram that every IPv4 host takes, in bytes. RFC 791, section 3.1.
pub const MIN_MTU_V4_BYTES: u32 = 576;
/// Entries of one map at most.
const MOST_ENTRIES: u32 = 1 << 20;

/// How packets reach pods of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Through one VXLAN device that a program tells where each packet goes.
    Vxlan,
    /// By plain routes to peers on our segment.
    Native,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::Native => "native",
        })
    }
}

/// Who masquerades.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// A chain of the host's stack.
    Nftables,
    /// Programs at the underlay.
    Ebpf,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Bytes that wrapping in VXLAN adds to a pod's packet: outer IP 20 or 40, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348,
    /// section 5).
    #[must_use]
    pub const fn overhead_bytes(self) -> u32 {
        let outer_ip = match self {
            Self::Ipv4 => 20,
            Self::Ipv6 => 40,
        };
        outer_ip + 8 + 8 + 14
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// The section as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawConfig {
    /// How packets reach other nodes; default `vxlan`.
    pub mode: Option<Mode>,
    /// VXLAN network identifier, 1 to 16777215; default 1.
    pub vni: Option<u32>,
    /// UDP port of the tunnel; default 4789 (RFC 7348, section 8).
    pub port: Option<u16>,
    /// MTU of pod interfaces in bytes; default: the underlay's less the overhead.
    pub mtu: Option<u32>,
    /// Families of pods; default both.
    pub families: Option<Vec<Family>>,
    /// Name of the tunnel device; default `cnidarian-ebpf`.
    pub device_name: Option<String>,
    /// Whether packets between pods skip the host's stack; default no.
    pub fast_path: Option<bool>,
    /// Addresses of local pods that there is room for; default 4096.
    pub max_pods: Option<u32>,
    /// Prefixes of other nodes that there is room for; default 65536.
    pub max_prefixes: Option<u32>,
    /// Who masquerades; default `nftables`.
    pub masquerade: Option<Engine>,
    /// Ports for masquerading by programs, `FIRST-LAST`; default 61000-65535.
    pub masquerade_ports: Option<String>,
    /// Masqueraded connections that there is room for; default 65536.
    pub max_masqueraded: Option<u32>,
    /// Whether programs of new pods are attached to TCX at once; default no.
    pub leave_clsact: Option<bool>,
}

/// The section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How packets reach other nodes.
    pub mode: Mode,
    /// VXLAN network identifier, 1 to 16 777 215. RFC 7348, section 5.
    pub vni: u32,
    /// UDP port of the tunnel.
    pub port: NonZeroU16,
    /// What the operator wants as MTU of pod interfaces, in bytes.
    pub mtu_bytes: Option<u32>,
    /// Families of pods, sorted, not empty.
    pub families: Vec<Family>,
    /// The tunnel device.
    pub device: InterfaceName,
    /// Whether packets between pods skip the host's stack.
    pub fast_path: bool,
    /// Addresses of local pods that there is room for.
    pub max_pods: u32,
    /// Prefixes of other nodes that there is room for.
    pub max_prefixes: u32,
    /// Who masquerades.
    pub masquerade: Engine,
    /// The first port for masquerading by programs, and how many there are.
    pub masquerade_ports: (u16, u16),
    /// Masqueraded connections that there is room for.
    pub max_masqueraded: u32,
    /// Whether clsact is left to others, as to the `bandwidth` plugin: programs of new pods are attached to TCX at once, and an ADD waits.
    pub leave_clsact: bool,
}

impl Config {
    /// Reads the section; `null` is an empty one.
    ///
    /// # Errors
    /// [`StrictError`] that names key, value and what would be right.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, StrictError> {
        let section = if value.is_null() { serde_json::json!({}) } else { value.clone() };
        from_value::<RawConfig>(section, SECTION)?.try_into()
    }

    /// Whether programs of ours have work to do at all.
    #[must_use]
    pub fn needs_programs(&self) -> bool {
        self.fast_path || self.mode == Mode::Vxlan
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::try_from(RawConfig::default()).expect("the defaults are in range")
    }
}

impl TryFrom<RawConfig> for Config {
    type Error = StrictError;

    fn try_from(raw: RawConfig) -> Result<Self, StrictError> {
        let vni = in_range(VNI, raw.vni.unwrap_or(1), 1, (1 << 24) - 1)?;
        let port = raw.port.unwrap_or(4789);
        let port = NonZeroU16::new(port).ok_or_else(|| wrong(PORT, port))?;
        let families = families(raw.families.unwrap_or_else(|| vec![Family::Ipv4, Family::Ipv6]))?;
        let least = if families.contains(&Family::Ipv6) { MIN_MTU_V6_BYTES } else { MIN_MTU_V4_BYTES };
        let mtu_bytes = raw.mtu.map(|mtu| in_range(MTU, mtu, least, 65_535)).transpose()?;
        let name = raw.device_name.unwrap_or_else(|| "cnidarian-ebpf".to_owned());
        let device = InterfaceName::new(&name).map_err(|_| wrong(DEVICE, format!("{name:?}")))?;
        Ok(Self {
            mode: raw.mode.unwrap_or(Mode::Vxlan),
            vni,
            port,
            mtu_bytes,
            families,
            device,
            fast_path: raw.fast_path.unwrap_or(false),
            max_pods: in_range(MAX_PODS, raw.max_pods.unwrap_or(4096), 1, MOST_ENTRIES)?,
            max_prefixes: in_range(MAX_PREFIXES, raw.max_prefixes.unwrap_or(65_536), 1, MOST_ENTRIES)?,
            masquerade: raw.masquerade.unwrap_or(Engine::Nftables),
            masquerade_ports: raw.masquerade_ports.as_deref().map_or(Ok(DEFAULT_PORTS), ports)?,
            max_masqueraded: in_range(MAX_MASQUERADED, raw.max_masqueraded.unwrap_or(65_536), 1, MOST_ENTRIES)?,
            leave_clsact: raw.leave_clsact.unwrap_or(false),
        })
    }
}

fn in_range(setting: Setting, value: u32, least: u32, most: u32) -> Result<u32, StrictError> {
    if (least..=most).contains(&value) { Ok(value) } else { Err(wrong(setting, value)) }
}

fn ports(text: &str) -> Result<(u16, u16), StrictError> {
    let number = |text: &str| text.trim().parse::<u16>().ok();
    let ends = text.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    match ends {
        Some((first, last)) if 1024 <= first && first <= last => Ok((first, last - first + 1)),
        _ => Err(wrong(MASQUERADE_PORTS, format!("{text:?}"))),
    }
}

fn families(mut families: Vec<Family>) -> Result<Vec<Family>, StrictError> {
    let given = families.len();
    families.sort_unstable();
    families.dedup();
    if families.is_empty() || families.len() != given {
        let names: Vec<String> = families.iter().map(|family| family.to_string().to_lowercase()).collect();
        let value =
            if names.is_empty() { "[]".to_owned() } else { format!("a list with {} twice", names.join(" or ")) };
        return Err(wrong(FAMILIES, value));
    }
    Ok(families)
}

fn wrong((key, wants): Setting, value: impl fmt::Display) -> StrictError {
    StrictError { path: format!("{SECTION}.{key}"), problem: format!("is {value}; write {wants}") }
}

/// A refused section as the backend's border speaks of it.
pub(crate) fn refused(error: StrictError) -> Error {
    let field = KEYS.into_iter().find(|key| error.path.split(['.', '[']).nth(1) == Some(key));
    Error { field, ..Error::new(ErrorKind::Invalid, "check", "configuration of backend ebpf", &error) }.because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_out_of_range_is_refused_by_its_key() {
        for (section, key) in [
            (json!({ "vni": 0 }), "vni"),
            (json!({ "vni": 1 << 24 }), "vni"),
            (json!({ "port": 0 }), "port"),
            (json!({ "mtu": 1279 }), "mtu"),
            (json!({ "families": [] }), "families"),
            (json!({ "families": ["ipv4", "ipv4"] }), "families"),
            (json!({ "deviceName": "a name that is too long" }), "deviceName"),
            (json!({ "maxPods": 0 }), "maxPods"),
            (json!({ "maxPrefixes": 2_000_000 }), "maxPrefixes"),
            (json!({ "mode": "geneve" }), "mode"),
            (json!({ "masquerade": "iptables" }), "masquerade"),
            (json!({ "masqueradePorts": "61000" }), "masqueradePorts"),
            (json!({ "masqueradePorts": "65535-61000" }), "masqueradePorts"),
            (json!({ "masqueradePorts": "80-90" }), "masqueradePorts"),
            (json!({ "maxMasqueraded": 0 }), "maxMasqueraded"),
        ] {
            let error = refused(Config::from_json(&section).unwrap_err());
            assert_eq!(error.field, Some(key), "{error}");
        }
        assert!(Config::from_json(&json!({ "bogus": 1 })).is_err());
    }

    #[test]
    fn only_plain_routes_through_the_stack_need_no_program() {
        let needs = |section| Config::from_json(&section).unwrap().needs_programs();
        assert!(needs(json!({})));
        assert!(needs(json!({ "mode": "native", "fastPath": true })));
        assert!(!needs(json!({ "mode": "native" })));
    }
}
