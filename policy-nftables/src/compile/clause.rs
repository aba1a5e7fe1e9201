//! Conditions to expressions: one nftables rule per clause. Never a verdict.

use super::{Objects, family_of, set_name};
use crate::names::{self, name};
use crate::object::{Key, Object};
use cni_core::backend::Result;
use cni_core::policy::model::{Direction, Family, Icmp, PortRange, Protocol};
use cni_core::policy::program::{Clause, SetKind, SetMatch, Side};
use net_linux::nft::{self, Cmp, Expr, FibResult, MetaKey, Payload, Program, Reg, SetUse};
use std::collections::BTreeSet;

/// `NFTA_FIB_F_SADDR` and `NFTA_FIB_F_DADDR` of `include/uapi/linux/netfilter/nf_tables.h`.
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
/// `RTN_LOCAL` of `include/uapi/linux/rtnetlink.h`.
const RTN_LOCAL: u32 = 2;

/// The expressions of a clause; `None` when nothing can match it. Sets of ports that it needs are added to `objects`.
pub(super) fn program(clause: &Clause, direction: Direction, objects: &mut Objects) -> Result<Option<Program>> {
    let Some(family) = family(clause) else { return Ok(None) };
    let mut program = match family {
        None => Program::new(),
        Some(Family::V4) => Program::new().ipv4(),
        Some(Family::V6) => Program::new().ipv6(),
    };
    program = match protocols(clause, program) {
        Some(program) => program,
        None => return Ok(None),
    };
    for (field, ranges, wanted) in [
        (Payload::SPORT, &clause.source_ports, true),
        (Payload::SPORT, &clause.not_source_ports, false),
        (Payload::DPORT, &clause.destination_ports, true),
        (Payload::DPORT, &clause.not_destination_ports, false),
    ] {
        let Some(ranges) = ranges else { continue };
        program = match ports(program, field, &merged(ranges), wanted, objects) {
            Some(program) => program,
            None => return Ok(None),
        };
    }
    if let Some(icmp) = clause.icmp {
        program = message(program, icmp, Cmp::Eq);
    }
    if let Some(icmp) = clause.not_icmp {
        program = message(program, icmp, Cmp::Ne);
    }
    for set in &clause.sets {
        program = lookup(program, set)?;
    }
    if let Some(own) = clause.own_node {
        program = own_node(program, direction, own);
    }
    Ok(Some(program))
}

/// The other end is, or is not, this node.
pub(super) fn own_node(program: Program, direction: Direction, own: bool) -> Program {
    let flags = if direction == Direction::Egress { FIB_DESTINATION } else { FIB_SOURCE };
    let op = if own { Cmp::Eq } else { Cmp::Ne };
    program.then(Expr::Fib { dreg: Reg::A, result: FibResult::AddressType, flags }).then(Expr::Cmp {
        sreg: Reg::A,
        op,
        value: RTN_LOCAL.to_ne_bytes().to_vec(),
    })
}

/// The family that all conditions agree on; `None` when they do not.
#[expect(clippy::option_option, reason = "no family, one family, or a contradiction")]
fn family(clause: &Clause) -> Option<Option<Family>> {
    let mut families: BTreeSet<Family> = clause.sets.iter().map(|set| family_of(set.set.kind)).collect();
    families.extend(clause.family);
    match families.len() {
        0 => Some(None),
        1 => Some(families.pop_first()),
        _ => None,
    }
}

