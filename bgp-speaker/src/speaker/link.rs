//! What a session's own link offers as next hop. Never asks the kernel: it was told.

use super::Addresses;
use super::core::Speaker;
use super::peer::Ends;
use crate::config::{Config, PeerAddress};
use crate::types::{NextHop, SelfNextHop};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

impl Speaker {
    /// The addresses of this node have changed: sessions that stand are told by them.
    pub(super) fn has_addresses(&mut self, addresses: Addresses) {
        if self.addresses != addresses {
            self.addresses = addresses;
            for id in self.peers.ids() {
                self.told_anew(id);
            }
        }
    }

    /// What "next hop self" means on a session: its own end, and for the other IP version what is configured. Where nothing
    /// is, IPv6 routes on a session over IPv4 have that very address inside of an IPv6 one where the peer knows such (`mapped`), else
    /// the IPv6 address of the device that it is on.
    pub(super) fn own_next_hop(&self, ends: &Ends, mapped: bool) -> SelfNextHop {
        let configured_v6 = self.config.next_hop_v6;
        match ends.local.ip().to_canonical() {
            IpAddr::V4(local) => SelfNextHop {
                v4: Some(NextHop::V4(local)),
                v6: configured_v6
                    .or(mapped.then(|| local.to_ipv6_mapped()))
                    .or_else(|| beside(&self.addresses, ends))
                    .map(|global| NextHop::V6 { global, link_local: None }),
            },
            IpAddr::V6(local) => {
                let own = if local.is_unicast_link_local() {
                    NextHop::V6 { global: configured_v6.unwrap_or(local), link_local: Some(local) }
                } else {
                    NextHop::V6 { global: local, link_local: None }
                };
                // RFC 8950 where the session allows it; else what is configured for IPv4.
                SelfNextHop { v4: self.config.next_hop_v4.map(NextHop::V4).or(Some(own)), v6: Some(own) }
            }
        }
    }
}

/// The networks of ours that a peer is on, of which the longest counts: what else is in them it reaches as we do. RFC 4271,
/// section 5.1.3.
pub(super) fn shared(addresses: &Addresses, peer: IpAddr) -> BTreeSet<IpNet> {
    let peer = peer.to_canonical();
    if matches!(peer, IpAddr::V6(peer) if peer.is_unicast_link_local()) {
        return BTreeSet::new();
    }
    let networks = addresses.values().flatten().filter(|address| address.contains(&peer));
    networks.max_by_key(|address| address.prefix_len()).map(IpNet::trunc).into_iter().collect()
}

/// The networks of ours, of all devices and both IP versions, in which a next hop of a peer on our link may be: RFC 4271, section
/// 6.3 asks for one that we share, which need not be the peer's. None where no network of ours has the peer in it, as one that is
/// known by its link-local address: nothing is known of its link. Link-local networks are left out.
pub(super) fn networks(addresses: &Addresses, peer: IpAddr) -> BTreeSet<IpNet> {
    if shared(addresses, peer).is_empty() {
        return BTreeSet::new();
    }
    let is_link_local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    addresses.values().flatten().filter(|address| !is_link_local(address.addr())).map(IpNet::trunc).collect()
}

/// Where configured peers are.
pub(super) fn neighbours(config: &Config) -> BTreeSet<IpAddr> {
    let addresses = config.peers.values().filter_map(|peer| match &peer.address {
        PeerAddress::Ip(address) => Some(address.to_canonical()),
        PeerAddress::Interface(_) => None,
    });
    addresses.collect()
}

/// The lowest global IPv6 address of the device that a session's own address is on: of several the same one each time.
fn beside(addresses: &Addresses, ends: &Ends) -> Option<Ipv6Addr> {
    let local = ends.local.ip().to_canonical();
    let has_it = |device: &&BTreeSet<IpNet>| device.iter().any(|address| address.addr() == local);
    let named = ends.interface.as_ref().and_then(|name| addresses.get(name)).filter(has_it);
    let device = named.or_else(|| addresses.values().find(has_it))?;
    device.iter().find_map(|address| match address.addr() {
        IpAddr::V6(v6) if is_global(v6) => Some(v6),
        _ => None,
    })
}

fn is_global(address: Ipv6Addr) -> bool {
    !(address.is_unicast_link_local() || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speaker::ConnId;

    fn addresses(devices: &[(&str, &[&str])]) -> Addresses {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        devices.iter().map(|(name, texts)| ((*name).into(), of(texts))).collect()
    }

    fn over(local: &str, interface: Option<&str>) -> Ends {
        let local = format!("{local}:179").parse().unwrap();
        Ends { conn: ConnId::In(0), local, remote: local, interface: interface.map(Into::into) }
    }

    fn networks(all: &Addresses, peer: &str) -> Vec<String> {
        shared(all, peer.parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_peer_shares_the_longest_network_that_it_is_in() {
        let all = addresses(&[("eth0", &["10.1.0.1/24", "fd00::1/64", "fe80::1/64"]), ("wide", &["10.9.0.1/8"])]);
        assert_eq!(networks(&all, "10.1.0.7"), ["10.1.0.0/24"]);
        assert_eq!(networks(&all, "10.2.0.7"), ["10.0.0.0/8"]);
        assert_eq!(networks(&all, "fd00::7"), ["fd00::/64"]);
        assert_eq!(networks(&all, "::ffff:10.1.0.7"), ["10.1.0.0/24"]);
        for other in ["192.0.2.1", "fd01::7", "fe80::7"] {
            assert_eq!(networks(&all, other), Vec::<String>::new(), "{other}");
        }
    }

    #[test]
    fn the_ipv6_address_is_a_global_one_of_the_very_device() {
        let eth = &["192.0.2.1/24", "fe80::1/64", "2001:db8::9/64", "fd00::1/64"];
        let all = addresses(&[("dummy0", &["fd00:9::9/128"]), ("eth0", eth), ("vrf1", &["192.0.2.1/24"])]);
        assert_eq!(beside(&all, &over("192.0.2.1", None)), "2001:db8::9".parse().ok());
        assert_eq!(beside(&all, &over("192.0.2.1", Some("eth0"))), "2001:db8::9".parse().ok());
        assert_eq!(beside(&all, &over("192.0.2.1", Some("vrf1"))), None, "the same address on another device");
        assert_eq!(beside(&all, &over("192.0.2.2", None)), None);
    }
}
