//! The section as written. Never used before it is checked.

use bgp_speaker::policy::RawPolicy;
use bgp_speaker::types::{AddPathMode, Family, Role};
use cni_core::model::Encapsulation;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// Which nodes of the cluster have sessions with which, besides `peers`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawMode {
    /// Each with each.
    #[default]
    Mesh,
    /// All with the route reflectors.
    Reflectors,
    /// None.
    None,
}

/// What wraps packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RawTunnel {
    /// VXLAN (RFC 7348), of IPv4 and IPv6.
    #[default]
    Vxlan,
    /// IPv4 in IPv4 (RFC 2003).
    Ipip,
}

/// The section `bgp`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawConfig {
    /// The system of all nodes that `nodes` says nothing else of; default 64512.
    pub asn: Option<u32>,
    /// Our BGP identifier; default: the IPv4 underlay address, else made of the node's name.
    pub router_id: Option<Ipv4Addr>,
    /// The port of all speakers of the cluster; default 179.
    pub port: Option<u16>,
    /// Where peers may connect to; default: our underlay addresses.
    pub listen_addresses: Option<Vec<IpAddr>>,
    /// Sessions among nodes; default `mesh`.
    pub mode: Option<RawMode>,
    /// The route reflectors, in mode `reflectors`.
    pub reflectors: Option<RawReflectors>,
    /// What is different on some nodes. The first entry that selects a node and says something counts.
    pub nodes: Option<Vec<RawNodes>>,
    /// Sessions among nodes.
    pub session: Option<RawSession>,
    /// Further peers.
    pub peers: Option<Vec<RawPeer>>,
    /// From where peers may come that are not named one by one.
    pub listen_ranges: Option<Vec<RawRange>>,
    /// Policies by name.
    pub policies: Option<BTreeMap<String, RawPolicy>>,
    /// Communities on blocks, by the name of their pool.
    pub communities: Option<BTreeMap<String, Vec<String>>>,
    /// What pools that say nothing want; default `Never`.
    pub encapsulation: Option<Encapsulation>,
    /// What wraps packets, where `encapsulation` is not `Never`; default `vxlan`.
    pub tunnel: Option<RawTunnel>,
    /// The tunnel `vxlan`.
    pub vxlan: Option<RawVxlan>,
    /// The tunnel `ipip`.
    pub ipip: Option<RawIpip>,
    /// Families of pods; default both.
    pub families: Option<Vec<Family>>,
    /// MTU of pod interfaces in bytes; default: the underlay's less the overhead of the tunnel.
    pub mtu: Option<u32>,
    /// Prefixes of services that every node announces.
    pub service_advertisement: Option<RawServices>,
    /// Our own graceful restart.
    pub graceful_restart: Option<RawRestart>,
    /// The choice among paths.
    pub selection: Option<RawSelection>,
}

/// Route reflectors.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawReflectors {
    /// Which nodes they are.
    pub selector: Value,
    /// Their cluster; default: each its own BGP identifier.
    pub cluster_id: Option<Ipv4Addr>,
}

/// What is different on some nodes.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawNodes {
    /// Which nodes.
    pub selector: Value,
    /// Their system.
    pub asn: Option<u32>,
    /// Their cluster as reflectors.
    pub cluster_id: Option<Ipv4Addr>,
    /// Others shall find ways around them: all that they announce carries GRACEFUL_SHUTDOWN (RFC 8326).
    pub drain: Option<bool>,
}

/// A peer, or the nodes that are peers.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawPeer {
    /// What it is called.
    pub name: String,
    /// Which nodes have it; default all.
    pub node_selector: Option<Value>,
    /// It is at this address.
    pub address: Option<IpAddr>,
    /// It is whoever answers on this device (unnumbered); with a link-local `address`: the device of that.
    pub interface: Option<String>,
    /// It is every node with these labels.
    pub peer_selector: Option<Value>,
    /// Its system: a number, `internal` or `external`. Not with `peerSelector`: nodes say their own.
    pub asn: Option<Value>,
    /// It is a client of ours as a route reflector.
    pub reflector_client: Option<bool>,
    /// The session.
    pub session: Option<RawSession>,
}

/// Peers that may come from a range.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawRange {
    /// What it is called.
    pub name: String,
    /// On which nodes; default all.
    pub node_selector: Option<Value>,
    /// From where.
    pub range: IpNet,
    /// Their system: a number, `internal` or `external`.
    pub asn: Value,
    /// At most so many at a time; default 100.
    pub limit: Option<u32>,
    /// They are clients of ours as a route reflector.
    pub reflector_client: Option<bool>,
    /// The sessions.
    pub session: Option<RawSession>,
}

