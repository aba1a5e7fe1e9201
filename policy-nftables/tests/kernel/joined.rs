//! From objects as users write them to packets: intake, compiler and engine together against the evaluator on the same
//! objects. Never a fixed case.
//!
//! 30 rounds; as many as `CNIDARIAN_JOINED_ROUNDS` says in a long run, from the seed of `CNIDARIAN_JOINED_SEED`. A failure
//! names the seed and the round.

mod dialects;

use crate::node::{A, B, Host, Node};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::Intake;
use cni_core::policy::compile::{Compiler, LocalEndpoint};
use cni_core::policy::evaluate::{Connection, Evaluator, Party, Verdict};
use cni_core::policy::model::Protocol;
use cni_core::policy::world::World;
use cni_core::store::{Object, ObjectKey};
use cni_core::testkit::dice::Dice;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

const ROUNDS: usize = 30;
/// How long a packet may take in one machine.
const SOON: Duration = Duration::from_millis(400);
/// How long we wait for one that must not come.
const SILENCE: Duration = Duration::from_millis(60);

/// What is written now, and what became of it so far.
struct Cluster {
    objects: BTreeMap<ObjectKey, Object>,
    intake: Intake,
    compiler: Compiler,
}

impl Cluster {
    fn put(&mut self, value: Value) {
        let object = Object::from_value(value).unwrap();
        for change in self.intake.put(&object) {
            self.compiler.apply(change);
        }
        self.objects.insert(object.key.clone(), object);
    }

    fn remove(&mut self, key: &ObjectKey) {
        for change in self.intake.remove(key) {
            self.compiler.apply(change);
        }
        self.objects.remove(key);
    }

    /// A round's changes: some policies anew, some gone, sometimes other labels.
    fn change(&mut self, dice: &mut Dice, addresses: &[Vec<String>; 3]) {
        if dice.once_in(3) {
            let number = dice.below(2);
            self.put(dialects::namespace(dice, number));
        }
        for (number, addresses) in addresses.iter().enumerate() {
            if dice.once_in(2) {
                let pod = dialects::pod(dice, number, addresses);
                // Who is behind the other address: a pod, or nobody that the cluster knows.
                if number == 2 && dice.once_in(2) {
                    self.remove(&Object::from_value(pod).unwrap().key);
                } else {
                    self.put(pod);
                }
            }
        }
        if dice.once_in(4) {
            self.put(dialects::tier(dice));
        }
        for _ in 0..=dice.below(4) {
            let number = dice.below(12);
            let name = format!("p{number}");
            let old: Vec<ObjectKey> = self.objects.keys().filter(|key| *key.name == *name).cloned().collect();
            old.iter().for_each(|key| self.remove(key));
            if !dice.once_in(3) {
                self.put(dialects::policy(dice, number));
            }
        }
    }
}

fn endpoint(container: &str, interface: &str, namespace: &str, addresses: [IpAddr; 2]) -> LocalEndpoint {
    LocalEndpoint {
        id: EndpointId::of(container, "eth0").unwrap(),
        host_interface: InterfaceName::new(interface).unwrap(),
        addresses: addresses.to_vec(),
        pod: Some((namespace.into(), container.into())),
    }
}

/// Whether the policies of the ends that are on this node let a datagram pass.
fn told(
    evaluator: &Evaluator<'_>,
    (from, from_here): (IpAddr, bool),
    (to, to_here): (IpAddr, bool),
    port: u16,
) -> bool {
    let connection = Connection::new(Party::Address(from), Party::Address(to), Protocol::UDP, port);
    let outcome = evaluator.decide(&connection).expect("addresses are parties");
    let allows = |verdict| verdict == Verdict::Allow;
    (!from_here || allows(outcome.egress.verdict)) && (!to_here || allows(outcome.ingress.verdict))
}

