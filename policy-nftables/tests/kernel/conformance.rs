//! All laws of the engine on a real namespace. Never more than the laws: packets are elsewhere.

use crate::bed::{block_on, nft};
use crate::items::{addresses, chain, chain_id, direction, endpoint, member, named, network, port, set, tier, within};
use async_trait::async_trait;
use cni_core::backend::{Error, ErrorKind, Result, Translation};
use cni_core::model::{InterfaceName, NodeContext, NodeName, Underlay};
use cni_core::policy::model::{Action, Direction, Family, Icmp, PortRange, Protocol, TierEnd};
use cni_core::policy::program::{
    BothWays, Clause, DirectionProgram, HostEndpointProgram, HostInterface, HostProgram, PolicyItem, SetKind, SetMatch,
    Side,
};
use cni_core::testkit::engine::{DriverRig, Settings, Snapshot, Strangers, Tamper, Testbed, conformance};
use net_linux::netns::NetNs;
use policy_nftables::config::Config;
use policy_nftables::driver::{PolicyDriver, observe};
use policy_nftables::object::{Key, Object};
use policy_nftables::probe::probe;

/// The thread's own namespace, a new one at every reset.
struct Bed(Config);

fn failed(error: String) -> Error {
    Error::new(ErrorKind::Kernel, "prepare", "test", error)
}

#[async_trait]
impl Testbed for Bed {
    type Driver = PolicyDriver;

    fn open(&mut self) -> Result<PolicyDriver> {
        PolicyDriver::open(&self.0, probe(&self.0))
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        Ok(observe(&mut net_linux::nft::Nft::open()?)?)
    }

    async fn reset(&mut self) -> Result<()> {
        let fresh = NetNs::new().map_err(|error| failed(error.to_string()))?;
        fresh.enter().map_err(|error| failed(error.to_string()))
    }

    fn contexts(&self) -> Vec<NodeContext> {
        let underlay =
            Underlay { interface: InterfaceName::new("eth0").unwrap(), index: 2, mtu_bytes: 1500, v4: None, v6: None };
        vec![NodeContext {
            name: NodeName::new("node-1").unwrap(),
            labels: Default::default(),
            underlay,
            masquerade: None,
        }]
    }

    fn unsupported(&self) -> Vec<PolicyItem> {
        Vec::new()
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        Some(self)
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        Some(self)
    }
}

/// The words of `element KEY of SET` as the nft program reads them.
fn element_words(object: &str) -> Option<(String, &str)> {
    let (key, set) = object.strip_prefix("element ")?.rsplit_once(" of ")?;
    let quoted = if key.starts_with("cni") {
        let (interface, rest) = key.split_once(' ').unwrap_or((key, ""));
        format!("\"{interface}\" {rest}")
    } else {
        key.to_owned()
    };
    Some((quoted, set))
}

#[async_trait]
impl Tamper for Bed {
    async fn remove(&mut self, object: &str) -> Result<bool> {
        let script = match object.split(' ').collect::<Vec<_>>()[..] {
            ["table", ..] => "delete table inet cnidarian".to_owned(),
            ["set", set] => format!("delete set inet cnidarian {set}"),
            ["chain", chain] => format!("flush chain inet cnidarian {chain}; delete chain inet cnidarian {chain}"),
            _ => {
                let (key, set) = element_words(object).unwrap();
                let script = format!("delete element inet cnidarian {set} {{ {key} }}");
                return nft(&script).map(|_| true).map_err(failed);
            }
        };
        // What others of ours hold on to cannot be removed.
        Ok(nft(&script).is_ok())
    }

    async fn alter(&mut self, object: &str) -> Result<bool> {
        let script = match object.split(' ').collect::<Vec<_>>()[..] {
            ["table", ..] => "add table inet cnidarian { flags dormant; }".to_owned(),
            ["chain", chain] => format!("insert rule inet cnidarian {chain} counter accept"),
            ["set", set] if set.starts_with("pol-set-a4") => {
                let table = "inet cnidarian";
                format!("delete set {table} {set}; add set {table} {set} {{ type ipv4_addr; size 7; }}")
            }
            ["element", .., "pol-from" | "pol-to"] => {
                let (key, set) = element_words(object).unwrap();
                let place = format!("element inet cnidarian {set}");
                format!("delete {place} {{ {key} }}; add {place} {{ {key} : accept }}")
            }
            _ => return Ok(false),
        };
        Ok(nft(&script).is_ok())
    }

