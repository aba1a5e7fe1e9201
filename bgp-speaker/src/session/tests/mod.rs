//! Sessions in virtual time. Never a socket.

mod collision;
mod convergence;
mod endings;
mod open;
mod scene;
mod timers;
mod world;

use super::Config;
use crate::config::{PeerAddress, PeerConfig, RemoteAsn, Restart};
use crate::types::{Asn, RouterId};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// A side: the last byte of its identifier, its system, the system of its peer.
fn side(id: u8, asn: u32, peer: u32) -> Config {
    let number = |number| Asn::new(number).unwrap();
    let address = PeerAddress::Ip(Ipv4Addr::new(192, 0, 2, 99).into());
    Config {
        asn: number(asn),
        router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, id)).unwrap(),
        peer: PeerConfig::new(address, RemoteAsn::Exactly(number(peer))),
        restart: Restart::default(),
        restarting: false,
        forwarding_kept: BTreeSet::new(),
    }
}
