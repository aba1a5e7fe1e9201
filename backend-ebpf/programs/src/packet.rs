//! From bytes to what policy asks for. Never trusts a length: each header is loaded whole or the packet is dropped.

use crate::Way;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::TcContext;
use backend_ebpf_abi::{Fragment, FragmentKey, Reason, mapped};

/// An Ethernet header: veths have no other.
pub const LINK_BYTES: u32 = 14;
const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
/// Extension headers before the protocol; Linux itself sends two at most.
const MOST_HEADERS: u32 = 6;

/// `ETH_P_*` of `include/uapi/linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021AD: u16 = 0x88a8;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
pub const UDP_LITE: u8 = 136;

/// IPv6 extension headers. RFC 8200, section 4; RFC 4302.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// `IP_MF` and `IP_OFFSET` of `include/net/ip.h`.
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Neighbour discovery: router solicitation, and solicitation and advertisement of neighbours. RFC 4861, section 4. An advertisement of
/// routers is a message as any other: no pod has to be one.
const DISCOVERY: [u8; 3] = [133, 135, 136];
/// What no router passes on. RFC 4861, section 7.1.
const ON_LINK: u8 = 255;

/// What policy asks a packet for.
#[repr(C)]
#[derive(Default)]
pub struct Packet {
    pub interface: u32,
    pub source: [u8; 16],
    pub destination: [u8; 16],
    /// Where the protocol's header is.
    pub upper: u32,
    /// The destination port, or an ICMP message's type and code, or 0.
    pub detail: u16,
    /// Or an echo's identifier, or 0.
    pub source_port: u16,
    pub v4: bool,
    pub protocol: u8,
    /// TCP's flags.
    pub flags: u8,
    /// A later fragment: its ports are those of the first one, and there is no header of the protocol.
    pub later: bool,
}

/// Where the first fragment's ports are kept for the later ones.
pub trait Fragments {
    /// What the first one had.
    fn first(key: &FragmentKey) -> Option<Fragment>;
    /// The first one came.
    fn remember(key: &FragmentKey, first: &Fragment);
}

/// Where the protocol's header is, and whether it is there.
#[derive(Default)]
struct Upper {
    offset: u32,
    /// The fragments' identification.
    id: u32,
    /// The protocol as fragments name it.
    named: u8,
    first: bool,
    later: bool,
    hop_limit: u8,
}

/// Reads the headers; `Some`: nothing is left to ask.
#[inline(always)]
pub fn parse<F: Fragments>(ctx: &TcContext, way: Way, packet: &mut Packet) -> Option<Reason> {
    if tagged(ctx) {
        return Some(Reason::Vlan);
    }
    parse_untagged::<F>(ctx, way, packet)
}

/// The same, whatever tag the device took off.
#[inline(always)]
pub fn parse_untagged<F: Fragments>(ctx: &TcContext, way: Way, packet: &mut Packet) -> Option<Reason> {
    packet.interface = crate::interface(ctx);
    let mut upper = Upper::default();
    let stop = match u16::from_be(ctx.skb.protocol() as u16) {
        ETH_P_IP => ipv4(ctx, packet, &mut upper),
        ETH_P_IPV6 => ipv6(ctx, packet, &mut upper),
        ETH_P_ARP => Some(Reason::Arp),
        ETH_P_8021Q | ETH_P_8021AD => Some(Reason::Vlan),
        _ => Some(Reason::NotIp),
    };
    if let Some(reason) = stop {
        return Some(reason);
    }
    packet.upper = upper.offset;
    // Options or extension headers that are longer than the packet.
    if upper.offset > ctx.len() {
        return Some(Reason::Malformed);
    }
    if upper.first || upper.later {
        let to_pod = if let Way::ToPod = way { FragmentKey::TO_POD } else { 0 };
        let key = FragmentKey {
            source: packet.source,
            destination: packet.destination,
            id: upper.id,
            interface: packet.interface,
            protocol: upper.named as u32 | to_pod,
        };
        if upper.later {
            let Some(first) = F::first(&key) else { return Some(Reason::UnknownFragment) };
            packet.detail = first.detail;
            packet.source_port = first.source_port;
            packet.protocol = first.protocol as u8;
            packet.later = true;
            return None;
        }
        if let Some(reason) = ports(ctx, packet, &upper) {
            return Some(reason);
        }
        let first =
            Fragment { detail: packet.detail, source_port: packet.source_port, protocol: packet.protocol as u32 };
        F::remember(&key, &first);
        return None;
    }
    ports(ctx, packet, &upper)
}

/// TCP's flags. RFC 9293, section 3.1.
pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// Messages that ask and answer. RFC 792; RFC 4443, section 4.
pub const ECHO_REPLY: u8 = 0;
pub const ECHO: u8 = 8;
pub const ECHO_V6: u8 = 128;
pub const ECHO_REPLY_V6: u8 = 129;

