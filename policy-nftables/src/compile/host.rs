//! The node's own chains: what may come to it and go from it, by interface. Never a policy's rules, and never a pod's chains.
//!
//! ```text
//! input   -1  pol-host-in       loopback, established, neighbour discovery: accept
//!                               interface of a host endpoint ─> pol-hep-local-in-if-NAME
//!                               a pod's                      ─> pol-hep-local-in-pods
//!                               any other                    ─> pol-hep-local-in-others
//! output  -1  pol-host-out      the same by the interface that a packet goes to
//! forward -4  pol-host-fwd-in   what passes through, by the interface that it comes from; pods' chains follow
//! forward -3  pol-host-fwd-out  by the interface that it goes to
//!
//! prerouting raw - 1, output raw - 1   pol-host-raw-in, -out   before tracking: what is allowed there is not tracked
//! prerouting dstnat - 10               pol-host-pre-in         before translation
//! ```
//!
//! Beside a service proxy that takes packets at input, what it sends on is not from or to the node: pol-host-in comes behind it,
//! pol-host-out lets it be, and pol-host-fwd-proxied (output - 3) does what pol-host-fwd-out does. Which interface it came from is
//! not known there any more, so that pol-host-fwd-in has no such chain.
//!
//! The base chains are there only while the node has a program, and are made last and removed first: a node without policies
//! about hosts pays nothing, and no packet meets half of a program.

use super::endpoint::{Walker, forget_all};
use super::{Compiler, Objects, base, clause, proxied, rule};
use crate::names::{self, HostPart, Walk};
use crate::object::{Key, Object, RuleObject};
use cni_core::policy::model::{Action, Direction, Protocol};
use cni_core::policy::program::{DirectionProgram, HostEndpointProgram, HostInterface, HostProgram};
use net_linux::marks;
use net_linux::nft::{Cmp, CtState, Hook, Name, Payload, Program, Verdict, priority};
use net_linux::pod_ends::{self, Side};

/// ICMPv6 types without which a host is cut off from its link: listener queries, reports and ends, router and neighbour
/// solicitations and advertisements, listener reports of version 2. RFC 4890, sections 4.3.1 and 4.4.1.
const OF_THE_LINK: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

/// A hook of the node's.
struct Place {
    chain: &'static str,
    hook: Hook,
    priority: i32,
    part: HostPart,
    direction: Direction,
}

const PLACES: [Place; 7] = [
    Place {
        chain: "pol-host-in",
        hook: Hook::Input,
        priority: priority::FILTER - 1,
        part: HostPart::Local,
        direction: Direction::Ingress,
    },
    Place {
        chain: "pol-host-out",
        hook: Hook::Output,
        priority: priority::FILTER - 1,
        part: HostPart::Local,
        direction: Direction::Egress,
    },
    Place {
        chain: "pol-host-fwd-in",
        hook: Hook::Forward,
        priority: priority::FILTER - 4,
        part: HostPart::Forwarded,
        direction: Direction::Ingress,
    },
    Place {
        chain: "pol-host-fwd-out",
        hook: Hook::Forward,
        priority: priority::FILTER - 3,
        part: HostPart::Forwarded,
        direction: Direction::Egress,
    },
    Place {
        chain: "pol-host-raw-in",
        hook: Hook::Prerouting,
        priority: priority::RAW - 1,
        part: HostPart::Untracked,
        direction: Direction::Ingress,
    },
    Place {
        chain: "pol-host-raw-out",
        hook: Hook::Output,
        priority: priority::RAW - 1,
        part: HostPart::Untracked,
        direction: Direction::Egress,
    },
    Place {
        chain: "pol-host-pre-in",
        hook: Hook::Prerouting,
        priority: priority::DSTNAT - 10,
        part: HostPart::BeforeNat,
        direction: Direction::Ingress,
    },
];

/// What a service proxy sends on.
const PROXIED: Place = Place {
    chain: "pol-host-fwd-proxied",
    hook: Hook::Output,
    priority: priority::FILTER - 3,
    part: HostPart::Forwarded,
    direction: Direction::Egress,
};

pub(super) fn objects(compiler: &Compiler, program: &HostProgram) -> Objects {
    let mut objects = Vec::new();
    let is_needed =
        |place: &Place| program.endpoints.iter().any(|endpoint| *place.of(endpoint) != DirectionProgram::default());
    // What early stages allow carries a mark that the filters clear.
    let early = PLACES.iter().filter(|place| place.is_early()).any(is_needed);
    for place in &PLACES {
        if is_needed(place) || early && !place.is_early() {
            place.objects(compiler, program, early, &mut objects);
        }
    }
    if compiler.follows_a_proxy() && is_needed(&PROXIED) {
        // The chains that it calls are there already.
        objects.push(PROXIED.base(compiler, program, early, &mut Vec::new()));
    }
    objects
}

