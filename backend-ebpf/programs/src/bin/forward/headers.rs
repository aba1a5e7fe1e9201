//! The few bytes of a packet that forwarding asks for, in words: one of four bytes is four instructions less than its bytes. Never
//! a port: fragments go where their first one goes.

use aya_ebpf::programs::TcContext;

/// An Ethernet header: veths, VXLAN and the underlay have no other.
pub const LINK_BYTES: usize = 14;

/// `ETH_P_*` of `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Version 4 and a header of five words: one without options.
const V4_PLAIN: u8 = 0x45;

/// An address, in network order.
pub type Address = [u32; 4];

/// The third word of an IPv4 address as maps have it, see [`backend_ebpf_abi::mapped`].
pub const V4_MARK: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

#[inline(always)]
pub const fn v4_address(word: u32) -> Address {
    [0, 0, V4_MARK, word]
}

#[inline(always)]
pub fn is_v4(address: &Address) -> bool {
    address[0] | address[1] | (address[2] ^ V4_MARK) == 0
}

/// Where the count of hops is.
pub const TTL_AT: usize = LINK_BYTES + 8;
pub const HOP_LIMIT_AT: usize = LINK_BYTES + 7;
/// Where the checksum of an IPv4 header is.
pub const CHECKSUM_AT: usize = LINK_BYTES + 10;

/// What forwarding asks for.
pub struct Headers {
    pub v4: bool,
    /// Hops that are left.
    pub hops: u8,
    /// IPv4: the protocol, beside the count of hops.
    pub protocol: u8,
    /// An IPv4 header with options: a router may have to look at them.
    pub options: bool,
    pub source: Address,
    pub destination: Address,
}

#[inline(always)]
pub fn read(ctx: &TcContext) -> Option<Headers> {
    match u16::from_be(ctx.skb.protocol() as u16) {
        ETH_P_IP => {
            let header = ctx.load::<[u32; 5]>(LINK_BYTES).ok()?;
            let first = header[0].to_ne_bytes()[0];
            if first >> 4 != 4 {
                return None;
            }
            let [hops, protocol, _, _] = header[2].to_ne_bytes();
            let (source, destination) = (v4_address(header[3]), v4_address(header[4]));
            Some(Headers { v4: true, hops, protocol, options: first != V4_PLAIN, source, destination })
        }
        ETH_P_IPV6 => {
            let header = ctx.load::<[u32; 10]>(LINK_BYTES).ok()?;
            if header[0].to_ne_bytes()[0] >> 4 != 6 {
                return None;
            }
            let [_, _, protocol, hops] = header[1].to_ne_bytes();
            let source = [header[2], header[3], header[4], header[5]];
            let destination = [header[6], header[7], header[8], header[9]];
            // Taken for IPv4 addresses by maps, and never on a link. RFC 4291, section 2.5.5.2.
            if is_v4(&source) || is_v4(&destination) {
                return None;
            }
            // Hop-by-hop options are for routers. RFC 8200, section 4.3.
            Some(Headers { v4: false, hops, protocol, options: protocol == 0, source, destination })
        }
        _ => None,
    }
}
