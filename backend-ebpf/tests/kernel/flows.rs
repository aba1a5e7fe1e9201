//! What the programs tell of packets that go nowhere. Never a packet's verdict: that is tested elsewhere.

use crate::attached::{CLIENT, SERVER, pod};
use crate::bed::{INTERFACE, judge};
use crate::conformance::config;
use crate::frames::Frame;
use crate::items::{chain, chain_id, endpoint, port, walk};
use crate::place::in_own_place;
use crate::pod::{ADDRESSES, Open, Pod, open_ports};
use backend_ebpf::abi::{FlowsWanted, Reason as Told};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::engine::{self, Config};
use backend_ebpf::flows::Flows;
use backend_ebpf::kernel::Way;
use cni_core::backend::{Change, PolicyParts};
use cni_core::flow::{Event, FlowSource, Heard, Reason, Verdict, Wanted};
use cni_core::policy::model::{Action, Direction, Protocol};
use cni_core::policy::program::{Clause, PolicyItem};
use net_linux::netns::NetNs;
use serde_json::json;
use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::time::Duration;
use tokio::runtime::Runtime;

const UDP: u8 = 17;
const OTHER: &str = "192.0.2.1";
/// More than the ring has room for.
const FLOOD: u64 = 30_000;

fn datagram(way: Way, port: u16) -> Frame {
    let payload = [&55_555_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8]].concat();
    let (pod, other) = (ADDRESSES[0].parse().unwrap(), OTHER.parse().unwrap());
    let (from, to) = if way == Way::FromPod { (pod, other) } else { (other, pod) };
    Frame::new(from, to, UDP, payload)
}

fn judged(enforcer: &Enforcer, way: Way, port: u16) -> Told {
    judge(enforcer, way, &datagram(way, port).bytes()).0
}

