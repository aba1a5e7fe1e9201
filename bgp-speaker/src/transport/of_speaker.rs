//! What a transport needs of a speaker: its inputs, its time, its sockets. Never a socket.

use super::{Core, Guard, Handle, Listener, Setup, Stopped};
use crate::config::{Config, PeerAddress, PeerConfig};
use crate::speaker::{Input, Output, RefreshError, Speaker};
use crate::types::Family;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Where unnumbered peers are: anywhere on their link.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const LINK_LOCAL_BITS: u8 = 10;

impl Core for Speaker {
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Vec<Output>) {
        Self::handle(self, now, input, out);
    }

    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }
}

/// Why a peer is not asked for its routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshFailed {
    /// It can't be asked.
    #[error(transparent)]
    Refused(#[from] RefreshError),
    /// Nobody is there to ask it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Handle<Speaker> {
    /// Asks a peer for all its routes of some families once more: see [`Speaker::request_refresh`].
    ///
    /// # Errors
    /// [`RefreshFailed`]: nothing was sent.
    pub async fn refresh(&self, peer: &str, families: BTreeSet<Family>) -> Result<(), RefreshFailed> {
        let peer = peer.to_owned();
        Ok(self.with(move |core, now, out| core.request_refresh(now, &peer, &families, out)).await??)
    }
}

impl Setup {
    /// The sockets that a configuration asks for.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let listener = |address: &SocketAddr| Listener { address: *address, interface: None };
        let peers = config.peers.values().filter_map(|peer| guard_of_peer(config, peer));
        let ranges = config.ranges.values().map(|range| guard(config, &range.template, range.range, None));
        let unnumbered = config.peers.values().filter_map(|peer| match &peer.address {
            PeerAddress::Interface(interface) => Some(interface.clone()),
            PeerAddress::Ip(_) => None,
        });
        Self {
            listeners: config.listen.iter().map(listener).collect(),
            guards: peers.chain(ranges).collect(),
            discover: unnumbered.collect(),
        }
    }
}

fn guard_of_peer(config: &Config, peer: &PeerConfig) -> Option<Guard> {
    match &peer.address {
        PeerAddress::Ip(address) => {
            let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            let interface = peer.interface.clone().filter(|_| link_local);
            Some(guard(config, peer, IpNet::from(*address), interface))
        }
        PeerAddress::Interface(interface) => {
            let link = IpNet::new(LINK_LOCAL.into(), LINK_LOCAL_BITS).ok()?;
            Some(guard(config, peer, link, Some(interface.clone())))
        }
    }
}

fn guard(config: &Config, peer: &PeerConfig, remote: IpNet, interface: Option<Arc<str>>) -> Guard {
    let (ttl, least_ttl) = peer.hops(config.asn);
    let password = peer.password.as_ref().map(|secret| secret.reveal().clone());
    Guard { remote, interface, ttl, least_ttl, password }
}
