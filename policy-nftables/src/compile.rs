//! Items to kernel objects, pure. Never touches the kernel and never remembers an item.
//!
//! | module | what it holds |
//! |---|---|
//! | `base` | what exists whatever the items are: base chains, dispatch maps |
//! | `clause` | conditions to expressions |
//! | `rules` | a policy's rules, for the walk that decides and for the dry run |
//! | `endpoint` | an endpoint's chains and elements |
//! | `errors` | which ICMP errors are believed |
//! | `host` | the node's own chains |
//! | `proxied` | the hooks of packets that a service proxy sends on |

mod base;
mod clause;
mod endpoint;
mod errors;
mod host;
mod proxied;
mod rules;

use crate::config::{Config, LogConfig};
use crate::names::{self, Walk};
use crate::object::{Key, Object, RuleObject};
use cni_core::backend::{Error, Result, Translation};
use cni_core::flow::Wanted;
use cni_core::policy::model::{Action, Direction, Family, Stage};
use cni_core::policy::program::{Member, PolicyItem, Set, SetKind};
use ipnet::IpNet;
use net_linux::marks;
use net_linux::nft::{self, Expr, Log, LogTarget, Name, Program, Verdict, address_bytes};
use std::net::IpAddr;

/// Bytes of a logged packet that readers get: both headers, with IPv6 extension headers.
pub(crate) const LOG_BYTES: u32 = 128;

/// Objects with their keys.
pub type Objects = Vec<(Key, Object)>;

/// The translation, with what the configuration says of it.
#[derive(Debug, Clone, Copy)]
pub struct Compiler {
    config: Config,
}

impl Compiler {
    /// A translation.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        Self { config }
    }

    /// What it says.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Packets to services pass other hooks than those that are forwarded: see [`proxied`].
    fn follows_a_proxy(&self) -> bool {
        self.config.translation == Some(Translation::Delivery)
    }

    /// The node's own objects.
    #[must_use]
    pub fn base(&self) -> Objects {
        base::objects(self)
    }

    /// The objects of one item.
    ///
    /// # Errors
    /// The item is not acceptable; names object and field.
    pub fn compile(&self, item: &PolicyItem) -> Result<Objects> {
        match item {
            PolicyItem::Set(set) => Ok(vec![(Key::Set(set_name(set)?), Object::Set { intact: true })]),
            PolicyItem::Member(set, member) => {
                Ok(vec![(Key::Element(set_name(set)?, element(set, member)?), Object::Element(None))])
            }
            PolicyItem::Chain(chain) => rules::objects(self, chain),
            PolicyItem::Endpoint(program) => endpoint::objects(self, program),
            PolicyItem::Host(program) => Ok(host::objects(self, program)),
        }
    }

    /// What the end of a tier looks at, for probing.
    pub(crate) fn end_of_a_tier() -> Program {
        clause::own_node(Program::new().mark(0, marks::POLICY_PASSED), Direction::Egress, false)
            .set_mark(0, marks::POLICY_PASSED)
    }

    /// Counts, tells where the configuration says so, and decides.
    fn decide(&self, program: Program, action: Action, walk: Walk, tag: &str) -> Program {
        self.decide_at(Stage::Tracked, program, action, walk, tag)
    }

    /// The same in a stage of policies about hosts: later ones need to know what an early one allowed.
    fn decide_at(&self, stage: Stage, program: Program, action: Action, walk: Walk, tag: &str) -> Program {
        let told = |what: Wanted| match action {
            Action::Deny => what != Wanted::None,
            Action::Allow => what == Wanted::All,
            Action::Pass => false,
            Action::Log => true,
        };
        let word = match (action, walk) {
            (Action::Log, _) => names::LOG,
            (Action::Deny, Walk::Enforced) => names::DENY,
            (Action::Deny, Walk::Shadow) => names::WOULD_DENY,
            (_, Walk::Enforced) => names::ALLOW,
            (_, Walk::Shadow) => names::WOULD_ALLOW,
        };
        let log = |group| Log {
            prefix: Some(names::quotable(&format!("{word} {tag}"))),
            target: LogTarget::Group { group, snap_bytes: LOG_BYTES, queue_threshold: 0 },
        };
        let Config { flows, log: LogConfig { group, what }, .. } = self.config;
        let mut program = program.counter();
        if told(what) {
            program = program.log(log(group));
        }
        // A rule that only logs decides as little in a dry run: one record of it is enough.
        if told(flows) && flows != Wanted::None && (action, walk) != (Action::Log, Walk::Shadow) {
            program = program.log(log(marks::POLICY_FLOW_GROUP));
        }
        match (action, walk) {
            (Action::Allow, Walk::Enforced) => {
                let early = marks::POLICY_ALLOWED_EARLY;
                let program = match stage {
                    Stage::Tracked => program,
                    Stage::BeforeNat => program.set_mark(early, early),
                    Stage::Untracked => program.set_mark(early, early).then(Expr::NoTrack),
                };
                program.verdict(Verdict::Accept)
            }
            (Action::Deny, Walk::Enforced) => program.verdict(Verdict::Drop),
            (Action::Allow | Action::Deny, Walk::Shadow) => {
                program.set_mark(marks::POLICY_DECIDED, marks::POLICY_DECIDED).verdict(Verdict::Return)
            }
            (Action::Pass, _) => program.set_mark(marks::POLICY_PASSED, marks::POLICY_PASSED).verdict(Verdict::Return),
            (Action::Log, _) => program,
        }
    }
}

/// A rule with a comment.
fn rule(program: Program, comment: &str) -> RuleObject {
    RuleObject { exprs: program.into(), comment: Some(names::comment(comment)) }
}

fn set_name(set: &Set) -> Result<Name> {
    names::set(set).ok_or_else(|| {
        Error::invalid(format_args!("set {}", set.id), "id", "is not made of 1 to 64 letters and digits")
    })
}

/// The family that a set's addresses are of.
fn family_of(kind: SetKind) -> Family {
    let (SetKind::Addresses(family) | SetKind::Networks(family) | SetKind::AddressPorts(family)) = kind;
    family
}

fn element(set: &Set, member: &Member) -> Result<nft::Key> {
    let address = match member {
        Member::Address(address) | Member::AddressPort(address, ..) => *address,
        Member::Network(network) => network.network(),
    };
    let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let key = match (set.kind, member) {
        (SetKind::Addresses(_), Member::Address(address)) => nft::Key::address(*address),
        (SetKind::Networks(_), Member::Network(network)) => nft::Key::prefix(*network),
        (SetKind::Networks(_), Member::Address(address)) => nft::Key::prefix(IpNet::from(*address)),
        (SetKind::AddressPorts(_), Member::AddressPort(address, protocol, port)) => {
            nft::Key::concat(&[&address_bytes(*address), &[protocol.0], &port.to_be_bytes()])
        }
        _ => return Err(wrong_member(set, member)),
    };
    if family == family_of(set.kind) { Ok(key) } else { Err(wrong_member(set, member)) }
}

fn wrong_member(set: &Set, member: &Member) -> Error {
    let detail = format!("{member} does not fit a set of {:?}", set.kind);
    Error::invalid(format_args!("set {}", set.id), "member", detail)
}

/// The family of an address.
fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::V4 } else { Family::V6 }
}

#[cfg(test)]
mod tests;