/// Conditions on the protocol, also those that ports and ICMP messages imply; `None` when they contradict each other.
fn protocols(clause: &Clause, mut program: Program) -> Option<Program> {
    let ports =
        [&clause.source_ports, &clause.not_source_ports, &clause.destination_ports, &clause.not_destination_ports];
    let (ports, icmp) = (ports.iter().any(|ports| ports.is_some()), clause.icmp.is_some() || clause.not_icmp.is_some());
    let is_icmp = |protocol| [Protocol::ICMP, Protocol::ICMPV6].contains(&protocol);
    match clause.protocol {
        Some(protocol) => {
            let impossible = ports && !protocol.has_ports() || icmp && !is_icmp(protocol);
            if impossible || clause.not_protocol == Some(protocol) {
                return None;
            }
            program = program.l4proto(protocol.0);
        }
        None => {
            if ports && icmp {
                return None;
            }
            for set in [ports.then_some(names::PORTED), icmp.then_some(names::ICMP)].into_iter().flatten() {
                program = program.then(Expr::Meta { key: MetaKey::L4Proto, dreg: Reg::A }).then(Expr::Lookup {
                    set: SetUse::Named(name(set)),
                    sreg: Reg::A,
                    inverted: false,
                });
            }
            if let Some(protocol) = clause.not_protocol {
                program = program.meta(MetaKey::L4Proto, Cmp::Ne, vec![protocol.0]);
            }
        }
    }
    Some(program)
}

/// The fewest ranges that hold the same ports.
fn merged(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted: Vec<PortRange> = ranges.iter().copied().filter(|range| range.first <= range.last).collect();
    sorted.sort();
    let mut merged: Vec<PortRange> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => last.last = last.last.max(range.last),
            _ => merged.push(range),
        }
    }
    merged
}

fn ports(
    program: Program,
    field: Payload,
    ranges: &[PortRange],
    wanted: bool,
    objects: &mut Objects,
) -> Option<Program> {
    let bytes = |port: u16| port.to_be_bytes().to_vec();
    match ranges {
        [] if wanted => None,
        [] => Some(program),
        [PortRange { first: 0, last: u16::MAX }] => wanted.then_some(program),
        [PortRange { first, last }] if first == last => {
            Some(program.payload(field, if wanted { Cmp::Eq } else { Cmp::Ne }, bytes(*first)))
        }
        [PortRange { first, last }] => Some(program.then(Expr::Payload { field, dreg: Reg::A }).then(Expr::Range {
            sreg: Reg::A,
            inverted: !wanted,
            from: bytes(*first),
            to: bytes(*last),
        })),
        several => {
            let exact: Vec<u8> = several
                .iter()
                .flat_map(|range| [range.first.to_be_bytes(), range.last.to_be_bytes()].concat())
                .collect();
            let set = names::ports(&exact);
            objects.push((Key::Set(set.clone()), Object::Set { intact: true }));
            for range in several {
                let key = nft::Key::range(bytes(range.first), bytes(range.last));
                objects.push((Key::Element(set.clone(), key), Object::Element(None)));
            }
            Some(program.then(Expr::Payload { field, dreg: Reg::A }).then(Expr::Lookup {
                set: SetUse::Named(set),
                sreg: Reg::A,
                inverted: !wanted,
            }))
        }
    }
}

fn message(program: Program, icmp: Icmp, op: Cmp) -> Program {
    match icmp.code {
        None => program.payload(Payload::ICMP_TYPE, op, vec![icmp.kind]),
        Some(code) => program.payload(Payload::ICMP_TYPE_AND_CODE, op, vec![icmp.kind, code]),
    }
}

fn lookup(program: Program, wanted: &SetMatch) -> Result<Program> {
    let (kind, set) = (wanted.set.kind, set_name(&wanted.set)?);
    let field = match (family_of(kind), wanted.side) {
        (Family::V4, Side::Source) => Payload::IP_SADDR,
        (Family::V4, Side::Destination) => Payload::IP_DADDR,
        (Family::V6, Side::Source) => Payload::IP6_SADDR,
        (Family::V6, Side::Destination) => Payload::IP6_DADDR,
    };
    let mut program = program.then(Expr::Payload { field, dreg: Reg::A });
    if let SetKind::AddressPorts(_) = kind {
        let after = |reg: Reg, bytes: u32| {
            reg.after(bytes as usize).expect("an address, a protocol and a port take 6 of 16 registers")
        };
        let protocol = after(Reg::A, field.length);
        program = program
            .then(Expr::Meta { key: MetaKey::L4Proto, dreg: protocol })
            .then(Expr::Payload { field: Payload::DPORT, dreg: after(protocol, 1) });
    }
    Ok(program.then(Expr::Lookup { set: SetUse::Named(set), sreg: Reg::A, inverted: wanted.negated }))
}
