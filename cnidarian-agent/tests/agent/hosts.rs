//! Policies about the node itself, from manifests to packets, by both engines. Never about what passes through it.

use crate::policy::{PORT, ear, neighbour, put, reaches, remove, resync};
use crate::world::{World, until};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// A failsafe port, and one that is none.
const SSH: u16 = 22;
const TELNET: u16 = 23;

fn about_hosts(name: &str, more: &Value) -> Value {
    let mut spec = json!({"selector": "zone == 'edge'", "types": ["Ingress"]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

fn connects(from: &NetNs, to: IpAddr, port: u16, patience: Duration) -> bool {
    from.run(|| TcpStream::connect_timeout(&SocketAddr::new(to, port), patience).is_ok()).unwrap()
}

#[test]
fn a_host_endpoint_closes_the_node_but_for_failsafe_ports_and_policies() {
    closes_the_node("nftables");
}

#[test]
fn a_host_endpoint_closes_the_node_but_for_failsafe_ports_and_policies_in_ebpf() {
    closes_the_node("ebpf");
}

fn closes_the_node(engine: &str) {
    let mut world = World::enforcing(engine);
    let outside = neighbour(&world, "beyond", "203.0.113.1/24", "203.0.113.2/24");
    let node = IpAddr::from([203, 0, 113, 1]);
    let ear = ear(&world.netns);
    let listen = |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let _listeners = world.netns.run(|| [SSH, TELNET].map(listen)).unwrap();
    let hears = |wanted: bool| match reaches(&outside, node, &ear) == wanted {
        true => Ok(()),
        false => Err(format!("it does {}", if wanted { "not" } else { "so" })),
    };
    until("an open node hears from outside", || hears(true));
    let endpoint = json!({"apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint",
        "metadata": {"name": "beyond", "labels": {"zone": "edge"}},
        "spec": {"node": "node-1", "interfaceName": "beyond", "expectedIPs": ["203.0.113.1"]}});
    put(&world, "endpoint", &endpoint);
    until("its host endpoint closes it", || hears(false));
    let is_guarded = |when: &str| {
        assert!(connects(&outside, node, SSH, Duration::from_secs(10)), "{when}: a failsafe port");
        assert!(!connects(&outside, node, TELNET, Duration::from_millis(300)), "{when}: any other port");
    };
    is_guarded("closed");
    let allow = json!({"ingress": [{"action": "Allow", "protocol": "UDP", "source": {"nets": ["203.0.113.2/32"]},
        "destination": {"ports": [PORT]}}]});
    put(&world, "allow", &about_hosts("allow", &allow));
    until("what policy allows is heard", || hears(true));
    is_guarded("with a policy");
    if engine == "ebpf" {
        let early = json!({"preDNAT": true, "applyOnForward": true, "ingress": [{"action": "Deny"}]});
        put(&world, "early", &about_hosts("early", &early));
        until("what cannot be enforced is told of", || {
            let (_, status) = world.ask(&["status"]);
            let told = status.contains("preDNAT of GlobalNetworkPolicy early at interface beyond: ");
            if told { Ok(()) } else { Err(status) }
        });
        assert_eq!(hears(true), Ok(()), "it changes nothing");
        remove(&world, "early");
        resync(&world);
    }
    world.kill();
    assert_eq!(hears(true), Ok(()), "killed");
    is_guarded("killed");
    world.start();
    assert_eq!(hears(true), Ok(()), "started again");
    is_guarded("started again");
    remove(&world, "allow");
    until("without its policy it is closed", || hears(false));
    remove(&world, "endpoint");
    until("without a host endpoint it is open", || hears(true));
    assert!(connects(&outside, node, TELNET, Duration::from_secs(10)));
}
