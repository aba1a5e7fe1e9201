//! Policy on what passes services: judged by the addresses that packets have when IPVS sent them on. Never a label: programs are
//! written here.

use crate::bed::{Bed, Place, block_on, echoes, has_ipvs};
use crate::items::{PODS, PODS6, backend, item, over};
use crate::packets::{engine, put};
use cni_core::backend::{Change, ServiceProxy, Translation};
use cni_core::model::{EndpointId, FrontendKind, InterfaceName, ServiceItem, TrafficScope};
use cni_core::policy::model::{Action, Direction, Family, PolicyId, Protocol, Stage, TierEnd};
use cni_core::policy::program::{
    BothWays, Chain, ChainId, Clause, DirectionProgram, EndpointProgram, HostEndpointProgram, HostInterface,
    HostProgram, Member, PolicyEngine, PolicyItem, ProgramRule, Set, SetId, SetKind, SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use policy_nftables::config::Config;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;
use testlab::bed::{run, wait_for};
use testlab::patience::stretched;

/// To the first pod, and to the second.
const ONE: &str = "10.96.0.1:80";
const TWO: &str = "10.96.0.2:80";
const ONE6: &str = "[fd00:96::1]:80";
const TWO6: &str = "[fd00:96::2]:80";
const DNS: &str = "10.96.0.1:53";
/// The node's port to the first pod, which keeps the client's address.
const PORT: &str = "192.0.2.1:30080";

/// A node with a service for each of two pods, and both engines.
struct World {
    bed: Bed,
    proxy: Box<dyn ServiceProxy>,
    policy: Box<dyn PolicyEngine>,
}

fn services() -> Vec<ServiceItem> {
    let cluster = |place, pod| item(FrontendKind::ClusterIp, place, &[pod]);
    let mut port = item(FrontendKind::NodePort, PORT, &PODS[..1]);
    port.scope = TrafficScope::Local;
    vec![cluster(ONE, PODS[0]), cluster(TWO, PODS[1]), cluster(ONE6, PODS6[0]), cluster(TWO6, PODS6[1]), port]
}

fn enforcer(bed: &Bed) -> Box<dyn PolicyEngine> {
    let config = Config { translation: Some(Translation::Delivery), ..Config::default() };
    bed.node.netns.run(|| policy_nftables::open(&config).unwrap()).unwrap()
}

impl World {
    fn new() -> Self {
        let bed = Bed::new();
        let mut proxy = engine(&bed.node.netns);
        put(&mut *proxy, services());
        let policy = enforcer(&bed);
        let mut world = Self { bed, proxy, policy };
        world.enforce((1..=4).map(|pod| PolicyItem::Endpoint(endpoint(pod))).collect());
        world
    }

    fn enforce(&mut self, items: Vec<PolicyItem>) -> usize {
        items.into_iter().for_each(|item| self.policy.stage(Change::Put(item)).unwrap());
        self.policy.stage(Change::InSync).unwrap();
        let report = block_on(self.policy.commit());
        assert!(report.is_complete(), "{report:#?}");
        report.written
    }

    fn pod(&self, number: usize) -> &Place {
        &self.bed.pods[number - 1]
    }

    /// Packets that rules with this comment counted.
    fn counted(&self, comment: &str) -> u64 {
        let listed = self.bed.node.netns.run(|| run("nft list table inet cnidarian")).unwrap();
        let of = |line: &str| line.split_once("counter packets ")?.1.split(' ').next()?.parse::<u64>().ok();
        let comment = format!("comment \"{comment}\"");
        listed.lines().filter(|line| line.contains(&comment)).filter_map(of).sum()
    }
}

fn endpoint(pod: u8) -> EndpointProgram {
    let addresses = [format!("10.244.1.{pod}"), format!("fd00:1::{pod}")];
    EndpointProgram {
        endpoint: EndpointId::of(&format!("{pod}"), "eth0").unwrap(),
        host_interface: InterfaceName::new(&format!("cni{pod:012x}")).unwrap(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ingress: DirectionProgram::default(),
        egress: DirectionProgram::default(),
    }
}

fn chain_id(direction: Direction) -> ChainId {
    let object = ObjectKey::namespaced(Kind::NETWORK_POLICY, "default", "some");
    ChainId { policy: PolicyId { object, part: 0 }, direction }
}

/// A direction with one chain: only some networks, then nothing.
fn only(direction: Direction, networks: &[&str]) -> (DirectionProgram, Vec<PolicyItem>) {
    limited(direction, Action::Allow, networks, TierEnd::Deny)
}

fn limited(
    direction: Direction,
    action: Action,
    networks: &[&str],
    end: TierEnd,
) -> (DirectionProgram, Vec<PolicyItem>) {
    let side = if direction == Direction::Egress { Side::Destination } else { Side::Source };
    let (mut rules, mut items) = (Vec::new(), Vec::new());
    for (index, network) in networks.iter().enumerate() {
        let family = if network.contains(':') { Family::V6 } else { Family::V4 };
        let id: String = network.chars().filter(char::is_ascii_alphanumeric).collect();
        let set = Set { id: SetId(id.as_str().into()), kind: SetKind::Networks(family) };
        items.push(PolicyItem::Set(set.clone()));
        items.push(PolicyItem::Member(set.clone(), Member::Network(network.parse().unwrap())));
        let clause = Clause { sets: vec![SetMatch { side, set, negated: false }], ..Clause::default() };
        let path = format!("spec.rules[{index}]");
        rules.push(ProgramRule { path: path.as_str().into(), action, clauses: vec![clause], unenforceable: None });
    }
    let id = chain_id(direction);
    items.push(PolicyItem::Chain(Chain { id: id.clone(), stage: Stage::Tracked, rules }));
    let tier = TierProgram { tier: "default".into(), chains: vec![id], end };
    (DirectionProgram { enforced: vec![tier], staged: None }, items)
}

/// Whether a server answers, soon.
fn answers(from: &Place, to: &str) -> bool {
    let to: SocketAddr = to.parse().unwrap();
    let soon = stretched(Duration::from_millis(400));
    let ask = || -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&to, soon)?;
        stream.set_read_timeout(Some(soon))?;
        stream.read_exact(&mut [0; 17])?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0])
    };
    from.netns.run(|| ask().is_ok()).unwrap()
}

