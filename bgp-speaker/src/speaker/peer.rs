//! One peer as the speaker holds it: its session, where it is, how long its routes are kept. Never its routes.

use super::peers::place;
use super::retention::Retention;
use super::{ConnId, DownReason, Target};
use crate::config::{PeerAddress, PeerConfig, PeerName};
use crate::session::Session;
use crate::types::{Asn, Negotiated, PeerId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Both ends of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) conn: ConnId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) interface: Option<Arc<str>>,
}

/// BFD with a peer, as it was begun and what it has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bfd {
    /// The peer's address, ours, and the device: other ones are another session.
    pub(crate) place: (IpAddr, IpAddr, Option<Arc<str>>),
    /// The peer is there.
    pub(crate) up: bool,
    /// Its BFD outlives its control plane.
    pub(crate) independent: bool,
}

/// What is counted of a peer since it is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions established.
    pub sessions: u64,
    /// UPDATEs taken in.
    pub updates_in: u64,
    /// Refreshes that it asked for.
    pub refreshes_in: u64,
    /// Refreshes that we asked it for.
    pub refreshes_out: u64,
    /// Bytes taken in.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Attributes mended as RFC 7606 says.
    pub mended: u64,
}

/// A peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) name: PeerName,
    pub(crate) config: PeerConfig,
    pub(crate) session: Session,
    /// What holds while the session is established: needed once more when it has ended.
    pub(crate) agreed: Option<Negotiated>,
    /// Where it is: configured, or found on an unnumbered interface.
    pub(crate) address: Option<IpAddr>,
    /// The range it came from by itself.
    pub(crate) range: Option<PeerName>,
    /// Connections that stand: two at most, until a collision is resolved.
    pub(crate) ends: Vec<Ends>,
    pub(crate) retention: Retention,
    /// Ended by us: it announced too much.
    pub(crate) held: bool,
    /// Held no longer then; `None`: until an administrator says so.
    pub(crate) resume: Option<Instant>,
    /// BFD, since it was begun.
    pub(crate) bfd: Option<Bfd>,
    /// Bytes handed over on the established connection that the kernel has not taken yet.
    pub(crate) queued_bytes: usize,
    /// So many that it is told nothing more until some are gone.
    pub(crate) is_full: bool,
    /// Since when the session is established, or is not.
    pub(crate) since: Instant,
    /// Why the last session or attempt ended.
    pub(crate) last: Option<DownReason>,
    pub(crate) counters: Counters,
    /// What stands in the table of timers.
    pub(crate) timer: Option<Instant>,
}

impl Peer {
    /// Where its connections come from.
    pub(crate) fn place(&self) -> Option<(IpAddr, Option<Arc<str>>)> {
        Some(place(self.address?, self.interface()))
    }

    /// The device of its sessions.
    pub(crate) fn interface(&self) -> Option<&Arc<str>> {
        match &self.config.address {
            PeerAddress::Interface(name) => Some(name),
            PeerAddress::Ip(_) => self.config.interface.as_ref(),
        }
    }

    /// The next moment at which it has to be asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.session.deadline(), self.retention.deadline(), self.resume].into_iter().flatten().min()
    }

    /// Both ends of its established connection.
    pub(crate) fn established(&self) -> Option<&Ends> {
        let conn = self.session.connection()?;
        self.ends.iter().find(|ends| ends.conn == conn)
    }

    /// How to connect to it; `None` as long as nobody knows where it is.
    pub(crate) fn target(&self, own: Asn) -> Option<Target> {
        let (ttl, least_ttl) = self.config.hops(own);
        Some(Target {
            remote: SocketAddr::new(self.address?, self.config.port),
            local: self.config.local,
            interface: self.interface().cloned(),
            ttl,
            least_ttl,
            password: self.config.password.as_ref().map(|secret| secret.reveal().clone()),
        })
    }
}
