//! What goes into a speaker and what comes out. Never how.

use crate::config::PeerName;
use crate::rib::NearLimit;
use crate::types::{Notification, PeerId, Problem};
use bytes::Bytes;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A TCP connection; the speaker gives ids to those it asks for, the transport to those that come in. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnId {
    /// Asked for by [`Output::Connect`].
    Out(u64),
    /// Accepted.
    In(u64),
}

/// Where to connect to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The peer.
    pub remote: SocketAddr,
    /// Our address; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// Bound to this device, and the scope of a link-local `remote`.
    pub interface: Option<Arc<str>>,
    /// The TTL or hop limit of what is sent: 1 for a plain external peer, 255 with GTSM.
    pub ttl: u8,
    /// Drop what arrives with less (RFC 5082); `None`: take all.
    pub least_ttl: Option<u8>,
    /// Key for TCP MD5 (RFC 2385), 1 to 80 bytes.
    pub password: Option<Arc<[u8]>>,
}

/// Why a connection did not come about or ended, as the transport saw it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectFailure {
    /// The other side has nobody listening, or closed at once.
    #[error("refused")]
    Refused,
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// No way to the peer.
    #[error("unreachable")]
    Unreachable,
    /// The peer closed.
    #[error("closed by the peer")]
    Closed,
    /// The peer reset it.
    #[error("reset by the peer")]
    Reset,
    /// Something of our own, such as an address that we do not have.
    #[error("{0}")]
    Local(std::io::ErrorKind),
}

/// How packets reach an address of the underlay, as the kernel's FIB says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resolution {
    /// The cost of the way: smaller is nearer. 0 on link.
    pub metric: u32,
    /// The way itself.
    pub via: Via,
}

/// A way out of this node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Via {
    /// The device.
    pub interface: Arc<str>,
    /// The next router; `None`: the address itself is on the link.
    pub gateway: Option<IpAddr>,
}

/// A next hop of a route for the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hop {
    /// The router's address. One that is not link-local is being tracked: the ways to it are known.
    pub address: IpAddr,
    /// The link of a link-local address.
    pub interface: Option<Arc<str>>,
}

/// Addresses of this node by device, each with the length of its network.
pub type Addresses = BTreeMap<Arc<str>, BTreeSet<IpNet>>;

/// What comes in.
#[derive(Debug)]
pub enum Input<'a> {
    /// A connection that was asked for is there.
    Connected {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
        /// The device its packets come over, where the transport knows it.
        interface: Option<Arc<str>>,
    },
    /// A connection came in. The speaker closes it when it has no peer for it.
    Accepted {
        /// Which.
        conn: ConnId,
        /// Our end.
        local: SocketAddr,
        /// The peer's end.
        remote: SocketAddr,
        /// The device its packets come over, where the transport knows it.
        interface: Option<Arc<str>>,
    },
    /// A connection that was asked for did not come about.
    Failed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: ConnectFailure,
    },
    /// Bytes of a connection, cut anywhere.
    Received {
        /// Which.
        conn: ConnId,
        /// What.
        bytes: &'a [u8],
    },
    /// A connection ended. Also after [`Output::Close`], where it says nothing new.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: ConnectFailure,
    },
    /// The transport has handed bytes of a connection to the kernel.
    Sent {
        /// Which.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// The kernel's way to a next hop that was asked for, or that there is none.
    Resolved {
        /// The next hop.
        address: IpAddr,
        /// The way; several for a way over several links.
        ways: Vec<Resolution>,
    },
    /// BFD says whether a peer is reachable.
    Bfd {
        /// Which peer.
        peer: PeerId,
        /// Up, or down.
        up: bool,
        /// The peer's BFD lives on when its control plane dies: the C bit of what it sent last (RFC 5880, section 4.1). Told
        /// again, with the same `up`, when it changes.
        independent: bool,
    },
    /// A router advertisement named a neighbour on an interface of an unnumbered peer.
    Neighbour {
        /// The interface.
        interface: Arc<str>,
        /// The neighbour's link-local address; `None`: it has gone.
        address: Option<std::net::Ipv6Addr>,
    },
    /// The addresses of this node, all of them: what is not named any more is gone.
    Addresses(Addresses),
    /// Nothing but time has passed.
    Tick,
}

/// What goes out, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect, and say [`Input::Connected`] or [`Input::Failed`].
    Connect {
        /// How the connection is called from here on.
        conn: ConnId,
        /// Whereto.
        target: Target,
    },
    /// Send. The bytes are shared among the peers of a group.
    Send {
        /// On which connection.
        conn: ConnId,
        /// Whole messages.
        bytes: Bytes,
    },
    /// Close a connection once what was sent before is out; drop it after a second.
    Close {
        /// Which.
        conn: ConnId,
    },
    /// Tell [`Input::Resolved`] of an address now and whenever it changes.
    Track {
        /// The next hop.
        address: IpAddr,
    },
    /// Stop telling.
    Untrack {
        /// The next hop.
        address: IpAddr,
    },
    /// Begin BFD with a peer, or change it.
    StartBfd {
        /// Which peer.
        peer: PeerId,
        /// Its address.
        remote: IpAddr,
        /// Ours.
        local: Option<IpAddr>,
        /// The peer is on the link (RFC 5881), not several hops away (RFC 5883).
        single_hop: bool,
        /// The device of a single hop, where it is known: packets over another are not heard.
        interface: Option<Arc<str>>,
        /// Desired transmit and required receive interval.
        interval: Duration,
        /// Packets missed until the peer is down.
        multiplier: u8,
    },
    /// End BFD with a peer.
    StopBfd {
        /// Which peer.
        peer: PeerId,
    },
    /// A route for the kernel, as it is now: it may be the same as before.
    Route {
        /// The prefix.
        prefix: IpNet,
        /// Where packets go, sorted: several for ECMP, none when the route goes.
        hops: Vec<Hop>,
    },
    /// The routes of a family are complete (after a restart: now what is left of the old process may be removed).
    InSync {
        /// The family.
        family: crate::types::Family,
    },
    /// For the log: a peer changed its state.
    Peer {
        /// Which.
        peer: PeerId,
        /// As it is configured; for one out of a range the range's name and its address.
        name: PeerName,
        /// What happened.
        event: PeerEvent,
    },
}

/// What happened to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerEvent {
    /// The session is established.
    Up,
    /// The session ended.
    Down(DownReason),
    /// An UPDATE was mended as RFC 7606 says.
    Mended(Problem),
    /// It has come near to what it may announce.
    NearLimit(NearLimit),
}

/// Why a session ended or did not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DownReason {
    /// We said so.
    #[error("we closed: {0}")]
    Sent(Notification),
    /// The peer said so.
    #[error("the peer closed: {0}")]
    Received(Notification),
    /// The connection went away.
    #[error("connection {0}")]
    Connection(ConnectFailure),
    /// Nobody has begun it: an administrator's wish, or an interface without a neighbour.
    #[error("idle")]
    Idle,
}