/// A pod that may be asked at these ports, and its source of flows.
pub(crate) fn telling(decisions: u32, ports: &[Open]) -> (Enforcer, Flows, Runtime) {
    let mut enforcer = open_ports(&Pod { ingress: Some(ports), egress: None });
    enforcer.object.want_flows(FlowsWanted::of(decisions)).unwrap();
    let reader = enforcer.object.flows().unwrap();
    let source = Flows::new(reader, enforcer.tables.rule_names()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    (enforcer, source, runtime)
}

/// What is told until nothing more is, and how many were lost.
pub(crate) fn told(runtime: &Runtime, source: &mut dyn FlowSource) -> (Vec<Event>, u64) {
    let (mut events, mut lost) = (Vec::new(), 0);
    runtime.block_on(async {
        // What the programs told is there when they have ended: nobody has to be waited for.
        while let Ok(heard) = tokio::time::timeout(Duration::ZERO, source.next()).await {
            for heard in heard.unwrap() {
                match heard {
                    Heard::Event(event) => events.push(*event),
                    Heard::Lost(more) => lost += more,
                }
            }
        }
    });
    (events, lost)
}

/// Ports, direction, verdict, reason, policy, rule.
type Short = (Option<(u16, u16)>, Option<Direction>, Verdict, Option<Reason>, Option<String>, String);

fn short(event: &Event) -> Short {
    let packet = event.packet.unwrap();
    let ends = [packet.source.to_string(), packet.destination.to_string()];
    assert!(ends.contains(&ADDRESSES[0].to_owned()) && ends.contains(&OTHER.to_owned()), "{event:?}");
    assert_eq!((event.packets, event.bytes), (1, 32), "{event:?}");
    let policy = event.by.policy.as_ref().map(ToString::to_string);
    (packet.ports, event.direction, event.verdict, event.reason, policy, event.by.rule.to_string())
}

#[test]
fn each_connection_and_each_drop_is_told_once_with_the_rule_that_decided() {
    let (enforcer, mut source, runtime) = telling(FlowsWanted::ALL, &[(UDP, 53)]);
    assert_eq!(judged(&enforcer, Way::ToPod, 53), Told::Allowed);
    assert_eq!(judged(&enforcer, Way::ToPod, 53), Told::Allowed, "the next packet of the same");
    assert_eq!(judged(&enforcer, Way::ToPod, 54), Told::Denied);
    assert_eq!(judged(&enforcer, Way::FromPod, 55), Told::Allowed);
    let (events, lost) = told(&runtime, &mut source);
    let (inward, outward) = (Some(Direction::Ingress), Some(Direction::Egress));
    let policy = Some("NetworkPolicy red/pod".to_owned());
    let expected = [
        (Some((55_555, 53)), inward, Verdict::Allowed, None, policy, "UDP 53".to_owned()),
        (Some((55_555, 54)), inward, Verdict::Denied, Some(Reason::EndOfTier), None, "end of tier".to_owned()),
        (Some((55_555, 55)), outward, Verdict::Allowed, None, None, "no tier decides".to_owned()),
    ];
    assert_eq!((events.iter().map(short).collect::<Vec<_>>(), lost), (expected.to_vec(), 0));
    assert_eq!(events[1].by.tier.as_deref(), Some("default"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let age = now - Duration::from_micros(events[0].time_unix_us.unwrap());
    assert!(age < Duration::from_secs(600), "{age:?}");
}

#[test]
fn what_nobody_wants_is_not_told() {
    for (wanted, number) in [(FlowsWanted::NONE, 0), (FlowsWanted::DENIED, 1)] {
        let (enforcer, mut source, runtime) = telling(wanted, &[(UDP, 53)]);
        judged(&enforcer, Way::ToPod, 53);
        judged(&enforcer, Way::ToPod, 54);
        judged(&enforcer, Way::FromPod, 55);
        let (events, _) = told(&runtime, &mut source);
        assert_eq!(events.len(), number, "{wanted:?} {events:?}");
        assert!(events.iter().all(|event| event.verdict == Verdict::Denied));
    }
}

/// Whatever else is wanted.
#[test]
fn of_so_many_packets_of_open_connections_about_one_is_told_and_never_as_a_decision() {
    let (mut enforcer, mut source, runtime) = telling(FlowsWanted::NONE, &[(UDP, 53)]);
    let mut sample = |one_of| {
        let wanted = FlowsWanted::of(FlowsWanted::NONE).sampled(NonZeroU32::new(one_of));
        enforcer.object.want_flows(wanted).unwrap();
        let frame = datagram(Way::ToPod, 53).bytes();
        enforcer.object.judge(Way::ToPod, INTERFACE, &frame, 10_000).unwrap();
        told(&runtime, &mut source)
    };
    let (events, lost) = sample(1);
    assert_eq!((events.len(), lost), (9_999, 0), "all but the first, which opens it");
    let chosen = &events[0];
    assert_eq!((chosen.sampled, chosen.verdict, &*chosen.by.rule), (Some(1), Verdict::Allowed, "UDP 53"));
    // Six deviations of a binomial distribution: it is wrong once in half a billion times.
    let (events, _) = sample(10);
    assert!((820..=1180).contains(&events.len()), "{} of 10,000", events.len());
    assert!(events.iter().all(|event| event.sampled == Some(10) && event.packets == 1));
    enforcer.object.want_flows(FlowsWanted::of(FlowsWanted::DENIED).sampled(NonZeroU32::new(1))).unwrap();
    judged(&enforcer, Way::ToPod, 54);
    let (events, _) = told(&runtime, &mut source);
    assert_eq!(
        events.iter().map(|event| (event.verdict, event.sampled)).collect::<Vec<_>>(),
        [(Verdict::Denied, None)]
    );
}

#[test]
fn what_has_no_room_is_counted_and_what_comes_after_is_told_again() {
    let (enforcer, mut source, runtime) = telling(FlowsWanted::DENIED, &[(UDP, 53)]);
    for _ in 0..FLOOD {
        judged(&enforcer, Way::ToPod, 54);
    }
    let (events, lost) = told(&runtime, &mut source);
    assert!(events.len() > 1000 && lost > 1000, "{} told, {lost} lost", events.len());
    assert_eq!(events.len() as u64 + lost, FLOOD);
    judged(&enforcer, Way::ToPod, 54);
    let (events, lost) = told(&runtime, &mut source);
    assert_eq!((events.len(), lost), (1, 0));
}

pub(crate) const OPEN: u16 = 80;
pub(crate) const CLOSED: u16 = 81;

/// An engine that enforces at the server, which is reached at these ports, a rule for each.
pub(crate) fn enforcing(config: &Config, ports: &[u16]) -> PolicyParts {
    let mut parts = engine::open_parts(config).unwrap();
    let web = chain_id("web", Direction::Ingress);
    let mut server = endpoint("server", SERVER.0, &SERVER.1);
    server.ingress = walk(&[&web]);
    let rules = ports.iter().map(|open| (Action::Allow, vec![port(Protocol::UDP, *open)])).collect();
    for change in [Change::Put(chain(&web, rules)), Change::Put(PolicyItem::Endpoint(server)), Change::InSync] {
        parts.engine.stage(change).unwrap();
    }
    parts
}

/// The client is reached by nobody.
fn stage_client(parts: &mut PolicyParts) {
    let none = chain_id("none", Direction::Ingress);
    let mut client = endpoint("client", CLIENT.0, &CLIENT.1);
    client.ingress = walk(&[&none]);
    for item in [chain(&none, Vec::new()), PolicyItem::Endpoint(client)] {
        parts.engine.stage(Change::Put(item)).unwrap();
    }
}

fn commit(runtime: &Runtime, parts: &mut PolicyParts) {
    let report = runtime.block_on(parts.engine.commit());
    assert!(report.is_complete(), "{report:?}");
}

/// Port, verdict, interface and rule of each event about the server.
fn at_server(events: &[Event]) -> Vec<(u16, Verdict, String)> {
    let asked = events.iter().filter(|event| event.output.as_deref() == Some(SERVER.0));
    let asked = asked.filter(|event| event.packet.is_some_and(|packet| packet.protocol == Protocol::UDP));
    let short = |event: &Event| (event.packet.unwrap().ports.unwrap().1, event.verdict, event.by.rule.to_string());
    asked.map(short).collect()
}

#[test]
fn rules_that_log_are_told_in_their_order_before_the_rule_that_decides_and_only_where_policy_is_asked() {
    in_own_place(|| {
        let node = NetNs::current().unwrap();
        let (client, _server) = (pod(&node, CLIENT), pod(&node, SERVER));
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let say = |port: u16| drop(voice.send_to(b"x", (SERVER.1[0], port)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let mut parts = enforcing(&config(), &[OPEN]);
        let web = chain_id("web", Direction::Ingress);
        let rules = vec![
            (Action::Log, vec![Clause::default()]),
            (Action::Log, vec![port(Protocol::TCP, OPEN)]),
            // By two clauses, and once.
            (Action::Log, vec![port(Protocol::UDP, OPEN), Clause::default()]),
            (Action::Allow, vec![port(Protocol::UDP, OPEN)]),
            (Action::Log, vec![port(Protocol::UDP, OPEN)]),
        ];
        parts.engine.stage(Change::Put(chain(&web, rules))).unwrap();
        let mut flows = parts.flows.take().unwrap();
        commit(&runtime, &mut parts);
        [OPEN, OPEN, CLOSED].into_iter().for_each(say);
        let at = |port, verdict, rule: &str| (port, verdict, rule.to_owned());
        let logs = |port| [0, 2].map(|rule| at(port, Verdict::Logged, &format!("spec.rules[{rule}]")));
        let denied = at(CLOSED, Verdict::Denied, "end of tier");
        let expected = [&logs(OPEN)[..], &logs(CLOSED), &[denied]].concat();
        assert_eq!(at_server(&told(&runtime, &mut *flows).0), expected);
        parts.engine.stage(Change::Config(json!({ "flows": "none" }))).unwrap();
        commit(&runtime, &mut parts);
        say(CLOSED);
        // Before that pods may have told groups of themselves.
        assert_eq!(at_server(&told(&runtime, &mut *flows).0), []);
        engine::clear().unwrap();
    });
}

/// Whoever reads does not notice that other programs took the place of those that told first, and not one name is another's.
#[test]
fn a_source_hears_all_generations_of_its_process_and_none_of_a_predecessors() {
    in_own_place(|| {
        let node = NetNs::current().unwrap();
        let client = pod(&node, CLIENT);
        let _server = pod(&node, SERVER);
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        // In one kernel a datagram is judged when it was sent.
        let say = |port: u16| drop(voice.send_to(b"x", (SERVER.1[0], port)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let all = Config { flows: Wanted::All, ..config() };
        let mut parts = enforcing(&all, &[7, OPEN]);
        let mut flows = parts.flows.take().unwrap();
        assert_eq!(told(&runtime, &mut *flows).0, [], "nothing is in force yet");
        commit(&runtime, &mut parts);
        say(OPEN);
        let expected = |port, verdict, rule: &str| (port, verdict, rule.to_owned());
        let opened = expected(OPEN, Verdict::Allowed, "spec.rules[1]");
        let denied = expected(CLOSED, Verdict::Denied, "end of tier");
        assert_eq!(at_server(&told(&runtime, &mut *flows).0), std::slice::from_ref(&opened));
        // Whoever numbers rules from the beginning meets this endpoint's first.
        stage_client(&mut parts);
        commit(&runtime, &mut parts);
        let again = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        again.send_to(b"x", (SERVER.1[0], OPEN)).unwrap();
        // What was told is read after other maps took the place of these, and what is told by them has the same names.
        say(CLOSED);
        parts.engine.stage(Change::Config(json!({ "flows": "denied", "maps": { "peers": 77 } }))).unwrap();
        commit(&runtime, &mut parts);
        say(CLOSED);
        say(7);
        assert_eq!(at_server(&told(&runtime, &mut *flows).0), [opened, denied.clone(), denied.clone()]);
        parts.engine.stage(Change::Config(json!({ "flows": "none", "maps": { "peers": 77 } }))).unwrap();
        commit(&runtime, &mut parts);
        say(CLOSED);
        let (events, lost) = told(&runtime, &mut *flows);
        assert_eq!((at_server(&events), lost), (Vec::new(), 0));
        parts.engine.stage(Change::Config(json!({ "maps": { "peers": 77 } }))).unwrap();
        commit(&runtime, &mut parts);
        say(CLOSED);
        drop(parts);
        let mut parts = enforcing(&all, &[OPEN]);
        stage_client(&mut parts);
        let mut next = parts.flows.take().unwrap();
        commit(&runtime, &mut parts);
        let other = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        other.send_to(b"x", (SERVER.1[0], OPEN)).unwrap();
        let opened = expected(OPEN, Verdict::Allowed, "spec.rules[0]");
        assert_eq!(at_server(&told(&runtime, &mut *next).0), [opened]);
        assert_eq!(at_server(&told(&runtime, &mut *flows).0), [denied], "what its own programs told it still has");
        engine::clear().unwrap();
    });
}
