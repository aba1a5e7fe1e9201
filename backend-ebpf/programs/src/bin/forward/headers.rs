//! The few bytes of a packet that forwarding asks for. Never a port: fragments go where their first one goes.

use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::mapped;

/// An Ethernet header: veths, VXLAN and the underlay have no other.
pub const LINK_BYTES: usize = 14;

/// `ETH_P_*` of `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Version 4 and a header of five words: one without options.
const V4_PLAIN: u8 = 0x45;

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
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

#[inline(always)]
pub fn read(ctx: &TcContext) -> Option<Headers> {
    match u16::from_be(ctx.skb.protocol() as u16) {
        ETH_P_IP => {
            let header = ctx.load::<[u8; 20]>(LINK_BYTES).ok()?;
            if header[0] >> 4 != 4 {
                return None;
            }
            Some(Headers {
                v4: true,
                hops: header[8],
                protocol: header[9],
                options: header[0] != V4_PLAIN,
                source: mapped([header[12], header[13], header[14], header[15]]),
                destination: mapped([header[16], header[17], header[18], header[19]]),
            })
        }
        ETH_P_IPV6 => {
            let header = ctx.load::<[u8; 40]>(LINK_BYTES).ok()?;
            if header[0] >> 4 != 6 {
                return None;
            }
            let (mut source, mut destination) = ([0; 16], [0; 16]);
            source.copy_from_slice(&header[8..24]);
            destination.copy_from_slice(&header[24..40]);
            // Hop-by-hop options are for routers. RFC 8200, section 4.3.
            let (protocol, options) = (header[6], header[6] == 0);
            Some(Headers { v4: false, hops: header[7], protocol, options, source, destination })
        }
        _ => None,
    }
}
