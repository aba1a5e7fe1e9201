//! What exists whatever the items are: base chains, dispatch maps, and who may send from which address. Never a policy.
//!
//! ```text
//! forward -2  pol-egress    from a pod?  own address?  established?  pol-from: interface -> its chain   else dropped
//! forward -1  pol-ingress   to a pod?                  established?  pol-to:   interface -> its chain   else dropped
//! input   -2  pol-input     as pol-egress, and neighbour discovery always passes; beside a proxy [`proxied`] has its end
//! ```
//!
//! Two chains at one hook, because what the first accepts must still be seen by the second.

use super::{Compiler, Objects, errors, proxied, rule};
use crate::names::{self, Walk, name};
use crate::object::{Key, Object, RuleObject};
use cni_core::policy::model::{Action, Family, Protocol};
use net_linux::marks;
use net_linux::nft::{
    self, BaseChain, ChainType, Cmp, CtState, Expr, Hook, MetaKey, Payload, Policy, Program, Reg, SetUse, Verdict,
    priority,
};
use net_linux::pod_ends::{self, Side};

/// ICMPv6 types of neighbour discovery that a host sends to its router: solicitation of routers and neighbours, and
/// neighbour advertisement. RFC 4861, section 4.
const NEIGHBOUR_DISCOVERY: [u8; 3] = [133, 135, 136];
const PORTED: [Protocol; 4] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::UDP_LITE];
const ICMP: [Protocol; 2] = [Protocol::ICMP, Protocol::ICMPV6];

pub(super) fn objects(compiler: &Compiler) -> Objects {
    let mut objects = vec![(Key::Table, Object::Table { dormant: false })];
    objects.extend(names::always().map(|set| (Key::Set(set), Object::Set { intact: true })));
    for (set, protocols) in [(names::PORTED, &PORTED[..]), (names::ICMP, &ICMP[..])] {
        let elements = protocols.iter().map(|protocol| nft::Key::One(vec![protocol.0]));
        objects.extend(elements.map(|key| (Key::Element(name(set), key), Object::Element(None))));
    }
    objects.extend(errors::objects(compiler));
    let (from, to) = (MetaKey::IifName, MetaKey::OifName);
    let mut egress = others(Side::From).to_vec();
    egress.extend(spoofed(compiler));
    egress.extend(dispatch(compiler, from, names::FROM));
    let mut ingress = others(Side::To).to_vec();
    ingress.extend(dispatch(compiler, to, names::TO));
    let mut input = others(Side::From).to_vec();
    input.extend(NEIGHBOUR_DISCOVERY.map(|kind| {
        // Not what an IPv4 packet calls so.
        let discovery =
            Program::new().ipv6().l4proto(Protocol::ICMPV6.0).payload(Payload::ICMP_TYPE, Cmp::Eq, vec![kind]);
        rule(discovery.verdict(Verdict::Accept), "neighbour discovery")
    }));
    input.extend(spoofed(compiler));
    let dispatched = dispatch(compiler, from, names::FROM);
    if compiler.follows_a_proxy() {
        input.extend(dispatched[..dispatched.len() - ENDS_OF_DISPATCH].iter().cloned());
        objects.extend(proxied::objects(compiler, dispatched));
    } else {
        input.extend(dispatched);
    }
    for (chain, hook, before_filters, rules) in [
        (names::EGRESS, Hook::Forward, 2, egress),
        (names::INGRESS, Hook::Forward, 1, ingress),
        (names::INPUT, Hook::Input, 2, input),
    ] {
        objects.push(base_chain(chain, hook, priority::FILTER - before_filters, rules));
    }
    objects
}

pub(super) fn base_chain(chain: &str, hook: Hook, priority: i32, rules: Vec<RuleObject>) -> (Key, Object) {
    let base = BaseChain { kind: ChainType::Filter, hook, priority, policy: Policy::Accept };
    (Key::Chain(name(chain)), Object::Chain { base: Some(base), rules })
}

/// What comes from another interface than a pod's, or goes there, passes.
pub(super) fn others(side: Side) -> [RuleObject; 2] {
    pod_ends::others(&Program::new(), side).map(|program| rule(program.verdict(Verdict::Accept), "no pod's"))
}

/// Before anything else, also before established connections: else a pod could write into those of others.
fn spoofed(compiler: &Compiler) -> [RuleObject; 2] {
    [Family::V4, Family::V6].map(|family| {
        let (program, source) = match family {
            Family::V4 => (Program::new().ipv4(), Payload::IP_SADDR),
            Family::V6 => (Program::new().ipv6(), Payload::IP6_SADDR),
        };
        let program = program
            .then(Expr::Meta { key: MetaKey::IifName, dreg: Reg::A })
            .then(Expr::Payload { field: source, dreg: Reg::B })
            .then(Expr::Lookup { set: SetUse::Named(name(names::own(family))), sreg: Reg::A, inverted: true });
        rule(compiler.decide(program, Action::Deny, Walk::Enforced, names::SPOOFED), names::SPOOFED)
    })
}

/// So many rules at the end of [`dispatch`] are about the endpoint, and those before about the connection.
pub(super) const ENDS_OF_DISPATCH: usize = 2;

pub(super) fn dispatch(compiler: &Compiler, interface: MetaKey, map: &str) -> Vec<RuleObject> {
    let of_pods = map == names::FROM;
    let related = if of_pods { names::RELATED_FROM } else { names::RELATED };
    let cut = Program::new().ct_mark_any(marks::CONNECTION_DENIED);
    let cut = compiler.decide(cut, Action::Deny, Walk::Enforced, names::SINCE_OPENED);
    // An interface without a program is a pod that is not ready, or no longer there.
    let unknown = compiler.decide(Program::new(), Action::Deny, Walk::Enforced, names::UNKNOWN);
    let mut rules = vec![
        rule(cut, names::SINCE_OPENED),
        rule(Program::new().ct_state(CtState::ESTABLISHED).verdict(Verdict::Accept), "established"),
        rule(errors::dispatch(related), "related"),
    ];
    rules.extend(of_pods.then(|| errors::about_others(compiler)).into_iter().flatten());
    rules.push(rule(Program::new().meta_vmap(interface, name(map)), "endpoints"));
    rules.push(rule(unknown, names::UNKNOWN));
    rules
}
