//! What the node's stack knows of a packet: whether it is one of its own sockets', and whether it would take it in. Never a
//! verdict.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    __sk_buff, bpf_fib_lookup as Lookup, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as V4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as V6,
};
use aya_ebpf::helpers::{bpf_fib_lookup, bpf_sk_release, bpf_skc_lookup_tcp};
use aya_ebpf::programs::TcContext;
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::Packet;

/// `AF_INET` and `AF_INET6`.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `BPF_FIB_LKUP_RET_NOT_FWDED` and `BPF_FIB_LKUP_RET_FWD_DISABLED` of `include/uapi/linux/bpf.h`.
const NOT_FORWARDED: i64 = 4;
const FORWARDING_DISABLED: i64 = 5;

/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;

/// `TCP_ESTABLISHED` to `TCP_TIME_WAIT`, and `TCP_CLOSE_WAIT` to `TCP_CLOSING`, without `TCP_LISTEN`, of
/// `include/net/tcp_states.h`; each a bit.
const CONNECTED: u32 = 0b1011_0111_1110;

/// The four words of an address.
type Words = [u32; 4];

#[inline(always)]
fn words(address: &[u8; 16]) -> Words {
    let word = |at: usize| u32::from_ne_bytes([address[at], address[at + 1], address[at + 2], address[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}

/// Whether it is the unspecified address. RFC 4291, section 2.5.2.
#[inline(always)]
pub fn is_none(address: &[u8; 16], v4: bool) -> bool {
    let [first, second, third, last] = words(address);
    last == 0 && (v4 || (first | second | third) == 0)
}

/// An IPv4 group, the broadcast address of this link, or none: the stack takes those in before it asks for a route, which may be the
/// default one.
#[inline(always)]
fn is_for_many(address: &[u8; 16]) -> bool {
    let number = u32::from_be(words(address)[3]);
    number >> 28 == 0xe || number == u32::MAX || number == 0
}

/// Whether the stack would take the packet in, and not pass it on.
///
/// A function of its own, because the stack of who calls it is nearly full.
#[inline(never)]
pub fn is_to_node(ctx: &TcContext, packet: &Packet) -> bool {
    if packet.v4 && is_for_many(&packet.destination) {
        return true;
    }
    // SAFETY: integers and unions of integers, for which zeros are values.
    let mut lookup: Lookup = unsafe { core::mem::zeroed() };
    lookup.ifindex = packet.interface;
    lookup.l4_protocol = packet.protocol;
    let (source, destination) = (words(&packet.source), words(&packet.destination));
    if packet.v4 {
        lookup.family = AF_INET;
        lookup.__bindgen_anon_3.ipv4_src = source[3];
        lookup.__bindgen_anon_4.ipv4_dst = destination[3];
    } else {
        lookup.family = AF_INET6;
        lookup.__bindgen_anon_3.ipv6_src = source;
        lookup.__bindgen_anon_4.ipv6_dst = destination;
    }
    let length = core::mem::size_of::<Lookup>() as i32;
    // SAFETY: a lookup of the length that is said.
    let found = unsafe { bpf_fib_lookup(ctx.as_ptr(), &mut lookup, length, 0) };
    found == NOT_FORWARDED || found == FORWARDING_DISABLED
}

/// Whether the packet is one that a socket here sends; what is passed on has none.
#[inline(always)]
pub fn has_one(ctx: &TcContext) -> bool {
    let skb = ctx.as_ptr().cast::<__sk_buff>();
    // SAFETY: the kernel gives a whole context, and the verifier checks the access.
    unsafe { !(*skb).__bindgen_anon_2.sk.is_null() }
}

/// Whether a packet of TCP that begins no connection is of one that a socket here has.
///
/// A function of its own, because the stack of who calls it is nearly full.
#[inline(never)]
pub fn is_connected(ctx: &TcContext, packet: &Packet, way: Way) -> bool {
    // SAFETY: integers, for which zeros are values.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let (other, own, other_port, own_port) = match way {
        Way::ToPod => (&packet.source, &packet.destination, packet.source_port, packet.detail),
        Way::FromPod => (&packet.destination, &packet.source, packet.detail, packet.source_port),
    };
    let (other, own) = (words(other), words(own));
    let (own_port, other_port) = (own_port.to_be(), other_port.to_be());
    let length = if packet.v4 {
        tuple.__bindgen_anon_1.ipv4 = V4 { saddr: other[3], daddr: own[3], sport: other_port, dport: own_port };
        core::mem::size_of::<V4>()
    } else {
        tuple.__bindgen_anon_1.ipv6 = V6 { saddr: other, daddr: own, sport: other_port, dport: own_port };
        core::mem::size_of::<V6>()
    };
    // SAFETY: a tuple of at least the length that is said. What is found is released.
    unsafe {
        let socket = bpf_skc_lookup_tcp(ctx.as_ptr(), &mut tuple, length as u32, CURRENT_NETNS, 0);
        if socket.is_null() {
            return false;
        }
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state < 32 && CONNECTED & (1 << state) != 0
    }
}