#[test]
fn what_a_pod_may_reach_is_asked_of_the_endpoint_and_not_of_the_services_address() {
    if !has_ipvs() {
        return;
    }
    let mut world = World::new();
    assert!([ONE, TWO, ONE6, TWO6].into_iter().all(|to| answers(world.pod(4), to)), "no policy");
    let mut client = endpoint(4);
    let (egress, items) = only(Direction::Egress, &["10.244.1.1/32", "fd00:1::1/128"]);
    client.egress = egress;
    world.enforce([items, vec![PolicyItem::Endpoint(client.clone())]].concat());
    for (to, allowed) in [(ONE, true), (TWO, false), (ONE6, true), (TWO6, false)] {
        assert_eq!(answers(world.pod(4), to), allowed, "{to}");
    }
    assert!(world.counted("end of tier default egress cni000000000004") > 0, "counted and named as elsewhere");
    assert!(answers(world.pod(3), TWO), "others are not concerned");
    // A rule about the services' addresses is about nothing that is sent on.
    let (egress, items) = limited(Direction::Egress, Action::Deny, &["10.96.0.0/16", "10.244.1.2/32"], TierEnd::Pass);
    client.egress = egress;
    world.enforce([items, vec![PolicyItem::Endpoint(client)]].concat());
    assert!(answers(world.pod(4), ONE) && !answers(world.pod(4), TWO));
}

#[test]
fn who_may_reach_a_backend_is_asked_of_the_clients_own_address() {
    if !has_ipvs() {
        return;
    }
    let mut world = World::new();
    let mut server = endpoint(1);
    let (ingress, items) = only(Direction::Ingress, &["10.244.1.4/32", "192.0.2.2/32", "fd00:1::4/128"]);
    // Its answers are not what it may send.
    let (egress, none) = only(Direction::Egress, &[]);
    (server.ingress, server.egress) = (ingress, egress);
    let items = [items, none, vec![PolicyItem::Endpoint(server)]].concat();
    world.enforce(items.clone());
    let holds = |world: &World| {
        for to in [ONE, ONE6] {
            assert!(answers(world.pod(4), to), "a pod that may, to {to}");
            assert!(!answers(world.pod(3), to), "a pod that may not, to {to}");
            assert!(answers(&world.bed.node, to), "the node itself to {to}");
            assert!(answers(world.pod(1), to), "a backend to itself by {to}");
        }
        assert!(answers(&world.bed.client, PORT), "a client outside that may");
        assert!(!answers(&world.bed.other, PORT), "a client outside that may not");
    };
    holds(&world);
    // Without the agents, and with new ones.
    (world.policy, world.proxy) = (enforcer(&world.bed), engine(&world.bed.node.netns));
    holds(&world);
    put(&mut *world.proxy, services());
    let pods = (2..=4).map(|pod| PolicyItem::Endpoint(endpoint(pod)));
    assert_eq!(world.enforce(items.into_iter().chain(pods).collect()), 0, "all of it is there");
    holds(&world);
}

