//! Frames at the node's own interfaces that are given to the programs. Never sent.

use crate::bed::enforcer;
use crate::each::at_each_hook;
use crate::flows::told;
use crate::frames::Frame;
use crate::items::{chain, chain_id, host, port, walk};
use crate::place::{index, run};
use backend_ebpf::abi::{FlowsWanted, Reason};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::flows::Flows;
use backend_ebpf::kernel::forward::{Forward, Generation};
use backend_ebpf::kernel::masquerade::{Loaded, Masquerade, Room};
use backend_ebpf::kernel::{Hook, Hooks, Known, Side, Way};
use backend_ebpf::policy::Device;
use cni_core::backend::Change;
use cni_core::flow::{Event, Verdict};
use cni_core::model::InterfaceName;
use cni_core::policy::model::{Action, Direction, Protocol};
use cni_core::policy::program::{ChainId, HostInterface, PolicyItem};
use net_linux::netns::NetNs;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use tokio::runtime::Runtime;

at_each_hook! {
    policy_about_the_node_stands_behind_who_says_whose_a_packet_is,
}

const ROOM: Room = Room { connections: 1, prefixes: 1 };

/// Indices of two interfaces with the frames' Ethernet address.
pub(crate) const ETH0: u32 = 7001;
pub(super) const POD: u32 = 7002;

pub(crate) fn devices() -> BTreeMap<InterfaceName, Device> {
    let device =
        |name, index, is_pods| (InterfaceName::new(name).unwrap(), Device { index, is_pods, is_ethernet: true });
    [device("eth0", ETH0, false), device("cni0", POD, true)].into()
}

/// In a namespace with both interfaces, which passes packets on.
pub(crate) fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let netns = NetNs::new().unwrap();
    let inside = || {
        for (name, index) in [("eth0", ETH0), ("cni0", POD)] {
            run(&format!("ip link add {name} index {index} address 02:00:00:00:00:01 type veth peer name far{index}"));
            run(&format!("ip link set far{index} up"));
            run(&format!("ip link set {name} up"));
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        run("ip address add 192.0.2.1/24 dev eth0");
        work()
    };
    netns.run(inside).unwrap()
}

/// The frame with the Ethernet address of the interfaces as its destination: others are not for the node.
pub(crate) fn to_node(frame: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1][..], &frame[6..]].concat()
}

/// What these chains let in comes to the node at `eth0`, whatever its address, and nothing else.
fn open_for(chains: &[(&ChainId, PolicyItem)]) -> Enforcer {
    let mut enforcer = enforcer();
    enforcer.tables.set_devices(devices());
    enforcer.tables.set_node_addresses([IpAddr::from([192, 0, 2, 1])].into());
    chains.iter().for_each(|(_, chain)| enforcer.tables.apply(Change::Put(chain.clone())));
    let program = walk(&chains.iter().map(|(id, _)| *id).collect::<Vec<_>>());
    enforcer.tables.apply(Change::Put(host(HostInterface::Others, program)));
    enforcer.commit().unwrap();
    enforcer
}

fn closed() -> Enforcer {
    open_for(&[])
}

fn udp(source: &str, destination: &str) -> Vec<u8> {
    udp_to(source, destination, 53)
}

fn udp_to(source: &str, destination: &str, port: u8) -> Vec<u8> {
    let payload = vec![0, 53, 0, port, 0, 8, 0, 0];
    to_node(&Frame::new(source.parse().unwrap(), destination.parse().unwrap(), 17, payload).bytes())
}

/// -1 passes on, 2 drops.
fn action(enforcer: &Enforcer, interface: u32, frame: &[u8]) -> i32 {
    enforcer.object.judge(Way::ToHost, interface, frame, 1).unwrap().action
}

#[test]
fn what_the_stack_would_take_in_is_the_nodes_whatever_address_it_has() {
    in_namespace(|| {
        let enforcer = closed();
        // A route to everywhere leads nowhere with what is for many.
        run("ip link set lo up");
        run("ip route add default via 192.0.2.77");
        for ours in ["192.0.2.1", "192.0.2.255", "255.255.255.255", "224.0.0.251", "127.0.0.1"] {
            assert_eq!(action(&enforcer, ETH0, &udp("192.0.2.9", ours)), 2, "{ours}");
        }
        // An address that came after the last commit.
        run("ip address add 198.51.100.1/24 dev eth0");
        assert_eq!(action(&enforcer, ETH0, &udp("192.0.2.9", "198.51.100.1")), 2);
        // What passes through, another's frame, another interface.
        assert_eq!(action(&enforcer, ETH0, &udp("192.0.2.9", "192.0.2.77")), -1);
        let mut others = udp("192.0.2.9", "192.0.2.1");
        others[5] = 9;
        assert_eq!(action(&enforcer, ETH0, &others), -1);
        assert_eq!(action(&enforcer, POD, &udp("192.0.2.9", "192.0.2.1")), -1);
    });
}

