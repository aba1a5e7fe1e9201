//! One pod with plain rules, for tests of packets. Never a random policy.

use crate::bed::{INTERFACE, enforcer};
use backend_ebpf::enforce::Enforcer;
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Action, Direction, Icmp, PolicyId, PortRange, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, PolicyItem, ProgramRule, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};

/// Its addresses.
pub(crate) const ADDRESSES: [&str; 2] = ["10.0.0.1", "fd00::1"];

/// A protocol with a destination port, or a message's type and code.
pub(crate) type Open = (u8, u16);

/// Where a pod is attached.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) interface: (&'a str, u32),
    pub(crate) addresses: [&'a str; 2],
}

/// Of packets that go nowhere.
const NOWHERE: Place<'_> = Place { name: "pod", interface: ("cni0", INTERFACE), addresses: ADDRESSES };

/// What a pod may do; `None`: everything.
pub(crate) struct Pod<'a> {
    pub(crate) ingress: Option<&'a [Open]>,
    pub(crate) egress: Option<&'a [Open]>,
}

impl Pod<'_> {
    /// Stages its policy, in the place of an older one.
    pub(crate) fn stage(&self, enforcer: &mut Enforcer) {
        self.stage_at(enforcer, &NOWHERE);
    }

    pub(crate) fn stage_at(&self, enforcer: &mut Enforcer, place: &Place<'_>) {
        let (interface, index) = place.interface;
        let host_interface = InterfaceName::new(interface).unwrap();
        enforcer.tables.set_interface(&host_interface, Some(index));
        let mut direction = |direction, open: Option<&[Open]>| {
            let Some(open) = open else { return DirectionProgram::default() };
            let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", place.name);
            let id = ChainId { policy: PolicyId { object, part: 0 }, direction };
            let rules = open.iter().map(|open| rule(*open)).collect();
            let chain = Chain { id: id.clone(), stage: Stage::Tracked, rules };
            enforcer.tables.apply(Change::Put(PolicyItem::Chain(chain)));
            let tier = TierProgram { tier: "default".into(), chains: vec![id], end: TierEnd::Deny };
            DirectionProgram { enforced: vec![tier], staged: None }
        };
        let endpoint = EndpointProgram {
            endpoint: EndpointId::of(place.name, "eth0").unwrap(),
            host_interface,
            addresses: place.addresses.map(|address| address.parse().unwrap()).to_vec(),
            ingress: direction(Direction::Ingress, self.ingress),
            egress: direction(Direction::Egress, self.egress),
        };
        enforcer.tables.apply(Change::Put(PolicyItem::Endpoint(endpoint)));
    }
}

/// A pod with this policy in force.
pub(crate) fn open_ports(pod: &Pod<'_>) -> Enforcer {
    let mut enforcer = enforcer();
    pod.stage(&mut enforcer);
    enforcer.commit().unwrap();
    enforcer
}

fn rule((protocol, detail): Open) -> ProgramRule {
    let protocol = Protocol(protocol);
    let [kind, code] = detail.to_be_bytes();
    let clause = Clause {
        protocol: Some(protocol),
        destination_ports: protocol.has_ports().then(|| vec![PortRange::one(detail)]),
        icmp: (!protocol.has_ports()).then_some(Icmp { kind, code: Some(code) }),
        ..Clause::default()
    };
    ProgramRule {
        path: format!("{protocol} {detail}").into(),
        action: Action::Allow,
        clauses: vec![clause],
        unenforceable: None,
    }
}