#[test]
fn a_connection_through_a_service_ends_when_it_is_denied_and_goes_on_when_it_is_allowed_again() {
    if !has_ipvs() {
        return;
    }
    let mut world = World::new();
    let (mut stream, _) = world.pod(4).open(ONE);
    let (mut other, _) = world.pod(3).open(ONE);
    echoes(&mut stream);
    let mut server = endpoint(1);
    let (ingress, items) = only(Direction::Ingress, &["10.244.1.3/32"]);
    server.ingress = ingress;
    world.enforce([items, vec![PolicyItem::Endpoint(server)]].concat());
    stream.set_read_timeout(Some(stretched(Duration::from_millis(400)))).unwrap();
    stream.write_all(b"x").unwrap();
    assert!(stream.read_exact(&mut [0]).is_err(), "it is denied now");
    echoes(&mut other);
    world.enforce(vec![PolicyItem::Endpoint(endpoint(1))]);
    // The sender tries again ever more rarely.
    assert!((0..15).any(|_| stream.read_exact(&mut [0]).is_ok()), "it goes on");
}

#[test]
fn nobody_comes_to_a_service_with_anothers_address_and_what_is_to_the_node_itself_is_judged_as_ever() {
    if !has_ipvs() {
        return;
    }
    let mut world = World::new();
    world.bed.node.serve(9, 8081);
    let from = |world: &World, source: &str, to: &str| {
        let (source, to): (IpAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
        let send = || std::net::UdpSocket::bind((source, 0)).unwrap().send_to(b"x", to).unwrap();
        world.pod(4).netns.run(send).unwrap()
    };
    world.pod(4).netns.run(|| run("ip address add 10.244.1.3/32 dev lo")).unwrap();
    assert!(answers(world.pod(4), ONE) && world.counted("spoofed source") == 0);
    put(&mut *world.proxy, [over(Protocol::UDP, item(FrontendKind::ClusterIp, DNS, &PODS[..1]))]);
    assert!(world.pod(4).ask_by_datagram(DNS).is_ok());
    from(&world, "10.244.1.3", DNS);
    wait_for("it is dropped", Duration::from_secs(10), || world.counted("spoofed source") == 1);
    let own = "192.0.2.1:8081";
    let mut client = endpoint(4);
    let (egress, items) = only(Direction::Egress, &[]);
    client.egress = egress;
    world.enforce([items, vec![PolicyItem::Endpoint(client.clone())]].concat());
    assert!(answers(world.pod(4), own), "isolation alone does not keep a pod from its node");
    assert!(!answers(world.pod(4), ONE), "but from what its node's services are about");
    let (egress, items) = limited(Direction::Egress, Action::Deny, &["192.0.2.1/32"], TierEnd::Pass);
    client.egress = egress;
    world.enforce([items, vec![PolicyItem::Endpoint(client)]].concat());
    assert!(!answers(world.pod(4), own), "an explicit deny does");
    assert!(answers(world.pod(4), ONE));
}

#[test]
fn policy_about_the_node_is_not_about_what_its_services_send_on_unless_it_says_so() {
    if !has_ipvs() {
        return;
    }
    let mut world = World::new();
    let mut far = item(FrontendKind::ClusterIp, "10.96.0.3:80", &[]);
    far.backends = [backend("192.0.2.3:8080")].into_iter().collect();
    put(&mut *world.proxy, [far]);
    let [far, near] = ["10.96.0.3:80", "192.0.2.3:8080"];
    world.bed.other.netns.run(|| run("ip route add 10.244.1.0/24 via 192.0.2.1")).unwrap();
    assert!(answers(world.pod(4), far) && answers(&world.bed.node, near), "no policy");
    let host = |local: BothWays, forwarded: BothWays| {
        let endpoint = HostEndpointProgram {
            interface: HostInterface::Named(InterfaceName::new("eth0").unwrap()),
            name: "uplink".into(),
            local,
            forwarded,
            untracked: BothWays::default(),
            before_nat: DirectionProgram::default(),
        };
        PolicyItem::Host(HostProgram { endpoints: vec![endpoint] })
    };
    let (ingress, mut items) = only(Direction::Ingress, &[]);
    let (egress, more) = only(Direction::Egress, &[]);
    items.extend(more);
    let closed = BothWays { ingress, egress: egress.clone() };
    world.enforce([items, vec![host(closed, BothWays::default())]].concat());
    assert!(!answers(&world.bed.node, near), "the node may not");
    assert!(answers(world.pod(4), far), "a pod may, through a service");
    assert!(answers(&world.bed.client, PORT), "and so may a client outside");
    let through = BothWays { egress, ..BothWays::default() };
    world.enforce(vec![host(BothWays::default(), through)]);
    assert!(answers(&world.bed.node, near), "the node may");
    assert!(!answers(world.pod(4), far), "what passes through may not");
    assert!(!answers(world.pod(4), near), "nor without a service");
    assert!(answers(world.pod(4), ONE), "which is about that interface only");
}
