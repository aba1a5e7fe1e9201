//! Every mark by which we know our own kernel objects again. Whatever does not carry one of these is never changed.

use cni_core::model::{EndpointId, InterfaceName};
use std::ops::Range;

/// The routing protocol number of our routes, next-hop objects, addresses and neighbours
/// (`RTA_PROTOCOL`, `NHA` header, `IFA_PROTO`, `NDA_PROTOCOL`).
///
/// Not in iproute2's `rt_protos`; above the range that the kernel itself uses.
pub const PROTOCOL: u8 = 0xCB;

/// The routing protocol number of routes and next-hop objects that were learned from other routers (BGP). Apart from
/// [`PROTOCOL`], so that what a driver compiles and what a routing protocol learns each know their own again.
pub const LEARNED_PROTOCOL: u8 = 0xCC;

/// What the alias of each of our links begins with (`IFLA_IFALIAS`, at most 255 bytes).
pub const ALIAS_PREFIX: &str = "cnidarian:";

/// What the alias of each backend's tunnel device ends with.
const BACKEND_SUFFIX: &str = "-backend";

/// The nftables table of ours, in every family.
pub const NFT_TABLE: &str = "cnidarian";

/// The nftables table (family `inet`) of services that are translated beside programs at sockets.
pub const NFT_SERVICES_TABLE: &str = "cnidarian-services";

/// What the nftables table (family `inet`) of a network's masqueraded containers begins with; the network's name follows.
pub const NFT_CONTAINERS_TABLE_PREFIX: &str = "cnidarian-masq-";

/// The link group (`IFLA_GROUP`) of links that are about to be deleted: the letters `cnid`. The kernel deletes a whole
/// group in one request, and waits for its grace periods once.
pub const DOOMED_LINK_GROUP: u32 = 0x636e_6964;

/// The link group of a veth that is being made: the letters `cnis`. The kernel takes an alias only after creation, so
/// between the two this group and the name are the mark.
pub const STAGED_LINK_GROUP: u32 = 0x636e_6973;

/// The link group of links of ours that were just made and have no alias yet: the letters `cnif`. The kernel takes a group
/// when it makes a link, but no alias, and a process may be killed between the two.
pub const FRESH_LINK_GROUP: u32 = 0x636e_6966;

/// Next-hop object ids of ours. Other programs (FRR, the kernel's own choice) count upwards from 1.
pub const NEXTHOP_IDS: Range<u32> = 0xCB00_0000..0xCC00_0000;

/// Next-hop object ids of learned routes.
pub const LEARNED_NEXTHOP_IDS: Range<u32> = 0xCC00_0000..0xCD00_0000;

/// The metric of learned routes, in both families: worse than a route without a metric (0, for IPv6 1024), so that what an
/// operator or a driver writes for the same destination wins.
pub const LEARNED_METRIC: u32 = 2048;

/// Bits of the packet mark that policy chains use among themselves: a rule passed the rest of its tier, and a dry run has
/// decided. Both are cleared before a packet leaves our chains, and neither is one of kube-proxy's (`0x4000`, `0x8000`).
pub const POLICY_PASSED: u32 = 0x0010_0000;
/// See [`POLICY_PASSED`].
pub const POLICY_DECIDED: u32 = 0x0020_0000;

/// The bit of the packet mark that says: policy about hosts has allowed it early, before its connection is tracked or its
/// destination translated. It stays from prerouting or output until our filters clear it.
pub const POLICY_ALLOWED_EARLY: u32 = 0x0040_0000;

/// The bit of a connection's mark that says: it was let in, and policy denies it now. Its packets are dropped.
pub const CONNECTION_DENIED: u32 = 0x0020_0000;

/// The bit of the packet mark that says: what a service's address is translated to shall see this node as the sender. Set when
/// a connection begins, and read once, when its packets leave; none of kube-proxy's.
pub const SERVICE_MASQUERADED: u32 = 0x0080_0000;