/// Errors: unreachable, source quench, time exceeded, parameter problem. RFC 792. A redirect is none: it tells a host where to send.
const ERRORS: [u8; 4] = [3, 4, 11, 12];
/// Unreachable, packet too big, time exceeded, parameter problem. RFC 4443, section 3.
const ERRORS_V6: core::ops::RangeInclusive<u8> = 1..=4;

#[inline(always)]
pub fn is_error(packet: &Packet) -> bool {
    let kind = (packet.detail >> 8) as u8;
    match packet.protocol {
        ICMP => ERRORS.contains(&kind),
        ICMPV6 => ERRORS_V6.contains(&kind),
        _ => false,
    }
}

/// Bytes of an ICMP error before what it quotes. RFC 792; RFC 4443, section 3.
const ERROR_BYTES: u32 = 8;

/// Source and destination.
pub type Ends = [[u8; 16]; 2];

/// Reads the ends of the packet that an ICMP error quotes. Answers its protocol, and where that one's header is; `None`: it is not
/// all there, or it is a later fragment, which has no ports. Of extension headers only a fragment's is looked behind.
#[inline(always)]
pub fn quoted_ends(ctx: &TcContext, error: &Packet, ends: [&mut [u8; 16]; 2]) -> Option<(u8, u32)> {
    let [source, destination] = ends;
    let at = error.upper + ERROR_BYTES;
    if error.v4 {
        let header = load::<{ IPV4_BYTES as usize }>(ctx, at)?;
        let header_bytes = ((header[0] & 0xf) as u32) * 4;
        let fragment = u16::from_be_bytes([header[6], header[7]]);
        if header[0] >> 4 != 4 || header_bytes < IPV4_BYTES || fragment & FRAGMENT_OFFSET != 0 {
            return None;
        }
        for (end, first) in [(source, 12), (destination, 16)] {
            *end = mapped([header[first], header[first + 1], header[first + 2], header[first + 3]]);
        }
        return Some((header[9], at + header_bytes));
    }
    let header = load::<8>(ctx, at)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    load_into(ctx, at + 8, source)?;
    load_into(ctx, at + 24, destination)?;
    if header[6] == FRAGMENT {
        let fragment = load::<8>(ctx, at + IPV6_BYTES)?;
        let place = u16::from_be_bytes([fragment[2], fragment[3]]);
        return if place & 0xfff8 == 0 { Some((fragment[0], at + IPV6_BYTES + 8)) } else { None };
    }
    Some((header[6], at + IPV6_BYTES))
}

/// The source and the destination port of a quoted header of this protocol; of an echo: twice its identifier.
#[inline(always)]
pub fn quoted_ports(ctx: &TcContext, protocol: u8, upper: u32) -> Option<(u16, u16)> {
    let bytes = load::<8>(ctx, upper)?;
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    match protocol {
        TCP | UDP | SCTP | UDP_LITE => Some((word(0), word(2))),
        ICMP | ICMPV6 => Some((word(4), word(4))),
        _ => None,
    }
}

/// A tag that the device took off.
#[inline(always)]
fn tagged(ctx: &TcContext) -> bool {
    let skb = ctx.as_ptr().cast::<aya_ebpf::bindings::__sk_buff>();
    // SAFETY: the kernel gives a whole context, and the verifier checks the access.
    unsafe { (*skb).vlan_present != 0 }
}

/// Whether an address of an IPv6 header is one that maps have for IPv4: never on a link (RFC 4291, section 2.5.5.2; RFC 4942, section
/// 2.2), and it would be taken for the IPv4 address here. One comparison, so that the verifier does not go on with what each word was found
/// to be.
#[inline(always)]
fn is_mapped(address: [u32; 4]) -> bool {
    address[0] | address[1] | (address[2] ^ u32::from_ne_bytes([0, 0, 0xff, 0xff])) == 0
}

const _: () =
    assert!(core::mem::offset_of!(Packet, source) % 4 == 0 && core::mem::offset_of!(Packet, destination) % 4 == 0);

#[inline(always)]
fn load<const N: usize>(ctx: &TcContext, offset: u32) -> Option<[u8; N]> {
    ctx.load::<[u8; N]>(offset as usize).ok()
}

/// Without a copy on the stack.
#[inline(always)]
fn load_into(ctx: &TcContext, offset: u32, to: &mut [u8; 16]) -> Option<()> {
    // SAFETY: the kernel's own packet, and room for so many bytes.
    let failed = unsafe { bpf_skb_load_bytes(ctx.as_ptr().cast(), offset, to.as_mut_ptr().cast(), 16) };
    if failed == 0 { Some(()) } else { None }
}

