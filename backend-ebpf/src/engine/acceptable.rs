//! Which items can be enforced here. Never whether there is room for them.

use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::policy::failsafe::Failsafe;
use cni_core::policy::model::{Family, PolicyId};
use cni_core::policy::program::{
    BothWays, DirectionProgram, HostEndpointProgram, HostProgram, Member, PolicyItem, PolicyKey, Set, SetKind,
};
use net_linux::marks;
use std::collections::BTreeSet;
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

/// A part of a host endpoint's program.
type Part = fn(&HostEndpointProgram) -> [Option<&DirectionProgram>; 2];

/// What policies about hosts can say that is not enforced here: how it is written, why, and where it is in a program.
const NOT_HERE: [(&str, &str, Part); 3] = [
    (
        "applyOnForward",
        "what passes through the node has no end here, and a rule about it asks about both ends, of which these programs know one \
         when they are made",
        |endpoint| both(&endpoint.forwarded),
    ),
    (
        "doNotTrack",
        "these programs cannot let the host's connection tracking leave a packet alone, and it is about what passes through, too",
        |endpoint| both(&endpoint.untracked),
    ),
    ("preDNAT", "it is about what passes through, too, which these programs do not decide about", |endpoint| {
        [Some(&endpoint.before_nat), None]
    }),
];

const fn both(ways: &BothWays) -> [Option<&DirectionProgram>; 2] {
    [Some(&ways.ingress), Some(&ways.egress)]
}

/// The policies of a part, but for failsafe ports.
fn policies(program: &DirectionProgram) -> impl Iterator<Item = &PolicyId> {
    let tiers = program.enforced.iter().chain(program.staged.iter().flatten());
    let chains = tiers.filter(|tier| *tier.tier != *Failsafe::TIER).flat_map(|tier| &tier.chains);
    chains.map(|chain| &chain.policy)
}

/// What is left undone of the node's program, which is enforced.
pub(super) fn unenforced(program: &HostProgram) -> Option<Error> {
    let left = NOT_HERE.into_iter().filter_map(|(word, why, part)| {
        let at = |endpoint| part(endpoint).into_iter().flatten().flat_map(policies).map(|id| (id, &endpoint.interface));
        let named: BTreeSet<String> =
            program.endpoints.iter().flat_map(at).map(|(id, interface)| format!("{id} at {interface}")).collect();
        let named = named.into_iter().collect::<Vec<_>>().join(", ");
        (!named.is_empty()).then(|| format!("{word} of {named}: {why}"))
    });
    let left: Vec<String> = left.collect();
    let detail =
        || format!("{}. Use policy: nftables; all other policies about the node are enforced", left.join("; "));
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