    async fn add(&mut self) -> Result<bool> {
        let script = "add chain inet cnidarian pol-p-in-old; add rule inet cnidarian pol-p-in-old accept; \
             add set inet cnidarian pol-set-n4-0ld { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1 } }; \
             add element inet cnidarian pol-own4 { \"cni0000000000ff\" . 10.9.9.9 }; \
             add element inet cnidarian pol-from { \"cni0000000000ff\" : goto pol-p-in-old }; \
             add chain inet cnidarian pol-other { type filter hook input priority 5; }";
        nft(script).map(|_| true).map_err(failed)
    }
}

#[async_trait]
impl Strangers for Bed {
    async fn add(&mut self) -> Result<()> {
        let script = "add table inet foreign; add chain inet foreign pol-ingress { type filter hook forward priority 0; }; \
             add rule inet foreign pol-ingress counter accept comment \"theirs\"; \
             add table inet cnidarian; \
             add set inet cnidarian masq-theirs { type ipv4_addr; elements = { 10.0.0.1 } }; \
             add chain inet cnidarian masq-theirs { type nat hook postrouting priority 100; }; \
             add rule inet cnidarian masq-theirs ip saddr @masq-theirs masquerade";
        nft(script).map(drop).map_err(failed)
    }

    async fn occupy(&mut self, _object: &str) -> Result<bool> {
        Ok(false)
    }

    async fn leave(&mut self, _object: &str) -> Result<()> {
        Ok(())
    }

    async fn list(&mut self) -> Result<Snapshot> {
        let lists = ["table inet foreign", "chain inet cnidarian masq-theirs", "set inet cnidarian masq-theirs"];
        Ok(lists.into_iter().map(|what| (what.to_owned(), nft(&format!("list {what}")).unwrap_or_default())).collect())
    }
}

const ONE: &str = "cni000000000001";
const TWO: &str = "cni000000000002";

fn host_endpoint(
    name: &str,
    interface: Option<&str>,
    ingress: DirectionProgram,
    egress: DirectionProgram,
) -> HostEndpointProgram {
    let named = |name| HostInterface::Named(InterfaceName::new(name).unwrap());
    HostEndpointProgram {
        name: name.into(),
        interface: interface.map_or(HostInterface::Others, named),
        local: BothWays { ingress: ingress.clone(), egress: egress.clone() },
        forwarded: BothWays { ingress: ingress.clone(), egress: egress.clone() },
        untracked: BothWays { ingress: ingress.clone(), egress },
        before_nat: ingress,
    }
}

