//! The hooks of packets that a service proxy translates where the node delivers them to itself. Never a chain of an endpoint:
//! a packet is judged by the same ones as one that is forwarded, by the addresses that it has then.
//!
//! ```text
//! input   -2  pol-input         from a pod: own address? a connection that is denied? an error that is believed?
//!             the proxy         takes what is to a service, and sends it on as the node sends its own
//! input  101  pol-local         what is left is to the node: pol-from
//! output  -4  pol-proxied-out   established?  pol-source: address of a pod of this node -> its egress chain
//! output  -3  pol-proxied-in    to a pod?  not from the node?  established?  pol-to: interface -> its ingress chain   else dropped
//! ```
//!
//! The interface that such a packet came from is forgotten at output. Its source was compared with that interface at input, so
//! it says as much. Answers go the usual way, as part of an established connection.

use super::base::{base_chain, dispatch, others};
use super::{Compiler, Objects, clause, rule};
use crate::names::{self, name};
use crate::object::{Key, Object, RuleObject};
use cni_core::policy::model::{Direction, Family};
use net_linux::nft::{CtState, Expr, Hook, MetaKey, Payload, Program, Reg, SetUse, Verdict, priority};
use net_linux::pod_ends::Side;

/// Behind the proxy: IPVS takes packets at `NF_IP_PRI_NAT_SRC - 2` and `- 1` (`net/netfilter/ipvs/ip_vs_core.c`), and what is
/// at the same number as the translation of sources has no order among itself.
pub(super) const BEHIND_THE_PROXY: i32 = priority::SRCNAT + 1;

/// What there is beside those of every node; `dispatched` is what `pol-input` has where no proxy is.
pub(super) fn objects(compiler: &Compiler, dispatched: Vec<RuleObject>) -> Objects {
    let mut local = others(Side::From).to_vec();
    local.extend(dispatched);
    let mut objects: Objects =
        names::sources().map(|set| (Key::Set(set), Object::Set { intact: true })).into_iter().collect();
    objects.extend([
        base_chain(names::LOCAL, Hook::Input, BEHIND_THE_PROXY, local),
        base_chain(names::PROXIED_OUT, Hook::Output, priority::FILTER - 4, egress()),
        base_chain(names::PROXIED_IN, Hook::Output, priority::FILTER - 3, ingress(compiler)),
    ]);
    objects
}

/// What a pod sends, known by its address. What is denied, or an error that is not believed, did not come so far.
fn egress() -> Vec<RuleObject> {
    let open = Program::new().ct_state(CtState::ESTABLISHED.or(CtState::RELATED));
    let mut rules = vec![rule(open.verdict(Verdict::Accept), "established or related")];
    rules.extend([Family::V4, Family::V6].map(|family| {
        let (program, source) = with_source(family);
        rule(program.payload_vmap(source, name(names::source(family))), "endpoints by their address")
    }));
    rules
}

/// What goes to a pod, from others than the node itself.
fn ingress(compiler: &Compiler) -> Vec<RuleObject> {
    let mut rules = others(Side::To).to_vec();
    let of_the_node = clause::own_node(Program::new(), Direction::Ingress, true);
    rules.push(rule(of_the_node.verdict(Verdict::Accept), "from the node itself"));
    let mut dispatched = dispatch(compiler, MetaKey::OifName, names::TO);
    let ends = dispatched.split_off(dispatched.len() - super::base::ENDS_OF_DISPATCH);
    rules.extend(dispatched);
    // A pod's chain would ask for the interface that it came from.
    rules.extend([Family::V4, Family::V6].map(|family| {
        let (program, source) = with_source(family);
        let program = program
            .then(Expr::Meta { key: MetaKey::OifName, dreg: Reg::A })
            .then(Expr::Payload { field: source, dreg: Reg::B })
            .then(Expr::Lookup { set: SetUse::Named(name(names::own(family))), sreg: Reg::A, inverted: false });
        rule(program.verdict(Verdict::Accept), "to itself")
    }));
    rules.extend(ends);
    rules
}

fn with_source(family: Family) -> (Program, Payload) {
    match family {
        Family::V4 => (Program::new().ipv4(), Payload::IP_SADDR),
        Family::V6 => (Program::new().ipv6(), Payload::IP6_SADDR),
    }
}
