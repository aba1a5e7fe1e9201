//! What a session is configured to be and to offer. Never what came of it.

use crate::config::{PeerAddress, PeerConfig, Restart};
use crate::types::{Asn, Capabilities, Family, GracefulRestart, LongLivedFamily, Open, RestartFamily, RouterId};
use std::collections::BTreeSet;

/// One side of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Our system.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: RouterId,
    /// The peer. Its address and how to reach it are the speaker's.
    pub peer: PeerConfig,
    /// Our graceful restart.
    pub restart: Restart,
    /// We have restarted and wait for routes (R bit). RFC 4724, section 4.1. Said in the next OPEN.
    pub restarting: bool,
    /// Families whose routes the kernel has kept since the session before (F bit). Said in the next OPEN.
    pub forwarding_kept: BTreeSet<Family>,
}

impl Config {
    /// The peer is of our own system, as far as one can tell before its OPEN.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.peer.asn.is_internal(self.asn)
    }

    /// IPv4 routes may have IPv6 next hops: always so where the peer has nothing but a link-local address.
    fn extended_next_hop(&self) -> bool {
        self.peer.extended_next_hop || matches!(self.peer.address, PeerAddress::Interface(_))
    }

    /// Our OPEN.
    #[must_use]
    pub fn open(&self) -> Open {
        let peer = &self.peer;
        let kept = |family: &Family| self.forwarding_kept.contains(family);
        let restart_families = peer.families.iter().filter(|_| self.restart.enabled);
        let restart = GracefulRestart {
            restarting: self.restarting,
            notification: self.restart.notification,
            restart_time_seconds: if self.restart.enabled { self.restart.time_seconds } else { 0 },
            families: restart_families
                .clone()
                .map(|family| RestartFamily { family: *family, forwarding_kept: kept(family) })
                .collect(),
        };
        let long_lived = peer.long_lived.iter().flat_map(|long_lived| {
            restart_families.clone().map(|family| LongLivedFamily {
                family: *family,
                forwarding_kept: kept(family),
                stale_time_seconds: long_lived.stale_time_seconds,
            })
        });
        Open {
            asn: self.asn.two_bytes(),
            hold_time_seconds: peer.hold.hold_seconds,
            id: self.router_id,
            capabilities: Capabilities {
                families: peer.families.clone(),
                asn: Some(self.asn),
                route_refresh: true,
                enhanced_route_refresh: true,
                extended_message: true,
                extended_next_hop: peer
                    .families
                    .iter()
                    .copied()
                    .filter(|family| *family == Family::Ipv4 && self.extended_next_hop())
                    .collect(),
                add_path: peer.add_path.iter().map(|(family, add_path)| (*family, add_path.mode)).collect(),
                graceful_restart: Some(restart),
                long_lived: long_lived.collect(),
                role: peer.role.filter(|_| !self.is_internal()),
                unknown: Vec::new(),
            },
        }
    }
}

/// The first field by which `new` cannot be had without a new session; `None`: all of it can be applied to a session that
/// stands. Timers count from the next session on, and graceful restart as it is said in an OPEN.
#[must_use]
pub fn needs_reset(old: &Config, new: &Config) -> Option<&'static str> {
    let (was, is) = (&old.peer, &new.peer);
    let modes = |peer: &PeerConfig| -> Vec<_> {
        peer.add_path.iter().map(|(family, add_path)| (*family, add_path.mode)).collect()
    };
    let fields = [
        ("own asn", old.asn != new.asn),
        ("router_id", old.router_id != new.router_id),
        ("address", was.address != is.address),
        ("local", was.local != is.local),
        ("interface", was.interface != is.interface),
        ("asn", was.asn != is.asn),
        ("password", was.password != is.password),
        ("ttl", was.ttl != is.ttl),
        ("families", was.families != is.families),
        ("extended_next_hop", old.extended_next_hop() != new.extended_next_hop()),
        ("role", was.role != is.role),
        ("strict_role", !was.strict_role && is.strict_role),
        ("add_path", modes(was) != modes(is)),
        ("long_lived", was.long_lived != is.long_lived),
    ];
    fields.into_iter().find(|(_, changed)| *changed).map(|(name, _)| name)
}