/// Programs at one side of an interface, in their order.
fn names(hooks: &mut Hooks, interface: u32, side: Side) -> Vec<String> {
    let ids = hooks.ids(interface, side).unwrap();
    ids.into_iter().map(|id| Known::of(id).unwrap().unwrap().name).collect()
}

fn policy_about_the_node_stands_behind_who_says_whose_a_packet_is(hook: Hook) {
    in_namespace(|| {
        let mut hooks = hook.open().unwrap();
        let (forwarding, masquerading) = (Generation::load((1, 1)).unwrap(), Loaded::load(ROOM).unwrap());
        let mut first = closed();
        let (of_tunnel, of_underlay) = (Forward::OutOfTunnel, Forward::FromUnderlay);
        // Whoever comes first: policy's programs, with those of the datapath before and behind them.
        for (interface, before) in [(index("eth0"), false), (index("cni0"), true)] {
            let mut attach = |ahead: bool| {
                if ahead {
                    let program = forwarding.program(of_tunnel).unwrap();
                    hooks.attach(of_tunnel, interface, program.as_fd(), None).unwrap();
                    masquerading.attach(&mut hooks, Masquerade::In, interface, None).unwrap();
                } else {
                    first.object.attach(&mut hooks, Way::ToHost, interface).unwrap();
                }
            };
            attach(before);
            attach(!before);
            first.object.attach(&mut hooks, Way::FromPod, interface).unwrap();
            let program = forwarding.program(of_underlay).unwrap();
            hooks.attach(of_underlay, interface, program.as_fd(), None).unwrap();
            let names = names(&mut hooks, interface, Side::Ingress);
            let [tunnel, masq, to_host, from_pod, underlay] =
                ["out_of_tunnel", "masq_in", "to_host", "from_pod", "from_underlay"]
                    .map(|name| names.iter().position(|other| other == name).unwrap());
            assert!(tunnel < to_host && masq < to_host && to_host < underlay && from_pod < underlay);
        }
        let node = index("eth0");
        let (into_tunnel, out) = (Forward::IntoTunnel, Masquerade::Out);
        hooks.attach(into_tunnel, node, forwarding.program(into_tunnel).unwrap().as_fd(), None).unwrap();
        masquerading.attach(&mut hooks, out, node, None).unwrap();
        first.object.attach(&mut hooks, Way::FromHost, node).unwrap();
        assert_eq!(names(&mut hooks, node, Side::Egress), ["from_host", "into_tunnel", "masq_out"]);
    });
}

#[test]
fn nobody_else_sends_from_the_nodes_own_addresses() {
    in_namespace(|| {
        let enforcer = closed();
        for (source, passes) in [("192.0.2.1", false), ("192.0.2.9", true)] {
            let judged = action(&enforcer, ETH0, &udp(source, "192.0.2.77"));
            assert_eq!(judged == -1, passes, "{source}, passed on");
        }
    });
}

#[test]
fn what_is_not_whole_is_dropped_where_it_is_for_the_node_and_else_left_to_the_stack() {
    in_namespace(|| {
        let enforcer = closed();
        let fragment = |destination: &str| {
            let (source, destination) = ("192.0.2.9".parse().unwrap(), destination.parse().unwrap());
            let frame = Frame::new(source, destination, 17, vec![0; 16]);
            to_node(&Frame { fragment: (3, 7), ..frame }.bytes())
        };
        let judged = enforcer.object.judge(Way::ToHost, ETH0, &fragment("192.0.2.1"), 1).unwrap();
        assert_eq!((judged.action, judged.reason), (2, Some(Reason::UnknownFragment)));
        assert_eq!(action(&enforcer, ETH0, &fragment("192.0.2.77")), -1);
        let whole = udp("192.0.2.9", "192.0.2.1");
        // Frames without a whole IP header the kernel does not give to programs this way.
        for length in 34..whole.len() - 4 {
            assert_eq!(action(&enforcer, ETH0, &whole[..length]), 2, "{length} bytes");
        }
    });
}

