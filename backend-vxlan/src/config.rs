//! The backend's section of the configuration: as written, checked, and what is wrong with it. Never looks at the node.

use cni_core::backend::{Error, ErrorKind};
use cni_core::model::InterfaceName;
use cni_core::strict::{StrictError, from_value};
use serde::Deserialize;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

const SECTION: &str = "vxlan";

/// A key and what its value has to be.
type Setting = (&'static str, &'static str);
const VNI: Setting = ("vni", "an integer from 1 to 16777215");
const PORT: Setting = ("port", "a port from 1 to 65535");
const MTU: Setting = ("mtu", "an integer from 576 to 65535 (from 1280 with IPv6 pods)");
const FAMILIES: Setting = ("families", "a list of ipv4 and ipv6, each at most once, not empty");
const DEVICE: Setting = ("deviceName", "an interface name of 1 to 15 bytes (1 to 13 with underlay: both)");
const CHECKSUM_INTERVAL: Setting =
    ("checksumTestIntervalSeconds", "an integer from 10 to 86400, or 0 for only at start");
const KEYS: [&str; 10] = [
    "mode",
    VNI.0,
    PORT.0,
    MTU.0,
    FAMILIES.0,
    "underlay",
    DEVICE.0,
    "checksumOffload",
    CHECKSUM_INTERVAL.0,
    "trackOuterPackets",
];

/// The smallest MTU of a link that carries IPv6, in bytes. RFC 8200, section 5.
pub const MIN_MTU_V6_BYTES: u32 = 1280;
/// The smallest datagram that every IPv4 host takes, in bytes. RFC 791, section 3.1.
pub const MIN_MTU_V4_BYTES: u32 = 576;

/// How packets reach pods of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Always through the kernel's VXLAN device.
    Vxlan,
    /// Plain routes to peers on our segment, VXLAN to the others.
    DirectRouting,
    /// Plain routes only; a peer on another segment is an error of that peer.
    HostGw,
    /// Through a TUN device and UDP sockets of this process, for places where VXLAN is not possible.
    Udp,
}

