//! ICMP errors about open connections: which pass without a look at the policies. Never an ICMP message of another kind.
//!
//! The kernel calls a packet related when what it quotes is of a connection that it knows, and only if it goes to the one who
//! sent what is quoted. It does not ask who says so. Routers on the way do, and nobody knows which they are, so errors from
//! outside are believed. A pod is no router: it can only have met what was sent to itself, so it is the connection's other end.

use super::{Compiler, Objects, rule};
use crate::names::{self, Walk, name};
use crate::object::{Key, Object, RuleObject};
use cni_core::policy::model::{Action, Family, Protocol};
use net_linux::nft::{CtDirection, CtKey, CtState, Expr, MetaKey, Payload, Program, Reg, SetUse, Verdict};
use std::ops::RangeInclusive;

/// Errors that a host may need to hear of. ICMP: destination unreachable (with the MTU of a path), time exceeded, parameter
/// problem; RFC 792. Not source quench (obsolete, RFC 6633) and not redirect, which only a gateway sends and ours does not.
const ERRORS_V4: [RangeInclusive<u8>; 2] = [3..=3, 11..=12];
/// ICMPv6: unreachable, packet too big, time exceeded, parameter problem. RFC 4443, section 3.
const ERRORS_V6: [RangeInclusive<u8>; 1] = [1..=4];
/// All that quote a packet: those, source quench and redirect; of ICMPv6 all errors, RFC 4443, section 2.1.
const QUOTING_V4: [RangeInclusive<u8>; 2] = [3..=5, 11..=12];
const QUOTING_V6: [RangeInclusive<u8>; 1] = [1..=127];

/// The chains that packets of related connections go to: what comes from pods, and what may come from anybody.
pub(super) fn objects(compiler: &Compiler) -> Objects {
    let mut from_pods = Vec::new();
    for (family, source) in [(Family::V4, CtKey::SrcIp), (Family::V6, CtKey::SrcIp6)] {
        for direction in [CtDirection::Original, CtDirection::Reply] {
            let own = Program::new()
                .then(Expr::Meta { key: MetaKey::IifName, dreg: Reg::A })
                .then(Expr::Ct { key: source, dreg: Reg::B, direction: Some(direction) })
                .then(Expr::Lookup { set: SetUse::Named(name(names::own(family))), sreg: Reg::A, inverted: false });
            from_pods.push(rule(own.verdict(Verdict::Goto(name(names::RELATED))), "an end of the connection"));
        }
    }
    let mut from_all = Vec::new();
    for (family, protocol, errors) in
        [(Family::V4, Protocol::ICMP, &ERRORS_V4[..]), (Family::V6, Protocol::ICMPV6, &ERRORS_V6[..])]
    {
        for kinds in errors {
            from_all.push(rule(kind_in(of(family, protocol), kinds).verdict(Verdict::Accept), "error"));
        }
    }
    let chain = |chain: &str, mut rules: Vec<RuleObject>| {
        for (family, protocol) in [(Family::V4, Protocol::ICMP), (Family::V6, Protocol::ICMPV6)] {
            let forged = compiler.decide(of(family, protocol), Action::Deny, Walk::Enforced, names::FORGED);
            rules.push(rule(forged, names::FORGED));
        }
        // Data connections of protocols that have helpers.
        rules.push(rule(Program::new().verdict(Verdict::Accept), "related"));
        (Key::Chain(name(chain)), Object::Chain { base: None, rules })
    };
    vec![chain(names::RELATED, from_all), chain(names::RELATED_FROM, from_pods)]
}

/// What sends related packets to their chain.
pub(super) fn dispatch(chain: &str) -> Program {
    Program::new().ct_state(CtState::RELATED).verdict(Verdict::Goto(name(chain)))
}

/// Errors from pods that are not related to a connection: this node does not know it, so the pod is no end of it. The nodes of
/// its ends would believe the error, which comes to them from a node and not from a pod.
pub(super) fn about_others(compiler: &Compiler) -> impl Iterator<Item = RuleObject> {
    let forged = |kinds: &RangeInclusive<u8>, family, protocol| {
        let program =
            compiler.decide(kind_in(of(family, protocol), kinds), Action::Deny, Walk::Enforced, names::FORGED);
        rule(program, names::FORGED)
    };
    let v4 = QUOTING_V4.iter().map(move |kinds| forged(kinds, Family::V4, Protocol::ICMP));
    v4.chain(QUOTING_V6.iter().map(move |kinds| forged(kinds, Family::V6, Protocol::ICMPV6)))
}

fn of(family: Family, protocol: Protocol) -> Program {
    let program = if family == Family::V4 { Program::new().ipv4() } else { Program::new().ipv6() };
    program.l4proto(protocol.0)
}

fn kind_in(program: Program, kinds: &RangeInclusive<u8>) -> Program {
    let (from, to) = (vec![*kinds.start()], vec![*kinds.end()]);
    let load = Expr::Payload { field: Payload::ICMP_TYPE, dreg: Reg::A };
    program.then(load).then(Expr::Range { sreg: Reg::A, inverted: false, from, to })
}
