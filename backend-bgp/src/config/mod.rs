//! The backend's section of the configuration: as written, checked, and what is wrong with it. Never looks at the node.

mod agree;
mod check;
mod fields;
mod raw;
mod selector;
mod sessions;
#[cfg(test)]
mod tests;
mod values;

pub use raw::{
    RawAddPath, RawBfd, RawConfig, RawIpip, RawMaxPrefixes, RawMode, RawNodes, RawPeer, RawRange, RawReflectors,
    RawRestart, RawSelection, RawServices, RawSession, RawTunnel, RawVxlan,
};
pub use selector::NodeSelector;

pub(crate) use check::{MIN_MTU_V4_BYTES, MIN_MTU_V6_BYTES, listen};
pub(crate) use fields::key_of;

use bgp_speaker::config::{PeerAddress, PeerConfig, PeerName, RemoteAsn, Restart, Selection};
use bgp_speaker::types::{Asn, Community, Family, LargeCommunity, RouterId};
use cni_core::backend::{Error, ErrorKind};
use cni_core::model::{Attributes, Encapsulation, InterfaceName};
use cni_core::strict::{StrictError, from_value};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};

/// The section's key.
pub const SECTION: &str = "bgp";
const KEYS: [&str; 21] = [
    "asn",
    "routerId",
    "port",
    "listenAddresses",
    "mode",
    "reflectors",
    "nodes",
    "session",
    "peers",
    "listenRanges",
    "policies",
    "communities",
    "encapsulation",
    "tunnel",
    "vxlan",
    "ipip",
    "families",
    "mtu",
    "serviceAdvertisement",
    "gracefulRestart",
    "selection",
];

/// Which nodes have sessions with which, besides [`Config::peers`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Each with each.
    Mesh,
    /// All with the nodes of this selector.
    Reflectors {
        /// Which nodes reflect.
        selector: NodeSelector,
        /// Their cluster; `None`: each its own BGP identifier.
        cluster_id: Option<RouterId>,
    },
    /// None.
    None,
}

/// What is different on some nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRule {
    /// Which nodes.
    pub selector: NodeSelector,
    /// Their system.
    pub asn: Option<Asn>,
    /// Their cluster as reflectors.
    pub cluster_id: Option<RouterId>,
    /// Whether they are drained.
    pub drain: Option<bool>,
}

/// A session, apart from who the peer is: [`PeerConfig::address`] and `asn` say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Everything but the password.
    pub config: PeerConfig,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// The section says how far away a peer may be.
    pub says_ttl: bool,
}

/// Who the peers of a rule are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// One at an address or on a device.
    One {
        /// Where.
        address: PeerAddress,
        /// Its system.
        asn: RemoteAsn,
    },
    /// Nodes of the cluster.
    Nodes(NodeSelector),
}

/// A rule of `peers`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRule {
    /// What it is called.
    pub name: PeerName,
    /// Which nodes have it.
    pub nodes: NodeSelector,
    /// Who the peers are.
    pub who: Who,
    /// Their sessions.
    pub template: Template,
}

/// A rule of `listenRanges`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRule {
    /// What it is called.
    pub name: PeerName,
    /// On which nodes.
    pub nodes: NodeSelector,
    /// From where.
    pub range: IpNet,
    /// At most so many at a time.
    pub limit: u32,
    /// Their sessions, with their system.
    pub template: Template,
}

/// Communities of a pool's blocks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Communities {
    /// Standard ones.
    pub standard: Vec<Community>,
    /// Large ones.
    pub large: Vec<LargeCommunity>,
}

/// The tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The device.
    pub device: InterfaceName,
    /// What wraps packets.
    pub kind: TunnelKind,
}

/// What wraps packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TunnelKind {
    /// VXLAN.
    Vxlan {
        /// VXLAN network identifier, 1 to 16 777 215.
        vni: u32,
        /// UDP port.
        port: NonZeroU16,
        /// Whether the kernel tracks outer packets as connections.
        track_outer: bool,
    },
    /// IPv4 in IPv4: IPv6 is never wrapped.
    Ipip,
}

