//! One peer: where it is, what it is to us, what may pass. Never its state.

use super::BGP_PORT;
use crate::policy::Policy;
use crate::types::{AddPathMode, Asn, Family, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where a peer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerAddress {
    /// At an address. A link-local one needs [`PeerConfig::interface`].
    Ip(IpAddr),
    /// Whoever sends router advertisements on an interface (unnumbered peering).
    Interface(Arc<str>),
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Interface(name) => write!(f, "interface {name}"),
        }
    }
}

/// Which system a peer may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RemoteAsn {
    /// This one.
    Exactly(Asn),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

impl RemoteAsn {
    /// Whether a peer of `asn` will do, for a speaker of `own`.
    #[must_use]
    pub fn allows(self, asn: Asn, own: Asn) -> bool {
        match self {
            Self::Exactly(expected) => asn == expected,
            Self::Internal => asn == own,
            Self::External => asn != own,
        }
    }

    /// Whether it is of our own system, for a speaker of `own`.
    #[must_use]
    pub fn is_internal(self, own: Asn) -> bool {
        match self {
            Self::Exactly(expected) => expected == own,
            Self::Internal => true,
            Self::External => false,
        }
    }
}

/// A password of TCP MD5. Never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Bytes that the kernel takes (`TCP_MD5SIG_MAXKEYLEN`).
    pub const MOST_BYTES: usize = 80;

    /// `None` for nothing, and for more than 80 bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=Self::MOST_BYTES).contains(&bytes.len()).then(|| Self(bytes.into()))
    }

    /// The password itself.
    #[must_use]
    pub fn reveal(&self) -> &Arc<[u8]> {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How far away packets of a peer may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TtlSecurity {
    /// An external peer is on the link (TTL 1), an internal one anywhere (TTL 64).
    Usual,
    /// An external peer is up to so many hops away, 1 to 255. What arrives is not checked.
    Multihop(u8),
    /// At most so many hops away, 1 to 254, and packets from farther are dropped. RFC 5082 (GTSM).
    AtMost(u8),
}

/// Timers of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// What we offer as hold time: 0, or 3 to 65535 seconds. The lower of both sides' holds.
    pub hold_seconds: u16,
    /// The least that we take from the peer; 0: anything.
    pub least_seconds: u16,
    /// Between attempts to connect, at first: 1 to 65535 seconds; it grows to 120 with errors.
    pub connect_retry: Duration,
    /// How long the peer may take nothing before the session ends (RFC 9687); `None`: for ever.
    pub send_hold: Option<Duration>,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            hold_seconds: 90,
            least_seconds: 0,
            connect_retry: Duration::from_secs(5),
            send_hold: Some(Duration::from_secs(480)),
        }
    }
}

/// Graceful restart of our own, towards all peers. RFC 4724.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// We ask peers to keep our routes while we are away. Without, we still keep theirs.
    pub enabled: bool,
    /// How long we may be away, 0 to 4095 seconds.
    pub time_seconds: u16,
    /// The most that routes of a peer that has come back may stay stale.
    pub stale_time: Duration,
    /// A NOTIFICATION and an expired hold timer keep routes too. RFC 8538.
    pub notification: bool,
}

impl Default for Restart {
    fn default() -> Self {
        Self { enabled: true, time_seconds: 120, stale_time: Duration::from_secs(360), notification: true }
    }
}

/// Long-lived graceful restart with a peer. RFC 9494.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongLived {
    /// How long routes may be stale after the restart time, 1 to 16 777 215 seconds.
    pub stale_time_seconds: u32,
}

/// BFD with a peer. RFC 5882.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bfd {
    /// Desired transmit and required receive interval, 10 ms to 60 s.
    pub interval: Duration,
    /// Packets missed until the peer is down, 1 to 255.
    pub multiplier: u8,
}

/// What happens when a peer announces too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// At most so many of a family, before the import policy; one more ends the session.
    pub limit: u32,
    /// A warning at so many per cent, 1 to 100.
    pub warn_percent: u8,
    /// Begin again after this long; `None`: an administrator does.
    pub restart_after: Option<Duration>,
}

/// Several paths of one prefix. RFC 7911.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddPath {
    /// Who sends them, from our view.
    pub mode: AddPathMode,
    /// At most so many of a prefix are sent, 1 to 64.
    pub send_max: u8,
}

