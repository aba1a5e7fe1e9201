//! Our chains, rules and sets in nftables, from what is wanted. Pure.
//!
//! ```text
//! prerouting -300  svc-tunnelled    tunnelled to a pod of this node by another node: to our tunnel device instead
//! prerouting -150  svc-prerouting   a new connection from elsewhere to a frontend of the whole cluster: mark it
//! output     -150  svc-output       a new connection of this node whose source is a service's address: mark it
//! input        -5  svc-input        to a frontend with a list of clients, from none of them: drop
//!                                   to a service's address, but to no frontend: refuse
//!              99  IPVS             chooses a destination
//! postrouting  95  svc-postrouting  marked, or from a destination to itself: masquerade
//! ```
//!
//! IPVS takes packets where they reach this host (input) or leave it (output), so that its own packets pass no forward chain.

use crate::object::{TUNNEL, TUNNEL_END};
use net_linux::marks;
use net_linux::nft::{
    BaseChain, Chain, ChainId, ChainType, Cmp, Comment, CtState, Expr, Family, FibResult, Field, Hook, Key, MetaKey,
    Name, NatFlags, Payload, Policy, Program, Reg, Reject, Rule, SetUse, TableId, Verdict, address_bytes, priority,
};
use net_linux::pod_ends;
use std::net::{IpAddr, SocketAddr};

/// What the name of every chain and set of ours begins with; the table is shared with others of us.
pub const PREFIX: &str = "svc-";

/// `IPPROTO_IPIP`.
const IPIP: u8 = 4;
/// Where in an IPv4 header its checksum is. RFC 791, section 3.1.
const IP_CHECKSUM: u32 = 10;
/// `NFTA_FIB_F_DADDR` of `include/uapi/linux/netfilter/nf_tables.h`.
const FIB_OF_DESTINATION: u32 = 1 << 1;
/// `RTN_LOCAL` of `include/uapi/linux/rtnetlink.h`.
const RTN_LOCAL: u32 = 2;
/// `IPPROTO_ICMP` and `IPPROTO_ICMPV6`.
const ICMP: [u8; 2] = [1, 58];

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Addresses of the device.
    Addresses,
    /// Address, protocol, port: what a virtual service answers.
    Frontends,
    /// Those of them whose backends may be on other nodes.
    Masqueraded,
    /// A backend's address, twice: it may reach itself through a service.
    Hairpin,
    /// Frontends with a list of clients.
    Limited,
    /// A frontend, and who may use it.
    Allowed,
    /// Frontends whose packets this node tunnels to others, and whose answers go to the client directly.
    Away,
    /// Addresses of this node's pods that others tunnel to.
    Tunnelled,
    /// Addresses of pods of all nodes that nodes tunnel to, and pods do not.
    TunnelEnds,
}

impl Kind {
    /// Whether several frontends may have the same element.
    #[must_use]
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Addresses | Self::Hairpin | Self::Tunnelled | Self::TunnelEnds)
    }
}

/// One of our sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set {
    /// What it holds.
    pub kind: Kind,
    /// Of which family.
    pub ipv6: bool,
}

impl Set {
    const KINDS: [Kind; 9] = [
        Kind::Addresses,
        Kind::Frontends,
        Kind::Masqueraded,
        Kind::Hairpin,
        Kind::Limited,
        Kind::Allowed,
        Kind::Away,
        Kind::Tunnelled,
        Kind::TunnelEnds,
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::KINDS.into_iter().flat_map(|kind| [false, true].map(|ipv6| Self { kind, ipv6 }))
    }

    /// The set of a kind for an address's family.
    #[must_use]
    pub const fn of(kind: Kind, address: IpAddr) -> Self {
        Self { kind, ipv6: address.is_ipv6() }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match (self.kind, self.ipv6) {
            (Kind::Addresses, false) => "svc-addresses4",
            (Kind::Addresses, true) => "svc-addresses6",
            (Kind::Frontends, false) => "svc-frontends4",
            (Kind::Frontends, true) => "svc-frontends6",
            (Kind::Masqueraded, false) => "svc-masqueraded4",
            (Kind::Masqueraded, true) => "svc-masqueraded6",
            (Kind::Hairpin, false) => "svc-hairpin4",
            (Kind::Hairpin, true) => "svc-hairpin6",
            (Kind::Limited, false) => "svc-limited4",
            (Kind::Limited, true) => "svc-limited6",
            (Kind::Allowed, false) => "svc-allowed4",
            (Kind::Allowed, true) => "svc-allowed6",
            (Kind::Away, false) => "svc-away4",
            (Kind::Away, true) => "svc-away6",
            (Kind::Tunnelled, false) => "svc-tunnelled4",
            (Kind::Tunnelled, true) => "svc-tunnelled6",
            (Kind::TunnelEnds, false) => "svc-tunnel-ends4",
            (Kind::TunnelEnds, true) => "svc-tunnel-ends6",
        }
    }

