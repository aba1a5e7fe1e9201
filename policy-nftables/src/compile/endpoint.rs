//! An endpoint's chains, and the elements that open the way for it. Never a policy's rules.
//!
//! ```text
//! pol-ep-in-cni0                                       pol-sh-in-cni0 (only with staged policies)
//!   from itself                  accept                  jump tier's chain
//!   jump pol-sh-in-cni0, forget its marks                decided?          return
//!   jump tier's chain  (accepts, drops, or returns)      end of the tier   count, log, return
//!   not passed?  end of the tier: count, log, drop       ...
//!   ...
//!   accept
//! ```

use super::{Compiler, Objects, clause, family, rule};
use crate::names::{self, Walk, name};
use crate::object::{Key, Object, RuleObject};
use cni_core::backend::{Error, Result};
use cni_core::model::InterfaceName;
use cni_core::policy::model::{Action, Direction, TierEnd};
use cni_core::policy::program::{DirectionProgram, EndpointProgram, TierProgram};
use net_linux::marks;
use net_linux::nft::{self, Cmp, Data, MetaKey, Name, Program, Verdict, address_bytes, interface_bytes};

const BOTH: u32 = marks::POLICY_PASSED | marks::POLICY_DECIDED;

pub(super) fn objects(compiler: &Compiler, program: &EndpointProgram) -> Result<Objects> {
    let interface = &program.host_interface;
    check(program)?;
    let mut objects = Vec::new();
    for (direction, of, map) in
        [(Direction::Egress, &program.egress, names::FROM), (Direction::Ingress, &program.ingress, names::TO)]
    {
        let chain = direction_objects(compiler, interface, direction, of, &mut objects);
        let key = nft::Key::One(interface_bytes(interface.as_str()));
        let verdict = Object::Element(Some(Data::Verdict(Verdict::Goto(chain))));
        objects.push((Key::Element(name(map), key), verdict.clone()));
        if direction == Direction::Egress && compiler.follows_a_proxy() {
            objects.extend(program.addresses.iter().map(|address| {
                let map = name(names::source(family(*address)));
                (Key::Element(map, nft::Key::address(*address)), verdict.clone())
            }));
        }
    }
    for address in &program.addresses {
        let key = nft::Key::concat(&[&interface_bytes(interface.as_str()), &address_bytes(*address)]);
        objects.push((Key::Element(name(names::own(family(*address))), key), Object::Element(None)));
    }
    Ok(objects)
}

fn check(program: &EndpointProgram) -> Result<()> {
    let object = format!("policy of endpoint {}", program.endpoint);
    let interface = program.host_interface.as_str();
    if !interface.starts_with(marks::HOST_INTERFACE_PREFIX) {
        let detail = format!(
            "{interface} does not begin with {:?}: its packets are not looked at",
            marks::HOST_INTERFACE_PREFIX
        );
        return Err(Error::invalid(object, "hostInterface", detail));
    }
    if !interface.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        let detail = format!("{interface} has letters that no chain can be named after");
        return Err(Error::invalid(object, "hostInterface", detail));
    }
    Ok(())
}

fn direction_objects(
    compiler: &Compiler,
    interface: &InterfaceName,
    direction: Direction,
    program: &DirectionProgram,
    objects: &mut Objects,
) -> Name {
    let chain = names::endpoint_chain(interface.as_str(), direction, Walk::Enforced);
    let mut rules = Vec::new();
    if !program.enforced.is_empty() || program.staged.is_some() {
        let other = if direction == Direction::Egress { MetaKey::OifName } else { MetaKey::IifName };
        let itself = Program::new().interface(other, Cmp::Eq, interface.as_str()).verdict(Verdict::Accept);
        rules.push(rule(itself, "to itself"));
    }
    let walker = Walker { compiler, label: interface.as_str(), direction, of_a_pod: true };
    if let Some(staged) = &program.staged {
        let shadow = names::endpoint_chain(interface.as_str(), direction, Walk::Shadow);
        let shadow_rules = walker.walk(Walk::Shadow, staged, objects);
        objects.push((Key::Chain(shadow.clone()), Object::Chain { base: None, rules: shadow_rules }));
        rules.push(rule(Program::new().verdict(Verdict::Jump(shadow)), "dry run with staged policies"));
    }
    rules.extend(walker.walk(Walk::Enforced, &program.enforced, objects));
    if !rules.is_empty() {
        rules.push(forget_all());
    }
    let tag = names::undecided_tag(direction, interface.as_str());
    rules.push(rule(compiler.decide(Program::new(), Action::Allow, Walk::Enforced, &tag), &tag));
    objects.push((Key::Chain(chain.clone()), Object::Chain { base: None, rules }));
    chain
}

/// Whose tiers are walked.
pub(super) struct Walker<'a> {
    pub(super) compiler: &'a Compiler,
    /// For people: in names of tiers' ends.
    pub(super) label: &'a str,
    pub(super) direction: Direction,
    /// A pod's: isolation alone does not keep it from its own node.
    pub(super) of_a_pod: bool,
}

impl Walker<'_> {
    /// The tiers in order.
    pub(super) fn walk(&self, walk: Walk, tiers: &[TierProgram], objects: &mut Objects) -> Vec<RuleObject> {
        let direction = self.direction;
        let mut rules = Vec::new();
        for tier in tiers {
            // Also what another program or the dry run left there.
            rules.push(forget_all());
            if let Some(chain) = tier_chain(tier, direction, walk, objects) {
                rules.push(rule(Program::new().verdict(Verdict::Jump(chain)), &format!("tier {}", tier.tier)));
            }
            if walk == Walk::Shadow {
                rules.push(rule(Program::new().mark_any(marks::POLICY_DECIDED).verdict(Verdict::Return), "decided"));
            }
            if tier.end == TierEnd::Deny {
                let tag = names::end_tag(&tier.tier, direction, self.label);
                let mut end = Program::new().mark(0, marks::POLICY_PASSED);
                if direction == Direction::Egress && self.of_a_pod {
                    end = clause::own_node(end, direction, false);
                }
                rules.push(rule(self.compiler.decide(end, Action::Deny, walk, &tag), &tag));
            }
        }
        rules
    }
}

/// The chain to jump to for a tier: the policy's own when there is one only.
fn tier_chain(tier: &TierProgram, direction: Direction, walk: Walk, objects: &mut Objects) -> Option<Name> {
    let chains: Vec<Name> = tier.chains.iter().map(|id| names::policy_chain(id, walk)).collect();
    match &chains[..] {
        [] => None,
        [one] => Some(one.clone()),
        several => {
            let chain = names::tier_chain(&tier.tier, direction, several);
            let mut rules = Vec::new();
            for (index, (policy, id)) in several.iter().zip(&tier.chains).enumerate() {
                if index > 0 {
                    rules.push(rule(Program::new().mark_any(BOTH).verdict(Verdict::Return), "passed or decided"));
                }
                let jump = Program::new().verdict(Verdict::Jump(policy.clone()));
                rules.push(rule(jump, &id.to_string()));
            }
            objects.push((Key::Chain(chain.clone()), Object::Chain { base: None, rules }));
            Some(chain)
        }
    }
}

pub(super) fn forget_all() -> RuleObject {
    rule(Program::new().set_mark(0, BOTH), "no marks")
}
