//! Which items can be enforced here. Never whether there is room for them.

use super::probe::NO_HOSTS;
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::policy::model::{Action, Family};
use cni_core::policy::program::{Chain, Member, PolicyItem, Set, SetKind};
use net_linux::marks;
use std::net::IpAddr;

/// Refuses what cannot.
pub(super) fn check(item: &PolicyItem) -> Result<()> {
    match item {
        PolicyItem::Set(_) | PolicyItem::Chain(_) => Ok(()),
        PolicyItem::Member(set, member) if fits(set, member) => Ok(()),
        PolicyItem::Member(set, member) => {
            let detail = format!("{member} does not fit a set of {:?}", set.kind);
            Err(Error::invalid(format_args!("set {}", set.id), "member", detail))
        }
        PolicyItem::Endpoint(program) if marks::is_host_interface(program.host_interface.as_str()) => Ok(()),
        PolicyItem::Endpoint(program) => {
            let object = format_args!("policy of endpoint {}", program.endpoint).to_string();
            let detail = format!("{} is not the host's end of a pod's veth", program.host_interface);
            Err(Error::invalid(object, "hostInterface", detail))
        }
        PolicyItem::Host(_) => Err(Error::new(ErrorKind::Unsupported, "compile", "policy of the node", NO_HOSTS)),
    }
}

/// What is left undone of a chain that is enforced.
pub(super) fn unlogged(chain: &Chain) -> Option<Error> {
    let rule = chain.rules.iter().find(|rule| rule.action == Action::Log)?;
    let detail = format!("{}: these programs log nothing; all other rules are enforced", rule.path);
    Some(Error::new(ErrorKind::Unsupported, "log", format_args!("chain {}", chain.id), detail))
}

fn fits(set: &Set, member: &Member) -> bool {
    let (address, family) = match (set.kind, member) {
        (SetKind::Addresses(family) | SetKind::Networks(family), Member::Address(address)) => (*address, family),
        (SetKind::Networks(family), Member::Network(network)) => (network.addr(), family),
        (SetKind::AddressPorts(family), Member::AddressPort(address, ..)) => (*address, family),
        _ => return false,
    };
    family == if matches!(address, IpAddr::V4(_)) { Family::V4 } else { Family::V6 }
}