    /// What its keys are made of.
    #[must_use]
    pub fn fields(self) -> Vec<Field> {
        let address = if self.ipv6 { Field::Ipv6Addr } else { Field::Ipv4Addr };
        match self.kind {
            Kind::Addresses | Kind::Tunnelled | Kind::TunnelEnds => vec![address],
            Kind::Frontends | Kind::Masqueraded | Kind::Limited | Kind::Away => {
                vec![address, Field::InetProto, Field::InetService]
            }
            Kind::Hairpin => vec![address, address],
            Kind::Allowed => vec![address, Field::InetProto, Field::InetService, address],
        }
    }

    /// The set as we make it.
    #[must_use]
    pub fn set(self) -> net_linux::nft::Set {
        let set = net_linux::nft::Set::new(table().set(name(self.name())), self.fields());
        if self.kind == Kind::Allowed { set.interval() } else { set }
    }
}

/// The key of a frontend in [`Kind::Frontends`] and its like.
#[must_use]
pub fn frontend(protocol: u8, address: SocketAddr) -> Key {
    Key::concat(&[&address_bytes(address.ip()), &[protocol], &address.port().to_be_bytes()])
}

/// The key of a client's network in [`Kind::Allowed`].
#[must_use]
pub fn allowed(protocol: u8, address: SocketAddr, clients: ipnet::IpNet) -> Key {
    let (ip, port) = (address_bytes(address.ip()), address.port().to_be_bytes());
    let (first, last) = (address_bytes(clients.network()), address_bytes(clients.broadcast()));
    Key::concat_ranges(&[(&ip, &ip), (&[protocol], &[protocol]), (&port, &port), (&first, &last)])
}

/// The key of a backend in [`Kind::Hairpin`].
#[must_use]
pub fn hairpin(address: IpAddr) -> Key {
    let bytes = address_bytes(address);
    Key::concat(&[&bytes, &bytes])
}

/// Our table.
#[must_use]
pub fn table() -> TableId {
    TableId::new(Family::Inet, name(marks::NFT_TABLE))
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("names made here have 1 to 255 bytes without NUL")
}