/// Every kind of item and of condition, in states that change, share and drop them.
pub(crate) fn states() -> Vec<Vec<PolicyItem>> {
    let (web, all) = (chain_id("web", Direction::Ingress), chain_id("all", Direction::Egress));
    let admin = chain_id("admin", Direction::Ingress);
    let (v4, v6) = (addresses("a1", Family::V4), addresses("a2", Family::V6));
    let nets = set("b2", SetKind::Networks(Family::V4));
    let nets6 = set("b3", SetKind::Networks(Family::V6));
    let http = set("c3", SetKind::AddressPorts(Family::V4));
    let http6 = set("c4", SetKind::AddressPorts(Family::V6));
    let sets = [&v4, &v6, &nets, &nets6, &http, &http6].map(|set| PolicyItem::Set(set.clone()));
    let ranges = |ports: &[(u16, u16)]| Some(ports.iter().map(|&(first, last)| PortRange { first, last }).collect());
    let members = vec![
        member(&v4, "10.9.0.2"),
        member(&v4, "10.9.0.3"),
        member(&v6, "fd00::2"),
        network(&nets, "10.0.0.0/8"),
        network(&nets, "192.0.2.0/24"),
        network(&nets, "192.0.3.0/24"),
        network(&nets6, "2001:db8::/32"),
        named(&http, "10.9.0.1", Protocol::TCP, 8080),
        named(&http6, "fd00::1", Protocol::SCTP, 8080),
    ];
    let not_in = |side, set: &cni_core::policy::program::Set| Clause {
        sets: vec![SetMatch { side, set: set.clone(), negated: true }],
        ..Clause::default()
    };
    let web_rules = vec![
        (Action::Log, vec![Clause::default()]),
        (Action::Allow, vec![within(Side::Source, &v4), within(Side::Source, &v6), not_in(Side::Source, &nets)]),
        (Action::Allow, vec![within(Side::Destination, &http), within(Side::Destination, &http6)]),
        (
            Action::Deny,
            vec![Clause { destination_ports: ranges(&[(80, 90), (443, 443), (60_000, 65_535)]), ..Clause::default() }],
        ),
        (
            Action::Deny,
            vec![Clause {
                icmp: Some(Icmp { kind: 8, code: Some(0) }),
                protocol: Some(Protocol::ICMP),
                ..Clause::default()
            }],
        ),
        (Action::Pass, vec![Clause { not_icmp: Some(Icmp { kind: 8, code: None }), ..Clause::default() }]),
        (Action::Deny, vec![]),
    ];
    let web_short = vec![(Action::Allow, vec![port(Protocol::TCP, 80)]), (Action::Deny, vec![Clause::default()])];
    let all_rules = vec![
        (Action::Allow, vec![within(Side::Destination, &nets6), Clause { own_node: Some(true), ..Clause::default() }]),
        (
            Action::Allow,
            vec![Clause {
                family: Some(Family::V6),
                not_protocol: Some(Protocol::TCP),
                not_source_ports: ranges(&[(1, 1023)]),
                ..Clause::default()
            }],
        ),
    ];
    let admin_rules = vec![(
        Action::Pass,
        vec![Clause { not_destination_ports: ranges(&[(22, 22), (80, 80)]), ..Clause::default() }],
    )];
    let mut one = endpoint("c1", ONE, &["10.9.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
    let two = endpoint("c2", TWO, &["10.9.0.2".parse().unwrap()]);
    let tiers = vec![tier("admin", &[&admin], TierEnd::Pass), tier("default", &[&web, &admin], TierEnd::Deny)];
    one.ingress = direction(tiers.clone());
    one.egress = direction(vec![tier("default", &[&all], TierEnd::Deny)]);
    let mut staged = one.clone();
    staged.ingress =
        DirectionProgram { enforced: vec![tier("default", &[&web], TierEnd::Deny)], staged: Some(tiers.clone()) };
    let mut other = two.clone();
    other.ingress = direction(tiers);
    let mut bad = two.clone();
    bad.host_interface = InterfaceName::new("eth7").unwrap();
    let [v4_set, ..] = sets.clone();
    let host = |endpoints| PolicyItem::Host(HostProgram { endpoints });
    let all_ways = host(vec![
        host_endpoint("eth0", Some("eth0"), one.ingress.clone(), one.egress.clone()),
        host_endpoint("strange", Some("eth.h@1"), staged.ingress.clone(), DirectionProgram::default()),
        HostEndpointProgram {
            interface: HostInterface::Pods,
            ..host_endpoint("n1", None, one.ingress.clone(), direction(vec![]))
        },
        host_endpoint("all", None, one.ingress.clone(), one.egress.clone()),
    ]);
    let one_way = host(vec![host_endpoint("eth0", Some("eth0"), staged.ingress.clone(), DirectionProgram::default())]);
    let mut first = sets.to_vec();
    first.extend(members.clone());
    first.extend([chain(&web, web_rules), chain(&all, all_rules.clone()), chain(&admin, admin_rules.clone())]);
    let mut second = first.clone();
    first.extend([PolicyItem::Endpoint(one), PolicyItem::Endpoint(two.clone()), all_ways]);
    second.extend([PolicyItem::Endpoint(staged), PolicyItem::Endpoint(other), one_way]);
    let third = vec![
        v4_set.clone(),
        member(&v4, "10.9.0.3"),
        member(&v4, "10.9.0.4"),
        member(&v4, "fd00::3"),
        chain(&web, web_short),
        PolicyItem::Endpoint(bad),
    ];
    let fourth = vec![v4_set, PolicyItem::Endpoint(two)];
    vec![first, second, third, fourth]
}

/// On a thread of its own, because a reset moves the thread into another namespace.
#[test]
fn the_engine_keeps_every_law() {
    keeps_every_law(Config::default());
}

#[test]
fn the_engine_keeps_every_law_beside_a_proxy() {
    keeps_every_law(Config { translation: Some(Translation::Delivery), ..Config::default() });
}

fn keeps_every_law(config: Config) {
    let test = std::thread::spawn(move || {
        let mut rig = DriverRig::new(Bed(config));
        let settings = Settings { walks: 2, fault_points: 4, ..Settings::default() };
        block_on(async { conformance(&mut rig, &states(), settings).await })
    });
    let report = test.join().unwrap().unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report}");
}

#[test]
fn this_kernel_can_do_it_and_probing_leaves_nothing() {
    let namespace = NetNs::new().unwrap();
    let listed = namespace
        .run(|| {
            let capabilities = probe(&Config::default());
            capabilities.require(&[cni_core::backend::Capability::Policy]).unwrap();
            nft("list ruleset").unwrap()
        })
        .unwrap();
    assert_eq!(listed, "");
}