#[inline(always)]
fn ipv4(ctx: &TcContext, packet: &mut Packet, upper: &mut Upper) -> Option<Reason> {
    let Some(header) = load::<{ IPV4_BYTES as usize }>(ctx, LINK_BYTES) else { return Some(Reason::Malformed) };
    let header_bytes = ((header[0] & 0xf) as u32) * 4;
    if header[0] >> 4 != 4 || header_bytes < IPV4_BYTES {
        return Some(Reason::Malformed);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    packet.v4 = true;
    packet.protocol = header[9];
    packet.source = mapped([header[12], header[13], header[14], header[15]]);
    packet.destination = mapped([header[16], header[17], header[18], header[19]]);
    upper.offset = LINK_BYTES + header_bytes;
    upper.named = header[9];
    upper.id = u16::from_be_bytes([header[4], header[5]]) as u32;
    upper.later = fragment & FRAGMENT_OFFSET != 0;
    if overwrites(header[9], fragment & FRAGMENT_OFFSET) {
        return Some(Reason::Malformed);
    }
    upper.first = fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) == MORE_FRAGMENTS;
    None
}

#[inline(always)]
fn ipv6(ctx: &TcContext, packet: &mut Packet, upper: &mut Upper) -> Option<Reason> {
    let Ok(header) = ctx.load::<[u32; IPV6_BYTES as usize / 4]>(LINK_BYTES as usize) else {
        return Some(Reason::Malformed);
    };
    let source = [header[2], header[3], header[4], header[5]];
    let destination = [header[6], header[7], header[8], header[9]];
    if header[0].to_ne_bytes()[0] >> 4 != 6 || is_mapped(source) || is_mapped(destination) {
        return Some(Reason::Malformed);
    }
    // SAFETY: as many bytes, at multiples of four.
    unsafe {
        (&raw mut packet.source).cast::<[u32; 4]>().write(source);
        (&raw mut packet.destination).cast::<[u32; 4]>().write(destination);
    }
    let [_, _, first, hop_limit] = header[1].to_ne_bytes();
    upper.hop_limit = hop_limit;
    let mut next = first;
    let mut offset = LINK_BYTES + IPV6_BYTES;
    let mut round = 0;
    loop {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION => {
                let Some(option) = load::<2>(ctx, offset) else { return Some(Reason::Malformed) };
                let length = option[1] as u32;
                offset += if next == AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
                next = option[0];
            }
            FRAGMENT => {
                let Some(fragment) = load::<8>(ctx, offset) else { return Some(Reason::Malformed) };
                // A fragment of a fragment: nobody sends such.
                if upper.first {
                    return Some(Reason::Malformed);
                }
                let place = u16::from_be_bytes([fragment[2], fragment[3]]);
                next = fragment[0];
                offset += 8;
                upper.named = next;
                upper.id = u32::from_be_bytes([fragment[4], fragment[5], fragment[6], fragment[7]]);
                upper.later = place & 0xfff8 != 0;
                if overwrites(next, place >> 3) {
                    return Some(Reason::Malformed);
                }
                upper.first = place & 0xfff9 == 1;
                if upper.later {
                    break;
                }
            }
            _ => break,
        }
        round += 1;
        if round > MOST_HEADERS {
            return Some(Reason::TooManyHeaders);
        }
    }
    packet.protocol = next;
    upper.offset = offset;
    None
}

/// Whether a fragment at so many units of 8 bytes would write over TCP's flags, which the first one has. RFC 3128, section 4.
#[inline(always)]
fn overwrites(protocol: u8, offset: u16) -> bool {
    protocol == TCP && offset == 1
}

/// The ports, or the message.
#[inline(always)]
fn ports(ctx: &TcContext, packet: &mut Packet, upper: &Upper) -> Option<Reason> {
    match packet.protocol {
        TCP => {
            // Up to the flags. RFC 9293, section 3.1.
            let Some(bytes) = load::<14>(ctx, upper.offset) else { return Some(Reason::Malformed) };
            packet.source_port = u16::from_be_bytes([bytes[0], bytes[1]]);
            packet.detail = u16::from_be_bytes([bytes[2], bytes[3]]);
            packet.flags = bytes[13];
        }
        UDP | SCTP | UDP_LITE => {
            let Some(bytes) = load::<4>(ctx, upper.offset) else { return Some(Reason::Malformed) };
            packet.source_port = u16::from_be_bytes([bytes[0], bytes[1]]);
            packet.detail = u16::from_be_bytes([bytes[2], bytes[3]]);
        }
        ICMP | ICMPV6 => {
            let Some(bytes) = load::<8>(ctx, upper.offset) else { return Some(Reason::Malformed) };
            packet.detail = u16::from_be_bytes([bytes[0], bytes[1]]);
            packet.source_port = u16::from_be_bytes([bytes[4], bytes[5]]);
            let on_link = !packet.v4 && upper.hop_limit == ON_LINK && !upper.first;
            if on_link && packet.protocol == ICMPV6 && DISCOVERY.contains(&bytes[0]) {
                return Some(Reason::NeighbourDiscovery);
            }
        }
        _ => {}
    }
    None
}
