//! Addresses that the standards keep from ordinary hosts. Never of the node: what is on its links is the caller's to know.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// "This network" (RFC 791, section 3.2), loopback (RFC 1122, section 3.2.1.3), link-local (RFC 3927), multicast (RFC 5771),
/// limited broadcast (RFC 919, section 7). The rest of 240.0.0.0/4 is unicast to Linux, and in use for pods.
const V4: [Ipv4Net; 5] = [
    Ipv4Net::new_assert(Ipv4Addr::new(0, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8),
    Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16),
    Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4),
    Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32),
];

/// Unspecified, loopback, IPv4-mapped, link-local, multicast (RFC 4291, sections 2.4 and 2.5).
const V6: [Ipv6Net; 5] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128),
    Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128),
    Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Whether two prefixes have an address in common.
#[must_use]
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The first range that no pod can have addresses of and that a prefix overlaps: this network, loopback, link-local,
/// multicast, limited broadcast. `None` for a prefix that pods may have.
#[must_use]
pub fn never_of_pods(prefix: &IpNet) -> Option<IpNet> {
    special_prefixes().find(|special| overlap(special, prefix))
}

/// All those ranges.
pub fn special_prefixes() -> impl Iterator<Item = IpNet> {
    V4.into_iter().map(IpNet::V4).chain(V6.into_iter().map(IpNet::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_host_has_is_for_no_pod() {
        for (prefix, special) in [
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("127.9.0.0/16", "127.0.0.0/8"),
            ("169.254.7.0/24", "169.254.0.0/16"),
            ("232.0.0.0/8", "224.0.0.0/4"),
            ("0.0.0.0/0", "0.0.0.0/8"),
            ("255.255.255.255/32", "255.255.255.255/32"),
            ("::1/128", "::1/128"),
            ("::/0", "::/128"),
            ("::ffff:10.0.0.0/104", "::ffff:0:0/96"),
            ("fe80::/64", "fe80::/10"),
            ("ff02::/16", "ff00::/8"),
        ] {
            assert_eq!(never_of_pods(&prefix.parse().unwrap()), Some(special.parse().unwrap()), "{prefix}");
        }
        for prefix in ["10.0.0.0/8", "100.64.0.0/10", "198.18.0.0/15", "240.0.0.0/8", "fd00::/8", "2001:db8::/32"] {
            assert_eq!(never_of_pods(&prefix.parse().unwrap()), None, "{prefix}");
        }
    }
}
