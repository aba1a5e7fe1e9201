//! Which items can be enforced here. Never whether there is room for them.

use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::policy::model::{Action, Family};
use cni_core::policy::program::{
    Chain, DirectionProgram, HostEndpointProgram, HostProgram, Member, PolicyItem, PolicyKey, Set, SetKind,
};
use net_linux::marks;
use std::net::IpAddr;

/// Refuses what cannot.
pub(super) fn check(item: &PolicyItem) -> Result<()> {
    match item {
        PolicyItem::Set(_) | PolicyItem::Chain(_) | PolicyItem::Host(_) => Ok(()),
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
    }
}

/// What is left undone of a chain that is enforced.
pub(super) fn unlogged(chain: &Chain) -> Option<Error> {
    let rule = chain.rules.iter().find(|rule| rule.action == Action::Log)?;
    let detail = format!("{}: these programs log nothing; all other rules are enforced", rule.path);
    Some(Error::new(ErrorKind::Unsupported, "log", format_args!("chain {}", chain.id), detail))
}

/// What is left undone of the node's program, which is enforced.
pub(super) fn unenforced(program: &HostProgram) -> Option<Error> {
    let left = program.endpoints.iter().filter_map(|endpoint| {
        let HostEndpointProgram { forwarded, untracked, before_nat, .. } = endpoint;
        let parts = [
            ("applyOnForward", !forwarded.is_open()),
            ("doNotTrack", !untracked.is_open()),
            ("preDNAT", *before_nat != DirectionProgram::default()),
        ];
        let words: Vec<&str> = parts.into_iter().filter(|(_, is_there)| *is_there).map(|(word, _)| word).collect();
        (!words.is_empty()).then(|| format!("{} at {}", words.join(", "), endpoint.interface))
    });
    let left: Vec<String> = left.collect();
    let detail = || {
        format!(
            "{}: these programs decide about what comes to the node itself and goes from it, where that is all; use \
             policy: nftables. All other policies about the node are enforced",
            left.join("; ")
        )
    };
    (!left.is_empty()).then(|| Error::new(ErrorKind::Unsupported, "compile", PolicyKey::Host, detail()))
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