/// The bits of an IPVS service's flags that are our mark. The kernel keeps flags as they were written and has a meaning for the
/// lowest six bits only (`IP_VS_SVC_F_*` of `include/uapi/linux/ip_vs.h`).
pub const IPVS_SERVICE: u32 = 0xCB00_0000;
/// Which bits of a service's flags are looked at for [`IPVS_SERVICE`].
pub const IPVS_SERVICE_MASK: u32 = 0xFF00_0000;

/// The upper threshold of a destination of ours that goes as soon as its connections have ended. Such a one has weight 0, so
/// that the threshold itself has no effect. Linux 6.12 refuses one with the highest bit set (`EINVAL`).
pub const IPVS_DRAINING: u32 = 0x0CB0_0CB0;

/// What the alias of the device with the addresses of services says.
pub const SERVICE_DEVICE: &str = "services";

/// What the alias of the device says that takes in packets which other nodes tunnel to pods of this one, for services whose
/// answers go to clients directly.
pub const SERVICE_TUNNEL: &str = "service-tunnel";

/// The NFLOG group of denied packets, where the configuration names none.
pub const POLICY_LOG_GROUP: u16 = 203;

/// The NFLOG group that the agent reads flows from.
pub const POLICY_FLOW_GROUP: u16 = 204;

/// What the name of the host's end of each pod's veth begins with; 12 hexadecimal digits follow.
pub const HOST_INTERFACE_PREFIX: &str = "cni";

/// Where maps and programs of eBPF are pinned: a folder for each network namespace, named by its number
/// ([`crate::netns::NetNs::cookie`]).
pub const BPFFS_FOLDER: &str = "/sys/fs/bpf/cnidarian";

/// The file under the state directory that holds leases and endpoints.
pub const STATE_DATABASE: &str = "cnidarian.redb";

/// The alias of an object of ours.
#[must_use]
pub fn alias(id: &str) -> String {
    format!("{ALIAS_PREFIX}{id}")
}

/// Whether an alias of ours is that of a backend's tunnel device, whichever backend made it: only one runs on a node, and
/// it takes away what its predecessor left.
#[must_use]
pub fn is_of_backend(id: &str) -> bool {
    id.ends_with(BACKEND_SUFFIX)
}

/// What an alias of ours is for; `None` for a foreign one.
#[must_use]
pub fn alias_id(alias: &str) -> Option<&str> {
    alias.strip_prefix(ALIAS_PREFIX)
}

/// The host's interface name of an endpoint: the same on every run.
#[must_use]
pub fn host_interface(id: &EndpointId) -> InterfaceName {
    let name = format!("{HOST_INTERFACE_PREFIX}{:012x}", hash(id.as_str()) & 0xffff_ffff_ffff);
    InterfaceName::new(&name).expect("three letters and twelve hexadecimal digits are fifteen bytes")
}

/// Whether a name has the form of [`host_interface`].
#[must_use]
pub fn is_host_interface(name: &str) -> bool {
    let digits = name.strip_prefix(HOST_INTERFACE_PREFIX);
    digits.is_some_and(|digits| digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// FNV-1a, 64 bits, folded: stable across versions of Rust, which `DefaultHasher` does not promise.
fn hash(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    hash ^ (hash >> 48)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_of_ours_is_known_again_and_a_foreign_one_is_not() {
        assert_eq!(alias_id(&alias("c0ffee/eth0")), Some("c0ffee/eth0"));
        assert_eq!(alias_id("uplink to rack 3"), None);
    }

    /// Names of live interfaces depend on this: it must not change between versions.
    #[test]
    fn a_host_interface_keeps_its_name_for_ever() {
        let id = EndpointId::of("c0ffee", "eth0").unwrap();
        assert_eq!(host_interface(&id).as_str(), "cni079c4f592070");
        assert!(
            is_host_interface("cni079c4f592070") && !is_host_interface("cni0") && !is_host_interface("cni-podman001")
        );
        assert_ne!(host_interface(&id), host_interface(&EndpointId::of("c0ffee", "eth1").unwrap()));
    }
}