/// The section, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The system of nodes that no rule says anything else of.
    pub asn: Asn,
    /// Our BGP identifier, where it is given.
    pub router_id: Option<RouterId>,
    /// The port of all speakers of the cluster.
    pub port: NonZeroU16,
    /// Where peers may connect to; `None`: our underlay addresses.
    pub listen: Option<Vec<IpAddr>>,
    /// Sessions among nodes.
    pub mode: Mode,
    /// What is different on some nodes.
    pub nodes: Vec<NodeRule>,
    /// Sessions among nodes.
    pub session: Template,
    /// Further peers.
    pub peers: Vec<PeerRule>,
    /// From where further ones may come.
    pub ranges: Vec<RangeRule>,
    /// Communities by pool.
    pub communities: BTreeMap<String, Communities>,
    /// What pools that say nothing want.
    pub encapsulation: Encapsulation,
    /// The tunnel; `None`: nothing is ever wrapped.
    pub tunnel: Option<Tunnel>,
    /// Families of pods, sorted, not empty.
    pub families: Vec<Family>,
    /// What the operator wants as MTU of pod interfaces, in bytes.
    pub mtu_bytes: Option<u32>,
    /// Service IP ranges that every node announces.
    pub services: Vec<IpNet>,
    /// Our own graceful restart.
    pub restart: Restart,
    /// The choice among paths.
    pub selection: Selection,
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

    /// The system of a node with these labels.
    #[must_use]
    pub fn asn_of(&self, labels: &Attributes) -> Asn {
        self.rules_of(labels).find_map(|rule| rule.asn).unwrap_or(self.asn)
    }

    /// Whether a node with these labels reflects routes.
    #[must_use]
    pub fn reflects(&self, labels: &Attributes) -> bool {
        matches!(&self.mode, Mode::Reflectors { selector, .. } if selector.matches(labels))
    }

    /// The cluster of a node with these labels, where it is not its BGP identifier. Only reflectors are of the common one:
    /// others would take what they reflect for a loop (RFC 4456, section 8).
    #[must_use]
    pub fn cluster_of(&self, labels: &Attributes) -> Option<RouterId> {
        let common = match &self.mode {
            Mode::Reflectors { selector, cluster_id } if selector.matches(labels) => *cluster_id,
            _ => None,
        };
        self.rules_of(labels).find_map(|rule| rule.cluster_id).or(common)
    }

    /// Whether a node with these labels is drained.
    #[must_use]
    pub fn drains(&self, labels: &Attributes) -> bool {
        self.rules_of(labels).find_map(|rule| rule.drain).unwrap_or(false)
    }

    /// Files with passwords that a node with these labels needs for certain, each with the path of its key.
    pub(crate) fn password_files(&self, labels: &Attributes) -> impl Iterator<Item = (String, &Path)> {
        let peers = self.peers.iter().enumerate().filter(|(_, rule)| rule.nodes.matches(labels));
        let peers = peers.map(|(index, rule)| (format!("peers[{index}].session"), &rule.template));
        let ranges = self.ranges.iter().enumerate().filter(|(_, rule)| rule.nodes.matches(labels));
        let ranges = ranges.map(|(index, rule)| (format!("listenRanges[{index}].session"), &rule.template));
        let all = std::iter::once(("session".to_owned(), &self.session)).chain(peers).chain(ranges);
        all.filter_map(|(path, template)| {
            Some((format!("{SECTION}.{path}.passwordFile"), template.password_file.as_deref()?))
        })
    }

    fn rules_of(&self, labels: &Attributes) -> impl Iterator<Item = &NodeRule> {
        self.nodes.iter().filter(|rule| rule.selector.matches(labels))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::try_from(RawConfig::default()).expect("the defaults are in range")
    }
}

/// A refused section as the backend's border speaks of it.
pub(crate) fn refused(error: StrictError) -> Error {
    let field = KEYS.into_iter().find(|key| error.path.split(['.', '[']).nth(1) == Some(key));
    Error { field, ..Error::new(ErrorKind::Invalid, "check", "configuration of backend bgp", &error) }.because(error)
}