/// How a session is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSession {
    /// The peer's port; default: `port` above.
    pub port: Option<u16>,
    /// Our address of it.
    pub local_address: Option<IpAddr>,
    /// We only wait for the peer.
    pub passive: Option<bool>,
    /// It is held down, with this text for the peer.
    pub shutdown: Option<String>,
    /// A file with the password of TCP MD5; a line break at its end does not count.
    pub password_file: Option<PathBuf>,
    /// An external peer may be so many hops away.
    pub multihop: Option<u8>,
    /// Packets from farther than so many hops are dropped (RFC 5082).
    pub gtsm: Option<u8>,
    /// Hold time; default 90.
    pub hold_seconds: Option<u16>,
    /// The least hold time that the peer may ask for; default any.
    pub least_hold_seconds: Option<u16>,
    /// Between attempts to connect; default 5.
    pub connect_retry_seconds: Option<u16>,
    /// How long the peer may take nothing (RFC 9687); 0: for ever; default 480.
    pub send_hold_seconds: Option<u32>,
    /// Families that it carries; default: those of pods.
    pub families: Option<Vec<Family>>,
    /// IPv4 routes with IPv6 next hops (RFC 8950).
    pub extended_next_hop: Option<bool>,
    /// BFD.
    pub bfd: Option<RawBfd>,
    /// Routes of others go out with our own next hop.
    pub next_hop_self: Option<bool>,
    /// Families of which a default route goes out.
    pub default_originate: Option<Vec<Family>>,
    /// How often our own system may be on a path.
    pub allow_own_asn: Option<u8>,
    /// Private AS numbers are taken out of paths to it.
    pub remove_private_asns: Option<bool>,
    /// What the peer is to us (RFC 9234).
    pub role: Option<Role>,
    /// A peer that does not say its role is refused.
    pub strict_role: Option<bool>,
    /// Several paths of one prefix (RFC 7911).
    pub add_path: Option<RawAddPath>,
    /// Name of the policy for what comes in.
    pub import: Option<String>,
    /// Name of the policy for what goes out.
    pub export: Option<String>,
    /// Prefixes of each family that the peer may announce.
    pub max_prefixes: Option<RawMaxPrefixes>,
    /// How long routes may be stale after the restart time (RFC 9494).
    pub long_lived_stale_seconds: Option<u32>,
}

/// BFD.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawBfd {
    /// Between packets, both ways; default 300.
    pub interval_milliseconds: Option<u64>,
    /// Packets missed until the peer is down; default 3.
    pub multiplier: Option<u8>,
}

/// Several paths of one prefix.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawAddPath {
    /// Who sends them: `receive`, `send` or `both`.
    pub mode: AddPathMode,
    /// At most so many of a prefix are sent; default 4.
    pub send_max: Option<u8>,
}

/// A limit.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawMaxPrefixes {
    /// One more ends the session.
    pub limit: u32,
    /// A warning at so many per cent; default 80.
    pub warn_percent: Option<u8>,
    /// Begin again after so many seconds; default: never by itself.
    pub restart_seconds: Option<u32>,
}

/// The tunnel `ipip`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawIpip {
    /// The device; default `cnidarian.bgp`.
    pub device_name: Option<String>,
}

/// The tunnel `vxlan`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawVxlan {
    /// VXLAN network identifier; default 4096.
    pub vni: Option<u32>,
    /// UDP port; default 4789.
    pub port: Option<u16>,
    /// The device; default `cnidarian.bgp`.
    pub device_name: Option<String>,
    /// Whether the kernel tracks outer packets as connections; default no.
    pub track_outer_packets: Option<bool>,
}

/// Prefixes of services.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawServices {
    /// Service IP ranges, each announced whole.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<IpNet>>,
}

/// Our own graceful restart.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawRestart {
    /// Default yes.
    pub enabled: Option<bool>,
    /// How long we may be away; default 120.
    pub time_seconds: Option<u16>,
    /// How long routes of a peer that came back may stay stale; default 360.
    pub stale_time_seconds: Option<u32>,
}

/// The choice among paths.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RawSelection {
    /// Paths that a route may use at once; default 16.
    pub max_paths: Option<u8>,
    /// External paths of equal length share the load though their systems differ.
    pub as_path_relax: Option<bool>,
    /// MEDs of different systems are compared.
    pub always_compare_med: Option<bool>,
    /// A missing MED is the greatest.
    pub missing_med_is_worst: Option<bool>,
}