/// Datagrams on their way, with what is told of each; answers which came back.
fn come_back(sent: &[(UdpSocket, bool)]) -> Vec<bool> {
    let mut back = vec![false; sent.len()];
    let begin = Instant::now();
    loop {
        for ((socket, _), back) in sent.iter().zip(&mut back) {
            *back |= socket.recv(&mut [0; 8]).is_ok();
        }
        let waiting = sent.iter().zip(&back).any(|((_, told), back)| *told && !back);
        if begin.elapsed() > if waiting { SOON } else { SILENCE } {
            return back;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn send(from: &Host, to: IpAddr, port: u16) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.netns.run(|| UdpSocket::bind(any).unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.send_to(b"x", SocketAddr::new(to, port));
    socket
}

#[test]
fn packets_do_what_the_evaluator_says_of_the_objects_that_users_wrote() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let rounds = number("CNIDARIAN_JOINED_ROUNDS").map_or(ROUNDS, |rounds| usize::try_from(rounds).unwrap());
    let seed = number("CNIDARIAN_JOINED_SEED")
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().into());
    let mut dice = Dice::new(seed);
    let mut node = Node::open_to_all();
    for from in [&node.a, &node.b, &node.outside] {
        // Neighbours of IPv6 are found before it is counted.
        assert!((0..10).any(|_| from.udp(node.node.addresses[1], 80)));
    }
    let mut cluster =
        Cluster { objects: BTreeMap::new(), intake: Intake::with_templates(), compiler: Compiler::new("node-1") };
    let text = |host: &Host| host.addresses.map(|address| address.to_string()).to_vec();
    let addresses = [text(&node.a), text(&node.b), text(&node.outside)];
    for (name, [v4, v6]) in [("node-1", ["192.0.2.1", "2001:db8::1"]), ("node-2", ["192.0.2.77", "2001:db8::77"])] {
        let listed = json!([{"type": "InternalIP", "address": v4}, {"type": "InternalIP", "address": v6}]);
        cluster.put(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": listed}}),
        );
    }
    for (number, addresses) in addresses.iter().enumerate() {
        cluster.put(dialects::pod(&mut dice, number, addresses));
    }
    cluster.compiler.put_endpoint(endpoint("a", A, "red", node.a.addresses));
    cluster.compiler.put_endpoint(endpoint("b", B, "green", node.b.addresses));
    let mut counts = [0, 0];
    for round in 0..rounds {
        cluster.change(&mut dice, &addresses);
        node.change(cluster.compiler.drain());
        let (world, _) = World::read(cluster.objects.values());
        let evaluator = Evaluator::new(&world);
        let [a, b, outside, own] = [(&node.a, true), (&node.b, true), (&node.outside, false), (&node.node, false)];
        let (mut sent, mut what) = (Vec::new(), Vec::new());
        for (from, to) in [(a, b), (b, a), (a, outside), (outside, b), (b, own), (own, a)] {
            for (family, port) in [(0, 80), (0, 81), (1, 80), (1, 81)] {
                let (source, destination) = (from.0.addresses[family], to.0.addresses[family]);
                let told = told(&evaluator, (source, from.1), (destination, to.1), port);
                sent.push((send(from.0, destination, port), told));
                what.push(format!("{source} -> {destination}:{port}"));
            }
        }
        for (((_, told), back), what) in sent.iter().zip(come_back(&sent)).zip(what) {
            let written = || {
                let all: Vec<Value> = cluster.objects.values().map(Object::to_value).collect();
                serde_json::to_string_pretty(&all).unwrap()
            };
            assert_eq!(
                *told,
                back,
                "seed {seed}, round {round}: {what}\n{}\n{}",
                written(),
                node.nft("list table inet cnidarian")
            );
            counts[usize::from(back)] += 1;
        }
    }
    let [denied, allowed] = counts;
    assert!(denied > rounds && allowed > rounds, "a fair mixture: {denied} denied, {allowed} allowed");
    // What is taken back leaves nothing.
    let keys: Vec<ObjectKey> = cluster.objects.keys().cloned().collect();
    keys.iter().for_each(|key| cluster.remove(key));
    let endpoints: Vec<EndpointId> = ["a", "b"].map(|name| EndpointId::of(name, "eth0").unwrap()).to_vec();
    endpoints.iter().for_each(|id| cluster.compiler.remove_endpoint(id));
    node.change(cluster.compiler.drain());
    let left = node.nft("list table inet cnidarian");
    assert!(!left.contains("pol-p-") && !left.contains("pol-set-") && !left.contains("pol-ep-"), "{left}");
}