/// All chains with their rules, in order.
#[must_use]
pub fn chains() -> Vec<(Chain, Vec<Rule>)> {
    let filter = ChainType::Filter;
    let chain = |text: &str, kind: &ChainType, hook, priority| {
        let base = BaseChain { kind: kind.clone(), hook, priority, policy: Policy::Accept };
        Chain::base(table().chain(name(text)), base)
    };
    let marked = (marks::SERVICE_MASQUERADED, marks::SERVICE_MASQUERADED);
    let new = || Program::new().ct_state(CtState::NEW);
    let of_family = |each: &dyn Fn(bool) -> Program| [each(false), each(true)];
    let from_elsewhere = |ipv6| {
        pod_ends::others(&family(new(), ipv6), pod_ends::Side::From)
            .map(|program| lookup(program, ipv6, Kind::Masqueraded, false).set_mark(marked.0, marked.1))
    };
    let from_itself = |ipv6| {
        let program = family(new(), ipv6).matches_in(source(ipv6), set_name(Kind::Addresses, ipv6));
        lookup(program, ipv6, Kind::Frontends, false).set_mark(marked.0, marked.1)
    };
    let stranger = |ipv6| {
        let program = lookup(family(Program::new(), ipv6), ipv6, Kind::Limited, false);
        lookup(program, ipv6, Kind::Allowed, true).verdict(Verdict::Drop)
    };
    let undeclared = |ipv6| {
        let program = family(new(), ipv6).matches_in(destination(ipv6), set_name(Kind::Addresses, ipv6)).meta(
            MetaKey::L4Proto,
            Cmp::Ne,
            vec![ICMP[usize::from(ipv6)]],
        );
        lookup(program, ipv6, Kind::Frontends, true).reject(Reject::PORT)
    };
    // An answer from another node would carry an address of this one, which this one does not take from outside.
    let no_way_back = |program: Program| lookup(program.ipv4(), false, Kind::Away, false).reject(Reject::PORT);
    let tunnelled_to = |kind| Program::new().ipv4().l4proto(IPIP).matches_in(Payload::IP_DADDR, set_name(kind, false));
    // Past what would be asked about a packet from outside: so only to addresses of services.
    let smuggled = Program::new()
        .ipv4()
        .interface(MetaKey::IifName, Cmp::Eq, TUNNEL)
        .matches_not_in(Payload::IP_DADDR, set_name(Kind::Addresses, false))
        .verdict(Verdict::Drop);
    // Never what is for the node itself, such as a tunnel of the pod network. Without a connection: which one it is about, its
    // inside says.
    let taken_in = tunnelled_to(Kind::Tunnelled)
        .then(Expr::Fib { dreg: Reg::A, result: FibResult::AddressType, flags: FIB_OF_DESTINATION })
        .then(Expr::Cmp { sreg: Reg::A, op: Cmp::Ne, value: RTN_LOCAL.to_ne_bytes().to_vec() })
        .then(Expr::Immediate { dreg: Reg::A, value: TUNNEL_END.octets().to_vec() })
        .then(Expr::PayloadSet { field: Payload::IP_DADDR, sreg: Reg::A, checksum: Some(IP_CHECKSUM) })
        .then(Expr::NoTrack);
    let to_itself = |ipv6| {
        let (first, second) = (Reg::A, after_address(ipv6));
        family(Program::new(), ipv6)
            .then(Expr::Payload { field: source(ipv6), dreg: first })
            .then(Expr::Payload { field: destination(ipv6), dreg: second })
            .then(Expr::Lookup { set: SetUse::Named(set_name(Kind::Hairpin, ipv6)), sreg: first, inverted: false })
            .masquerade(NatFlags::FULLY_RANDOM)
    };
    let all_marked = Program::new().mark_any(marks::SERVICE_MASQUERADED).masquerade(NatFlags::FULLY_RANDOM);
    let parts = [
        (
            chain("svc-tunnelled", &filter, Hook::Prerouting, priority::RAW),
            vec![
                ("no service", smuggled),
                (
                    "no node",
                    pod_ends::only(tunnelled_to(Kind::TunnelEnds), pod_ends::Side::From).verdict(Verdict::Drop),
                ),
                ("for a pod", taken_in),
            ],
        ),
        (
            chain("svc-prerouting", &filter, Hook::Prerouting, priority::MANGLE),
            [from_elsewhere(false), from_elsewhere(true)]
                .concat()
                .into_iter()
                .map(|program| ("from elsewhere", program))
                .collect(),
        ),
        (
            chain("svc-output", &filter, Hook::Output, priority::MANGLE),
            std::iter::once(("no way back", no_way_back(Program::new())))
                .chain(of_family(&from_itself).map(|program| ("from itself", program)))
                .collect(),
        ),
        (
            chain("svc-input", &filter, Hook::Input, priority::FILTER - 5),
            [
                of_family(&stranger).map(|program| ("no client of it", program)).to_vec(),
                of_family(&undeclared).map(|program| ("no service", program)).to_vec(),
                vec![("no way back", no_way_back(pod_ends::only(Program::new(), pod_ends::Side::From)))],
            ]
            .concat(),
        ),
        (
            chain("svc-postrouting", &ChainType::Nat, Hook::Postrouting, priority::SRCNAT - 5),
            std::iter::once(("answers come back", all_marked))
                .chain(of_family(&to_itself).map(|program| ("to itself", program)))
                .collect(),
        ),
    ];
    parts
        .into_iter()
        .map(|(chain, programs)| {
            let rule =
                |(comment, program): (&str, Program)| Rule::new(chain.id.clone(), program).commented(said(comment));
            let rules = programs.into_iter().map(rule).collect();
            (chain, rules)
        })
        .collect()
}

/// Whether a chain is one of ours, by its name.
#[must_use]
pub fn is_ours(chain: &ChainId) -> bool {
    chain.name.as_str().starts_with(PREFIX)
}

fn said(text: &str) -> Comment {
    Comment::new(&format!("cnidarian:services {text}")).expect("a short text without NUL")
}

fn family(program: Program, ipv6: bool) -> Program {
    if ipv6 { program.ipv6() } else { program.ipv4() }
}

const fn source(ipv6: bool) -> Payload {
    if ipv6 { Payload::IP6_SADDR } else { Payload::IP_SADDR }
}

const fn destination(ipv6: bool) -> Payload {
    if ipv6 { Payload::IP6_DADDR } else { Payload::IP_DADDR }
}

fn set_name(kind: Kind, ipv6: bool) -> Name {
    name(Set { kind, ipv6 }.name())
}

/// The register after an address in [`Reg::A`].
fn after_address(ipv6: bool) -> Reg {
    at(if ipv6 { 4 } else { 1 })
}

fn at(slot: u8) -> Reg {
    Reg::slot(slot).expect("an IPv6 address, protocol, port and IPv6 address are ten slots of sixteen")
}

/// Only what goes to an element of the set; with [`Kind::Allowed`]: and comes from one.
fn lookup(program: Program, ipv6: bool, kind: Kind, inverted: bool) -> Program {
    let next = if ipv6 { 4 } else { 1 };
    let mut program = program
        .then(Expr::Payload { field: destination(ipv6), dreg: Reg::A })
        .then(Expr::Meta { key: MetaKey::L4Proto, dreg: at(next) })
        .then(Expr::Payload { field: Payload::DPORT, dreg: at(next + 1) });
    if kind == Kind::Allowed {
        program = program.then(Expr::Payload { field: source(ipv6), dreg: at(next + 2) });
    }
    program.then(Expr::Lookup { set: SetUse::Named(set_name(kind, ipv6)), sreg: Reg::A, inverted })
}
