//! One peer as the speaker holds it: its session, where it is, how long its routes are kept. Never its routes.

use super::peers::place;
use super::retention::Retention;
use super::{ConnId, DownReason, Target};
use crate::config::{PeerAddress, PeerConfig, PeerName, TtlSecurity};
use crate::session::Session;
use crate::types::{Asn, Negotiated, PeerId};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Hops that an internal peer may be away. The kernel's default TTL.
const INTERNAL_TTL: u8 = 64;

/// Both ends of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    pub(crate) conn: ConnId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) interface: Option<Arc<str>>,
}

/// What is counted of a peer since it is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions established.
    pub sessions: u64,
    /// UPDATEs taken in.
    pub updates_in: u64,
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
    /// BFD was begun, and has said that the peer is there.
    pub(crate) bfd: Option<bool>,
    /// Bytes handed over on the established connection that the kernel has not taken yet.
    pub(crate) queued_bytes: usize,
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
        let (ttl, least_ttl) = hops(&self.config, own);
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

/// The TTL of what is sent to a peer, and the least of what is taken from it.
pub(crate) fn hops(peer: &PeerConfig, own: Asn) -> (u8, Option<u8>) {
    match peer.ttl {
        TtlSecurity::Usual if peer.asn.is_internal(own) => (INTERNAL_TTL, None),
        TtlSecurity::Usual => (1, None),
        TtlSecurity::Multihop(hops) => (hops, None),
        // RFC 5082, section 3: a packet from `hops` away has lost `hops - 1` of its 255.
        TtlSecurity::AtMost(hops) => (u8::MAX, Some(u8::MAX - hops.saturating_sub(1))),
    }
}

/// Whether a peer is on our link.
pub(crate) fn is_direct(peer: &PeerConfig, own: Asn) -> bool {
    match peer.ttl {
        TtlSecurity::Usual => !peer.asn.is_internal(own),
        TtlSecurity::Multihop(_) => false,
        TtlSecurity::AtMost(hops) => hops == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RemoteAsn;

    /// RFC 5082, section 3.
    #[test]
    fn gtsm_sends_255_and_takes_no_less_than_the_distance_allows() {
        let own = Asn::new(64_512).unwrap();
        let mut peer = PeerConfig::new(PeerAddress::Ip([192, 0, 2, 1].into()), RemoteAsn::External);
        assert_eq!(hops(&peer, own), (1, None));
        peer.ttl = TtlSecurity::AtMost(1);
        assert_eq!(hops(&peer, own), (255, Some(255)));
        peer.ttl = TtlSecurity::AtMost(254);
        assert_eq!(hops(&peer, own), (255, Some(2)));
        peer.ttl = TtlSecurity::Multihop(7);
        assert_eq!(hops(&peer, own), (7, None));
        peer = PeerConfig { ttl: TtlSecurity::Usual, asn: RemoteAsn::Internal, ..peer };
        assert_eq!(hops(&peer, own), (64, None));
    }
}
