//! Our table: chains, rules, sets. Pure, and never another's table.
//!
//! ```text
//! prerouting -105  to a frontend of the whole cluster, not from a pod: mark
//!                  to a frontend, not from a pod: its choice ─> choose4-random-3: a number below 3, the backend at that place, dnat
//!                                                 or its clients (`sources`) ─> drop, or its choice
//! postrouting  95  marked, and not to a pod of this node: masquerade
//! input, forward -5  to a frontend without backends: refuse
//! ```
//!
//! Only the first packet of a connection is looked at: the rest, its answers, errors about it and fragments are the kernel's
//! connection tracking's.

use super::object::{Choice, Frontend, Key as Ours};
use net_linux::marks;
use net_linux::nft::{
    BaseChain, Chain, ChainType, Comment, Expr, Family, Field, Hook, Key, MetaKey, Name, Nat, NatFlags, Payload,
    Policy, Program, Reg, Reject, Rule, Set, SetUse, TableId, Verdict, address_bytes, priority,
};
use net_linux::pod_ends::{self, Side};
use std::net::SocketAddr;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` of `include/uapi/linux/netfilter.h`.
const NFPROTO: [u32; 2] = [2, 10];
/// All nodes choose alike for a client.
const SEED: u32 = 0x636e_6964;

/// What the name of every chain that chooses begins with.
pub(super) const CHOICE_PREFIX: &str = "choose";

/// What a set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A frontend's choice.
    Frontends,
    /// The backend at a place.
    Backends,
    /// Frontends of the whole cluster.
    Masqueraded,
    /// Frontends without backends.
    Refused,
}

const KINDS: [Kind; 4] = [Kind::Frontends, Kind::Backends, Kind::Masqueraded, Kind::Refused];

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("names made here have 1 to 255 bytes without NUL")
}

pub(super) fn table() -> TableId {
    TableId::new(Family::Inet, name(marks::NFT_SERVICES_TABLE))
}

fn set_name(kind: Kind, ipv6: bool) -> Name {
    let text = match kind {
        Kind::Frontends => "frontends",
        Kind::Backends => "backends",
        Kind::Masqueraded => "masqueraded",
        Kind::Refused => "refused",
    };
    name(&format!("{text}{}", if ipv6 { 6 } else { 4 }))
}

/// All sets, with what they hold and of which family.
pub(super) fn sets() -> impl Iterator<Item = (Kind, bool, Set)> {
    KINDS.into_iter().flat_map(|kind| [false, true].map(|ipv6| (kind, ipv6, set(kind, ipv6))))
}

pub(super) fn set(kind: Kind, ipv6: bool) -> Set {
    let address = if ipv6 { Field::Ipv6Addr } else { Field::Ipv4Addr };
    let frontend = [address, Field::InetProto, Field::InetService];
    let id = table().set(set_name(kind, ipv6));
    match kind {
        Kind::Frontends => Set::new(id, frontend).verdict_map(),
        Kind::Backends => Set::new(id, [address, Field::InetProto, Field::InetService, Field::Mark])
            .map([address, Field::InetService]),
        Kind::Masqueraded | Kind::Refused => Set::new(id, frontend),
    }
}

/// The set and the key of an element; `None` for what is none.
pub(super) fn element(key: &Ours) -> Option<(Kind, bool, Key)> {
    let of = |frontend: &Frontend, place: Option<u32>| {
        let (address, port) = (address_bytes(frontend.address.ip()), frontend.address.port().to_be_bytes());
        let protocol = [frontend.protocol];
        let mut fields: Vec<&[u8]> = vec![&address, &protocol, &port];
        let place = place.map(u32::to_ne_bytes);
        fields.extend(place.as_ref().map(|place| &place[..]));
        (frontend.address.is_ipv6(), Key::concat(&fields))
    };
    let (kind, (ipv6, key)) = match key {
        Ours::Rules | Ours::Choice(_) | Ours::Sources(_) => return None,
        Ours::Backend(frontend, place) => (Kind::Backends, of(frontend, Some(*place))),
        Ours::Masqueraded(frontend) => (Kind::Masqueraded, of(frontend, None)),
        Ours::Frontend(frontend) => (Kind::Frontends, of(frontend, None)),
        Ours::Refused(frontend) => (Kind::Refused, of(frontend, None)),
    };
    Some((kind, ipv6, key))
}

/// An address and a port as an element's value has them, the port filled up to four bytes.
pub(super) fn value(backend: SocketAddr) -> Vec<u8> {
    let mut bytes = address_bytes(backend.ip());
    bytes.extend(backend.port().to_be_bytes());
    bytes.extend([0; 2]);
    bytes
}

/// The chain of a choice with its one rule.
pub(super) fn choice(choice: Choice) -> (Chain, Rule) {
    let ipv6 = choice.ipv6;
    let (place, chosen) = (at(words(ipv6) + 2), at(8));
    let port = at(8 + words(ipv6));
    let program = frontend(family(Program::new(), ipv6), ipv6);
    let program = if choice.by_client {
        let bytes = if ipv6 { 16 } else { 4 };
        let (sreg, modulus) = (chosen, choice.count);
        program
            .then(Expr::Payload { field: if ipv6 { Payload::IP6_SADDR } else { Payload::IP_SADDR }, dreg: sreg })
            .then(Expr::Hash { sreg, bytes, dreg: place, modulus, seed: SEED })
    } else {
        program.then(Expr::Random { dreg: place, modulus: choice.count })
    };
    let program = program
        .then(Expr::Map { set: SetUse::Named(set_name(Kind::Backends, ipv6)), sreg: Reg::A, dreg: chosen })
        .then(Expr::Nat(Nat {
            destination: true,
            family: NFPROTO[usize::from(ipv6)],
            address: Some((chosen, chosen)),
            port: Some((port, port)),
            flags: NatFlags::TO_ADDRESS_AND_PORT,
        }));
    let chain = Chain::regular(table().chain(name(&choice.to_string())));
    let rule = Rule::new(chain.id.clone(), program);
    (chain, rule)
}

/// The choice whose chain has this name.
pub(super) fn choice_of(name: &Name) -> Option<Choice> {
    let rest = name.as_str().strip_prefix(CHOICE_PREFIX)?;
    let (family, rest) = rest.split_at_checked(1)?;
    let (how, count) = rest.strip_prefix('-')?.split_once('-')?;
    let found = Choice { count: count.parse().ok()?, by_client: how == "client", ipv6: family == "6" };
    Some(found).filter(|found| found.to_string() == name.as_str())
}

/// Base chains with their rules, in order.
pub(super) fn chains() -> Vec<(Chain, Vec<Rule>)> {
    let chain = |text: &str, kind: ChainType, hook, priority| {
        Chain::base(table().chain(name(text)), BaseChain { kind, hook, priority, policy: Policy::Accept })
    };
    let mark = marks::SERVICE_MASQUERADED;
    let inside = |program: Program, kind, ipv6| {
        frontend(family(program, ipv6), ipv6).then(Expr::Lookup {
            set: SetUse::Named(set_name(kind, ipv6)),
            sreg: Reg::A,
            inverted: false,
        })
    };
    let marked = |ipv6| {
        pod_ends::others(&Program::new(), Side::From)
            .map(|program| inside(program, Kind::Masqueraded, ipv6).set_mark(mark, mark))
    };
    // A pod's packet was judged before, by the address that it has now: programs at its socket translate, or nobody.
    let led = |ipv6| {
        pod_ends::others(&Program::new(), Side::From).map(|program| {
            let set = SetUse::Named(set_name(Kind::Frontends, ipv6));
            frontend(family(program, ipv6), ipv6).then(Expr::VerdictMap { set, sreg: Reg::A })
        })
    };
    let refused = |ipv6| inside(Program::new(), Kind::Refused, ipv6).reject(Reject::PORT);
    let back = pod_ends::others(&Program::new().mark_any(mark), Side::To)
        .map(|program| program.masquerade(NatFlags::FULLY_RANDOM));
    let both = |each: &dyn Fn(bool) -> Program| vec![each(false), each(true)];
    let filter = || ChainType::Filter;
    let parts = [
        (
            chain("prerouting", ChainType::Nat, Hook::Prerouting, priority::DSTNAT - 5),
            [marked(false), marked(true), led(false), led(true)].concat(),
        ),
        (chain("postrouting", ChainType::Nat, Hook::Postrouting, priority::SRCNAT - 5), back.to_vec()),
        (chain("input", filter(), Hook::Input, priority::FILTER - 5), both(&refused)),
        (chain("forward", filter(), Hook::Forward, priority::FILTER - 5), both(&refused)),
    ];
    let said = Comment::new("cnidarian:services outside").expect("a short text without NUL");
    let parts = parts.into_iter().map(|(chain, programs)| {
        let rule = |program: Program| Rule::new(chain.id.clone(), program).commented(said.clone());
        let rules = programs.into_iter().map(rule).collect();
        (chain, rules)
    });
    parts.collect()
}

pub(super) fn family(program: Program, ipv6: bool) -> Program {
    if ipv6 { program.ipv6() } else { program.ipv4() }
}

/// Registers of four bytes that an address takes.
const fn words(ipv6: bool) -> u8 {
    if ipv6 { 4 } else { 1 }
}

fn at(slot: u8) -> Reg {
    Reg::slot(slot).expect("the key takes seven slots, the value five from the eighth on, of sixteen")
}

/// Loads a frontend's key: address, protocol, port.
fn frontend(program: Program, ipv6: bool) -> Program {
    program
        .then(Expr::Payload { field: if ipv6 { Payload::IP6_DADDR } else { Payload::IP_DADDR }, dreg: Reg::A })
        .then(Expr::Meta { key: MetaKey::L4Proto, dreg: at(words(ipv6)) })
        .then(Expr::Payload { field: Payload::DPORT, dreg: at(words(ipv6) + 1) })
}

/// How a frontend is chosen, as an element's value.
pub(super) fn verdict(choice: Choice) -> Verdict {
    Verdict::Goto(name(&choice.to_string()))
}
