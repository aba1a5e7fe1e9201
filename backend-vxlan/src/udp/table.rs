//! Which peer has a pod address: longest prefix first. Never asks the kernel's routes.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Prefixes to peers, and the peers that may send to us.
#[derive(Debug, Default)]
pub struct Table {
    v4: PrefixMap<Ipv4Net, SocketAddr>,
    v6: PrefixMap<Ipv6Net, SocketAddr>,
    /// Underlay addresses with the number of prefixes behind each.
    peers: HashMap<IpAddr, usize>,
}

impl Table {
    /// Sends a prefix to a peer, and takes packets from it.
    pub fn insert(&mut self, prefix: IpNet, peer: SocketAddr) {
        let former = match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix, peer),
            IpNet::V6(prefix) => self.v6.insert(prefix, peer),
        };
        *self.peers.entry(peer.ip()).or_default() += 1;
        self.forget(former);
    }

    /// Sends a prefix nowhere.
    pub fn remove(&mut self, prefix: IpNet) {
        let former = match prefix {
            IpNet::V4(prefix) => self.v4.remove(&prefix),
            IpNet::V6(prefix) => self.v6.remove(&prefix),
        };
        self.forget(former);
    }

    fn forget(&mut self, former: Option<SocketAddr>) {
        let Some(former) = former else { return };
        if let Some(count) = self.peers.get_mut(&former.ip()) {
            *count -= 1;
            if *count == 0 {
                self.peers.remove(&former.ip());
            }
        }
    }

    /// The peer that has an address.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<SocketAddr> {
        match address {
            IpAddr::V4(v4) => self.v4.get_lpm(&v4.into()).map(|(_, peer)| *peer),
            IpAddr::V6(v6) => self.v6.get_lpm(&v6.into()).map(|(_, peer)| *peer),
        }
    }

    /// Whether an underlay address is a peer's.
    #[must_use]
    pub fn knows(&self, underlay: &IpAddr) -> bool {
        self.peers.contains_key(underlay)
    }

    /// All prefixes with their peers.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, SocketAddr)> + '_ {
        let v4 = self.v4.iter().map(|(prefix, peer)| (IpNet::V4(prefix), *peer));
        v4.chain(self.v6.iter().map(|(prefix, peer)| (IpNet::V6(prefix), *peer)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn peer(number: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, number], 8285))
    }

    #[test]
    fn a_borrowed_address_goes_to_its_borrower_and_the_rest_of_the_block_to_its_owner() {
        let mut table = Table::default();
        table.insert("10.1.0.0/26".parse().unwrap(), peer(1));
        table.insert("10.1.0.7/32".parse().unwrap(), peer(2));
        assert_eq!(table.lookup("10.1.0.7".parse().unwrap()), Some(peer(2)));
        assert_eq!(table.lookup("10.1.0.8".parse().unwrap()), Some(peer(1)));
        assert_eq!(table.lookup("10.2.0.8".parse().unwrap()), None);
    }

    proptest! {
        #[test]
        fn a_peer_is_known_as_long_as_it_has_a_prefix(changes in proptest::collection::vec((0_u8..8, 0_u8..4, any::<bool>()), 0..60)) {
            let mut table = Table::default();
            let mut model = HashMap::new();
            for (block, number, add) in changes {
                let prefix = Ipv4Net::new_assert(Ipv4Addr::new(10, block, 0, 0), 16);
                if add {
                    table.insert(prefix.into(), peer(number));
                    model.insert(prefix, peer(number));
                } else {
                    table.remove(prefix.into());
                    model.remove(&prefix);
                }
            }
            for number in 0..4 {
                let expected = model.values().any(|found| *found == peer(number));
                prop_assert_eq!(table.knows(&peer(number).ip()), expected);
            }
            prop_assert_eq!(table.iter().count(), model.len());
        }
    }
}