/// Private AS numbers on paths to an external peer. RFC 6996.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum PrivateAsns {
    /// They stay.
    #[default]
    Keep,
    /// All of them are taken out.
    Remove,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where it is.
    pub address: PeerAddress,
    /// Its port.
    pub port: u16,
    /// Our address of the session; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// The device of the session, for link-local addresses and to bind to.
    pub interface: Option<Arc<str>>,
    /// Its system.
    pub asn: RemoteAsn,
    /// Never connect, only wait.
    pub passive: bool,
    /// Held down, with a text for the peer (RFC 9003, up to 255 bytes of UTF-8).
    pub shutdown: Option<String>,
    /// Password of TCP MD5.
    pub password: Option<Secret>,
    /// How far away it may be.
    pub ttl: TtlSecurity,
    /// Timers.
    pub hold: Hold,
    /// Families to offer, at least one.
    pub families: BTreeSet<Family>,
    /// IPv4 routes may have IPv6 next hops. RFC 8950. Always so with unnumbered peers.
    pub extended_next_hop: bool,
    /// BFD.
    pub bfd: Option<Bfd>,
    /// The peer is a client of us as a route reflector. Internal peers only. RFC 4456.
    pub reflector_client: bool,
    /// Routes of others go out with our own next hop, to internal peers too, and to external ones also where they could reach
    /// the next router themselves (RFC 4271, section 5.1.3).
    pub next_hop_self: bool,
    /// Where we have no IPv6 next hop for it, our IPv4 address inside of an IPv6 one is ours (RFC 4291, section 2.5.5.2): only
    /// for peers that know what to make of it, which routers do not.
    pub mapped_next_hop: bool,
    /// A default route goes out to it, whether we have one or not.
    pub default_originate: BTreeSet<Family>,
    /// How often our own system may be on a path from it; 0: never.
    pub allow_own_asn: u8,
    /// The first system of a path from an external peer need not be the peer's.
    pub skip_first_asn_check: bool,
    /// Private numbers on paths to it.
    pub private_asns: PrivateAsns,
    /// What it is to us. RFC 9234.
    pub role: Option<Role>,
    /// A peer that does not say its role is refused. RFC 9234, section 4.2.
    pub strict_role: bool,
    /// Several paths of one prefix.
    pub add_path: BTreeMap<Family, AddPath>,
    /// What its routes pass on their way in; `None`: all pass.
    pub import: Option<Arc<Policy>>,
    /// What routes pass on their way to it; `None`: all pass.
    pub export: Option<Arc<Policy>>,
    /// Limits by family.
    pub max_prefixes: BTreeMap<Family, MaxPrefixes>,
    /// Long-lived graceful restart.
    pub long_lived: Option<LongLived>,
    /// All routes to it carry GRACEFUL_SHUTDOWN: it shall find other ways before we go. RFC 8326.
    pub drain: bool,
}

/// Hops that an internal peer may be away. The kernel's default TTL.
const INTERNAL_TTL: u8 = 64;

impl PeerConfig {
    /// The TTL of what is sent to it, and the least of what is taken from it, for a speaker of `own`.
    #[must_use]
    pub fn hops(&self, own: Asn) -> (u8, Option<u8>) {
        match self.ttl {
            TtlSecurity::Usual if self.asn.is_internal(own) => (INTERNAL_TTL, None),
            TtlSecurity::Usual => (1, None),
            TtlSecurity::Multihop(hops) => (hops, None),
            // RFC 5082, section 3: a packet from `hops` away has lost `hops - 1` of its 255.
            TtlSecurity::AtMost(hops) => (u8::MAX, Some(u8::MAX - hops.saturating_sub(1))),
        }
    }

    /// Whether it is on a link of ours, for a speaker of `own`.
    #[must_use]
    pub fn is_direct(&self, own: Asn) -> bool {
        match self.ttl {
            TtlSecurity::Usual => !self.asn.is_internal(own),
            TtlSecurity::Multihop(_) => false,
            TtlSecurity::AtMost(hops) => hops == 1,
        }
    }

    /// A peer with everything usual.
    #[must_use]
    pub fn new(address: PeerAddress, asn: RemoteAsn) -> Self {
        Self {
            address,
            port: BGP_PORT,
            local: None,
            interface: None,
            asn,
            passive: false,
            shutdown: None,
            password: None,
            ttl: TtlSecurity::Usual,
            hold: Hold::default(),
            families: Family::ALL.into(),
            extended_next_hop: false,
            bfd: None,
            reflector_client: false,
            next_hop_self: false,
            mapped_next_hop: false,
            default_originate: BTreeSet::new(),
            allow_own_asn: 0,
            skip_first_asn_check: false,
            private_asns: PrivateAsns::Keep,
            role: None,
            strict_role: false,
            add_path: BTreeMap::new(),
            import: None,
            export: None,
            max_prefixes: BTreeMap::new(),
            long_lived: None,
            drain: false,
        }
    }
}