impl Place {
    /// What it is about, of an endpoint.
    fn of<'p>(&self, endpoint: &'p HostEndpointProgram) -> &'p DirectionProgram {
        let both = match self.part {
            HostPart::Local => &endpoint.local,
            HostPart::Forwarded => &endpoint.forwarded,
            HostPart::Untracked => &endpoint.untracked,
            HostPart::BeforeNat => return &endpoint.before_nat,
        };
        match self.direction {
            Direction::Ingress => &both.ingress,
            Direction::Egress => &both.egress,
        }
    }

    fn is_early(&self) -> bool {
        matches!(self.part, HostPart::Untracked | HostPart::BeforeNat)
    }

    /// The interface that says whose a packet is.
    fn side(&self) -> Side {
        match self.direction {
            Direction::Ingress => Side::From,
            Direction::Egress => Side::To,
        }
    }

    /// Its chain, and those of endpoints that it calls.
    fn objects(&self, compiler: &Compiler, program: &HostProgram, early: bool, objects: &mut Objects) {
        let base = self.base(compiler, program, early, objects);
        objects.push(base);
    }

    /// Its chain; those that it calls are added to `objects`.
    fn base(&self, compiler: &Compiler, program: &HostProgram, early: bool, objects: &mut Objects) -> (Key, Object) {
        let mut rules = self.beside_the_program(early);
        if compiler.follows_a_proxy() && self.hook == Hook::Output && !self.is_early() {
            // The first packet of a connection has it, and the rest is established.
            let proxied = self.part == HostPart::Forwarded;
            let others = clause::own_node(Program::new(), Direction::Ingress, proxied);
            let whose = if proxied { "of the node" } else { "not of the node" };
            rules.push(rule(others.verdict(Verdict::Accept), whose));
        }
        let mut go = |endpoint: Option<&HostEndpointProgram>, from: Program| {
            let with_program = endpoint.filter(|endpoint| *self.of(endpoint) != DirectionProgram::default());
            match with_program {
                None => rule(from.verdict(Verdict::Accept), "no policy"),
                Some(endpoint) => {
                    let chain = self.endpoint(compiler, endpoint, objects);
                    rule(from.verdict(Verdict::Goto(chain)), &endpoint.name)
                }
            }
        };
        let of = |wanted| program.endpoints.iter().find(|endpoint| endpoint.interface == wanted);
        for endpoint in &program.endpoints {
            if let HostInterface::Named(interface) = &endpoint.interface {
                let from = Program::new().interface(self.side().name(), Cmp::Eq, interface.as_str());
                rules.push(go(Some(endpoint), from));
            }
        }
        rules.push(go(of(HostInterface::Pods), pod_ends::only(Program::new(), self.side())));
        rules.push(go(of(HostInterface::Others), Program::new()));
        let priority = match self.hook {
            Hook::Input if compiler.follows_a_proxy() => proxied::BEHIND_THE_PROXY + 1,
            _ => self.priority,
        };
        base::base_chain(self.chain, self.hook, priority, rules)
    }

    /// What passes whatever policies say.
    fn beside_the_program(&self, early: bool) -> Vec<RuleObject> {
        let mut rules = Vec::new();
        if early && self.part != HostPart::Untracked {
            let allowed = marks::POLICY_ALLOWED_EARLY;
            let program = Program::new().mark_any(allowed);
            // The last of ours on each way clears it.
            let last = self.part == HostPart::Local || self.chain == "pol-host-fwd-out";
            let program = if last { program.set_mark(0, allowed) } else { program };
            rules.push(rule(program.verdict(Verdict::Accept), "allowed early"));
        }
        let loopback = Program::new().interface(self.side().name(), Cmp::Eq, "lo");
        rules.push(rule(loopback.verdict(Verdict::Accept), "loopback"));
        if self.part != HostPart::Untracked {
            let open = Program::new().ct_state(CtState::ESTABLISHED.or(CtState::RELATED));
            rules.push(rule(open.verdict(Verdict::Accept), "established or related"));
        }
        rules.extend(OF_THE_LINK.map(|kind| {
            let message =
                Program::new().ipv6().l4proto(Protocol::ICMPV6.0).payload(Payload::ICMP_TYPE, Cmp::Eq, vec![kind]);
            rule(message.verdict(Verdict::Accept), "neighbour discovery")
        }));
        rules
    }

    /// The chain of an endpoint.
    fn endpoint(&self, compiler: &Compiler, endpoint: &HostEndpointProgram, objects: &mut Objects) -> Name {
        let (program, direction) = (self.of(endpoint), self.direction);
        let label = match self.part {
            HostPart::Local => endpoint.name.to_string(),
            HostPart::Forwarded => format!("through {}", endpoint.name),
            HostPart::Untracked => format!("untracked, {}", endpoint.name),
            HostPart::BeforeNat => format!("before NAT, {}", endpoint.name),
        };
        let walker = Walker { compiler, label: &label, direction, of_a_pod: false };
        let of = |walk| names::host_chain(&endpoint.interface, self.part, direction, walk);
        let mut rules = Vec::new();
        if let Some(staged) = &program.staged {
            let shadow = of(Walk::Shadow);
            let shadow_rules = walker.walk(Walk::Shadow, staged, objects);
            objects.push((Key::Chain(shadow.clone()), Object::Chain { base: None, rules: shadow_rules }));
            rules.push(rule(Program::new().verdict(Verdict::Jump(shadow)), "dry run with staged policies"));
        }
        rules.extend(walker.walk(Walk::Enforced, &program.enforced, objects));
        rules.push(forget_all());
        if self.is_early() {
            // What is not decided here goes on.
            let chain = of(Walk::Enforced);
            objects.push((Key::Chain(chain.clone()), Object::Chain { base: None, rules }));
            return chain;
        }
        let tag = names::shortened(&format!("no tier decides {direction} {label}"), 112);
        rules.push(rule(compiler.decide(Program::new(), Action::Allow, Walk::Enforced, &tag), &tag));
        let chain = of(Walk::Enforced);
        objects.push((Key::Chain(chain.clone()), Object::Chain { base: None, rules }));
        chain
    }
}