impl Mode {
    /// The name in configurations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::DirectRouting => "direct-routing",
            Self::HostGw => "host-gw",
            Self::Udp => "udp",
        }
    }

    /// The device that this mode encapsulates with.
    #[must_use]
    pub const fn tunnel(self) -> Tunnel {
        match self {
            Self::Vxlan | Self::DirectRouting => Tunnel::Vxlan,
            Self::HostGw => Tunnel::None,
            Self::Udp => Tunnel::Udp,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a mode wraps packets with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tunnel {
    /// Nothing.
    None,
    /// The kernel's VXLAN device.
    Vxlan,
    /// TUN and UDP sockets.
    Udp,
}

impl Tunnel {
    /// Bytes that wrapping adds to a pod's packet.
    ///
    /// VXLAN (RFC 7348, section 5): outer IP 20 or 40, UDP 8, VXLAN 8, inner Ethernet 14. `udp`: outer IP and UDP.
    #[must_use]
    pub const fn overhead_bytes(self, outer: Family) -> u32 {
        let outer_ip = match outer {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        };
        match self {
            Self::None => 0,
            Self::Vxlan => outer_ip + 8 + 8 + 14,
            Self::Udp => outer_ip + 8,
        }
    }
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

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// Which families carry the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OuterFamilies {
    /// IPv4 when the node has an IPv4 underlay address, else IPv6.
    #[default]
    Auto,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
    /// One device per family; each peer is reached over IPv4 when it has it, else over IPv6. The MTU allows for IPv6.
    Both,
}

/// What to do about the VTEP's transmit checksum offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumOffload {
    /// Test the path, and turn it off where the path is broken.
    #[default]
    Auto,
    /// Trust it.
    On,
    /// Compute every inner checksum in software.
    Off,
}

/// A VXLAN network identifier: 24 bits, 1 to 16 777 215. RFC 7348, section 5. Zero is left out: some switches reserve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vni(u32);

impl Vni {
    /// Flannel's, so that a cluster can move over without a change of firewalls.
    pub const DEFAULT: Self = Self(1);

    /// A VNI in range.
    #[must_use]
    pub const fn new(vni: u32) -> Option<Self> {
        if vni >= 1 && vni < 1 << 24 { Some(Self(vni)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
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
    /// UDP port of the tunnel; default 8472, in `udp` mode 8285 (both Flannel's).
    pub port: Option<u16>,
    /// MTU of pod interfaces in bytes; default: the underlay's less the overhead.
    pub mtu: Option<u32>,
    /// Families of pods; default both.
    pub families: Option<Vec<Family>>,
    /// Families of the tunnel's outside; default `auto`.
    pub underlay: Option<OuterFamilies>,
    /// Name of the tunnel device; default `cnidarian.<vni>`, in `udp` mode `cnidarian-udp`.
    pub device_name: Option<String>,
    /// The VTEP's transmit checksum offload; default `auto`.
    pub checksum_offload: Option<ChecksumOffload>,
    /// How often the path's checksums are tested in seconds; 0: only at start; default 600.
    pub checksum_test_interval_seconds: Option<u32>,
    /// Whether the kernel tracks VXLAN's outer packets as connections; default no.
    pub track_outer_packets: Option<bool>,
}

/// The section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How packets reach other nodes.
    pub mode: Mode,
    /// VXLAN network identifier.
    pub vni: Vni,
    /// UDP port of the tunnel.
    pub port: NonZeroU16,
    /// What the operator wants as MTU of pod interfaces, in bytes.
    pub mtu_bytes: Option<u32>,
    /// Families of pods, sorted, not empty.
    pub families: Vec<Family>,
    /// Families of the tunnel's outside.
    pub underlay: OuterFamilies,
    /// The tunnel device; with [`OuterFamilies::Both`] the IPv6 one has `v6` after it.
    pub device: InterfaceName,
    /// The VTEP's transmit checksum offload.
    pub checksum: ChecksumOffload,
    /// How often the path is tested again.
    pub checksum_interval: Option<Duration>,
    /// Whether the kernel tracks VXLAN's outer packets as connections.
    pub track_outer: bool,
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

    /// The name of the tunnel device for an outer family.
    #[must_use]
    pub fn device_for(&self, outer: Family) -> InterfaceName {
        match (self.underlay, outer) {
            (OuterFamilies::Both, Family::Ipv6) if self.mode.tunnel() == Tunnel::Vxlan => {
                InterfaceName::new(&format!("{}v6", self.device)).unwrap_or_else(|_| self.device.clone())
            }
            _ => self.device.clone(),
        }
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
        let refuse = |setting: Setting, value: &dyn fmt::Display| Err(wrong(setting, value));
        let mode = raw.mode.unwrap_or(Mode::Vxlan);
        let vni = match raw.vni.map(|vni| (vni, Vni::new(vni))) {
            None => Vni::DEFAULT,
            Some((_, Some(vni))) => vni,
            Some((vni, None)) => return refuse(VNI, &vni),
        };
        let default_port = if mode == Mode::Udp { 8285 } else { 8472 };
        let port = raw.port.unwrap_or(default_port);
        let Some(port) = NonZeroU16::new(port) else { return refuse(PORT, &port) };
        let families = families(raw.families.unwrap_or_else(|| vec![Family::Ipv4, Family::Ipv6]))?;
        if let Some(mtu) = raw.mtu {
            let least = if families.contains(&Family::Ipv6) { MIN_MTU_V6_BYTES } else { MIN_MTU_V4_BYTES };
            if !(least..=65_535).contains(&mtu) {
                return refuse(MTU, &mtu);
            }
        }
        let underlay = raw.underlay.unwrap_or_default();
        let name = raw.device_name.unwrap_or_else(|| default_device(mode, vni, underlay));
        let suffix_bytes = if underlay == OuterFamilies::Both { 2 } else { 0 };
        let device = match InterfaceName::new(&name) {
            Ok(device) if name.len() + suffix_bytes <= 15 => device,
            _ => return refuse(DEVICE, &format!("{name:?}")),
        };
        let checksum_interval = match raw.checksum_test_interval_seconds.unwrap_or(600) {
            0 => None,
            seconds @ 10..=86_400 => Some(Duration::from_secs(seconds.into())),
            seconds => return refuse(CHECKSUM_INTERVAL, &seconds),
        };
        Ok(Self {
            mode,
            vni,
            port,
            mtu_bytes: raw.mtu,
            families,
            underlay,
            device,
            checksum: raw.checksum_offload.unwrap_or_default(),
            checksum_interval,
            track_outer: raw.track_outer_packets.unwrap_or(false),
        })
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

/// `cnidarian.1` where 15 bytes allow, else `cni.16777215`.
fn default_device(mode: Mode, vni: Vni, underlay: OuterFamilies) -> String {
    let room = if underlay == OuterFamilies::Both { 13 } else { 15 };
    match (mode, format!("cnidarian.{vni}")) {
        (Mode::Udp, _) => "cnidarian-udp".to_owned(),
        (_, name) if name.len() <= room => name,
        _ => format!("cni.{vni}"),
    }
}

fn wrong((key, wants): Setting, value: impl fmt::Display) -> StrictError {
    StrictError { path: format!("{SECTION}.{key}"), problem: format!("is {value}; write {wants}") }
}

/// A refused section as the backend's border speaks of it.
pub(crate) fn refused(error: StrictError) -> Error {
    let field = KEYS.into_iter().find(|key| error.path.split(['.', '[']).nth(1) == Some(key));
    Error { field, ..Error::new(ErrorKind::Invalid, "check", "configuration of backend vxlan", &error) }.because(error)
}

#[cfg(test)]
mod tests;
