//! What no peer may announce, a node neither: where nodes are, and what no host elsewhere has. Never addresses of pods: those
//! are guarded against peers outside only.

use crate::table::Wanted;
use bgp_speaker::rib::{Protected, Protection};
use cni_core::model::special_prefixes;
use ipnet::IpNet;

/// A route for one of these would lead sessions, tunnels or the host's own packets astray.
pub(super) fn protected(wanted: &Wanted) -> Protected {
    let mut protected = Protected::default();
    for special in special_prefixes() {
        // 169.254.0.0/16 would take the metadata service of a cloud away.
        protected.add_inside(special, Protection::SpecialAddresses);
        // Half of what is around is special: nobody means the other half. A default route, or half of one, is meant.
        if let Some(around) = special.supernet() {
            protected.add(around, Protection::SpecialAddresses);
        }
    }
    for segment in wanted.ground.iter().flat_map(|ground| &ground.segments) {
        protected.add_inside(*segment, Protection::Underlay);
    }
    // The whole of another segment is for routers to announce; a node's own address is where the session with it goes.
    wanted.nodes.keys().for_each(|address| protected.add(IpNet::from(*address), Protection::NodeAddress));
    protected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{FarEnd, Ground};
    use bgp_speaker::config::Config;
    use bgp_speaker::types::{Asn, RouterId};
    use cni_core::model::Encapsulation;
    use std::net::{IpAddr, Ipv6Addr};

    fn why(prefix: &str) -> Option<Protection> {
        let speaker = Config::new(Asn::new(64_512).unwrap(), RouterId::new([192, 0, 2, 1].into()).unwrap());
        let ground = Ground {
            speaker,
            encapsulation: Encapsulation::Never,
            tunnel: None,
            segments: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8:a::/64".parse().unwrap()],
            nodes_tell_blocks: true,
        };
        let mut wanted = Wanted { ground: Some(ground), ..Wanted::default() };
        for node in ["192.0.2.2", "198.51.100.9", "2001:db8:b::9"] {
            let outer: IpAddr = node.parse().unwrap();
            wanted.nodes.insert(outer, FarEnd { outer, neighbour: Ipv6Addr::LOCALHOST });
        }
        protected(&wanted).of(&prefix.parse().unwrap())
    }

    #[test]
    fn nobody_announces_a_part_of_the_underlay_nor_the_address_of_a_node_in_another_segment() {
        for part in ["192.0.2.0/24", "192.0.2.128/25", "192.0.2.1/32", "192.0.2.2/32", "2001:db8:a::5/128"] {
            assert_eq!(why(part), Some(Protection::Underlay), "{part}");
        }
        for node in ["198.51.100.9/32", "2001:db8:b::9/128"] {
            assert_eq!(why(node), Some(Protection::NodeAddress), "{node}");
        }
        for other in ["192.0.0.0/16", "198.51.100.0/24", "198.51.100.8/32", "2001:db8:b::/64", "0.0.0.0/0", "::/0"] {
            assert_eq!(why(other), None, "{other}");
        }
    }

    #[test]
    fn nobody_announces_addresses_that_no_host_elsewhere_has() {
        let special = [
            "127.0.0.1/32",
            "0.0.0.0/8",
            "169.254.0.0/16",
            "169.254.169.254/32",
            "224.0.0.0/4",
            "224.0.0.0/3",
            "224.0.0.5/32",
            "255.255.255.255/32",
            "fe80::/64",
        ];
        for special in special {
            assert_eq!(why(special), Some(Protection::SpecialAddresses), "{special}");
        }
        for other in ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "8000::/1", "240.0.0.0/8", "10.0.0.0/8"] {
            assert_eq!(why(other), None, "{other}");
        }
    }
}