#[test]
fn who_hears_of_the_link_is_not_cut_off_from_it() {
    in_namespace(|| {
        let enforcer = closed();
        let mut arp = udp("192.0.2.9", "192.0.2.1");
        (arp[12], arp[13]) = (8, 6);
        assert_eq!(action(&enforcer, ETH0, &arp), -1);
        for (kind, passes) in
            [(130, true), (131, true), (132, true), (133, true), (136, true), (143, true), (128, false)]
        {
            let mut message = vec![0; 24];
            message[0] = kind;
            let (source, group) = ("fe80::9".parse().unwrap(), "ff02::1".parse().unwrap());
            let frame = to_node(&Frame::new(source, group, 58, message).bytes());
            assert_eq!(action(&enforcer, ETH0, &frame), if passes { -1 } else { 2 }, "ICMPv6 {kind}");
        }
    });
}

/// All that is decided.
fn telling(enforcer: &mut Enforcer) -> (Flows, Runtime) {
    enforcer.object.want_flows(FlowsWanted::of(FlowsWanted::ALL)).unwrap();
    let reader = enforcer.object.flows().unwrap();
    let source = Flows::new(reader, enforcer.tables.rule_names()).unwrap();
    (source, tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap())
}

#[test]
fn a_decision_about_the_node_is_told_once_as_seen_from_it_and_a_drop_is_counted_as_the_nodes() {
    in_namespace(|| {
        let dns = chain_id("dns", Direction::Ingress);
        let rules = vec![(Action::Allow, vec![port(Protocol::UDP, 53)])];
        let mut enforcer = open_for(&[(&dns, chain(&dns, rules))]);
        let (mut source, runtime) = telling(&mut enforcer);
        let (inward, outward) = ((Way::ToHost, "192.0.2.9", "192.0.2.1"), (Way::FromHost, "192.0.2.1", "192.0.2.9"));
        for ((way, from, to), port) in [(inward, 53), (inward, 53), (inward, 54), (outward, 55), (outward, 55)] {
            enforcer.object.judge(way, ETH0, &udp_to(from, to, port), 1).unwrap();
        }
        // What passes through is no matter of the node's.
        assert_eq!(action(&enforcer, ETH0, &udp("192.0.2.9", "192.0.2.77")), -1);
        let (events, lost) = told(&runtime, &mut source);
        let short = |event: &Event| {
            let (port, ends) = (event.packet.unwrap().ports.unwrap().1, [event.input.clone(), event.output.clone()]);
            (port, event.direction, event.verdict, ends, event.by.rule.to_string())
        };
        let eth0 = Some("eth0".into());
        let (into, out_of) = ([eth0.clone(), None], [None, eth0]);
        let expected = [
            (53, Some(Direction::Ingress), Verdict::Allowed, into.clone(), "spec.rules[0]".to_owned()),
            (54, Some(Direction::Ingress), Verdict::Denied, into, "end of tier".to_owned()),
            (55, Some(Direction::Egress), Verdict::Allowed, out_of, "no tier decides".to_owned()),
        ];
        assert_eq!((events.iter().map(short).collect::<Vec<_>>(), lost), (expected.to_vec(), 0));
        let denied = |way| {
            let counts = enforcer.object.packets(way).unwrap();
            counts.into_iter().find(|(reason, _)| *reason == Reason::Denied).unwrap().1
        };
        assert_eq!(Way::EVERY.map(denied), [0, 0, 0, 1]);
    });
}

#[test]
fn a_beginning_that_is_seen_again_is_told_once_and_one_after_an_end_again() {
    const FIN: u8 = 1;
    const SYN: u8 = 2;
    in_namespace(|| {
        let dns = chain_id("dns", Direction::Ingress);
        let rules = vec![(Action::Allow, vec![port(Protocol::TCP, 53)])];
        let mut enforcer = open_for(&[(&dns, chain(&dns, rules))]);
        let (mut source, runtime) = telling(&mut enforcer);
        let [node, other] = ["192.0.2.1", "192.0.2.9"].map(|address| address.parse().unwrap());
        for (way, from, to, port) in [(Way::ToHost, other, node, 53), (Way::FromHost, node, other, 55)] {
            let mut pass = |flags| {
                let payload = [&[0, 53, 0, port, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags][..], &[0; 6]].concat();
                let frame = to_node(&Frame::new(from, to, 6, payload).bytes());
                let judgement = enforcer.object.judge(way, ETH0, &frame, 1).unwrap();
                assert_eq!(judgement.reason, Some(Reason::Allowed), "{way:?} {flags}");
                told(&runtime, &mut source).0.iter().filter(|event| event.ended.is_none()).count()
            };
            assert_eq!([SYN, SYN, FIN, SYN].map(&mut pass), [1, 0, 0, 1], "{way:?}");
        }
    });
}
