//! What is dropped is counted, and maps are as full as they are said to be: an engine between two pods. Never a verdict.

use crate::attached::{CLIENT, SERVER, pod};
use crate::conformance::config;
use crate::flows::{CLOSED, OPEN, enforcing};
use crate::items::{endpoint, host, walk};
use crate::place::{block_on, in_own_place, run};
use crate::services::{Proxy, V4, item};
use crate::sockets::{client, in_a_namespace};
use backend_ebpf::abi::{Connection, ConnectionKey, Tracked};
use backend_ebpf::engine::{self, BPFFS, Config};
use backend_ebpf::kernel::{Object, Pins, Sizes, UsedMaps};
use backend_ebpf::service::{self, SocketDriver};
use cni_core::backend::{Change, Dropped, Meter, PolicyParts, TableUse, WhenFull};
use cni_core::flow::Reason;
use cni_core::model::ServiceItem;
use cni_core::policy::model::Direction;
use cni_core::policy::program::{HostInterface, PolicyItem, PolicyKey};
use net_linux::netns::NetNs;
use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;
use testlab::bed::{Cgroup, wait_for};

/// Two pods, and a voice in the client.
fn pods() -> ([NetNs; 2], UdpSocket) {
    let node = NetNs::current().unwrap();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    let pods = [pod(&node, CLIENT), pod(&node, SERVER)];
    for pod in &pods {
        // What kernels say by themselves, seconds later, is counted too: who listens to which group, who is a router.
        pod.run(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap()).unwrap();
    }
    let voice = pods[0].run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
    (pods, voice)
}

/// In one kernel a datagram is judged when it was sent.
fn say(voice: &UdpSocket, port: u16) {
    let _ = voice.send_to(b"x", (SERVER.1[0], port));
}

fn inside(work: impl FnOnce() + Send) {
    in_own_place(|| {
        // What is opened registers sockets.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        work();
        engine::clear().unwrap();
    });
}

fn packets(meter: &dyn Meter, direction: Direction, reason: Reason) -> u64 {
    let asked = Dropped::told(Some(direction), reason, 0);
    let same = |one: &&Dropped| (one.direction, one.reason) == (asked.direction, asked.reason);
    meter.dropped().unwrap().iter().find(same).unwrap().packets
}

fn table(meter: &dyn Meter, name: &str) -> TableUse {
    meter.tables().unwrap().into_iter().find(|table| table.table == name).unwrap()
}

fn commit(parts: &mut PolicyParts) {
    let report = block_on(parts.engine.commit());
    assert!(report.is_complete(), "{report:?}");
}

#[test]
fn what_is_dropped_is_counted_once_and_by_the_next_agent_too() {
    inside(|| {
        let (_pods, voice) = pods();
        let mut parts = enforcing(&config(), &[OPEN]);
        let meter = parts.meter.take().unwrap();
        assert_eq!((meter.dropped().unwrap(), meter.tables().unwrap()), (Vec::new(), Vec::new()), "nothing is there");
        commit(&mut parts);
        for port in [OPEN, CLOSED, CLOSED] {
            say(&voice, port);
        }
        assert_eq!(packets(&*meter, Direction::Ingress, Reason::EndOfTier), 2);
        assert_eq!(packets(&*meter, Direction::Egress, Reason::Rule), 0);
        let passed = meter.dropped().unwrap().into_iter().find(|one| one.reason == Some(Reason::Other));
        assert_eq!(passed, None, "what passes is not dropped for any reason");
        let mut counts: Vec<_> = meter.dropped().unwrap().iter().map(|one| (one.direction, one.reason)).collect();
        let all = counts.len();
        counts.dedup();
        assert_eq!(counts.len(), all, "each once");
        drop((parts, meter));
        let mut parts = enforcing(&config(), &[OPEN]);
        parts.engine.stage(Change::Put(PolicyItem::Endpoint(endpoint("client", CLIENT.0, &CLIENT.1)))).unwrap();
        let meter = parts.meter.take().unwrap();
        commit(&mut parts);
        say(&voice, CLOSED);
        assert_eq!(packets(&*meter, Direction::Ingress, Reason::Rule), 3);
    });
}

#[test]
fn what_is_dropped_of_the_node_itself_is_counted_too() {
    inside(|| {
        run("ip address add 192.0.2.1/32 dev lo");
        run("ip link set lo up");
        let (_pods, voice) = pods();
        let mut parts = enforcing(&config(), &[OPEN]);
        parts.engine.stage(Change::Put(PolicyItem::Endpoint(endpoint("client", CLIENT.0, &CLIENT.1)))).unwrap();
        parts.engine.stage(Change::Put(host(HostInterface::Pods, walk(&[])))).unwrap();
        let meter = parts.meter.take().unwrap();
        commit(&mut parts);
        for _ in 0..3 {
            voice.send_to(b"x", ("192.0.2.1", OPEN)).unwrap();
        }
        assert_eq!(packets(&*meter, Direction::Ingress, Reason::Rule), 3);
        // Of two pods' interfaces, its own addresses and of each family nobody's.
        assert!(table(&*meter, "HOSTS").entries >= Some(2 * 3));
    });
}

#[test]
fn a_full_map_is_said_to_be_full_and_what_has_no_room_in_it_is_dropped_and_counted() {
    inside(|| {
        let ([client, server], voice) = pods();
        let room = |endpoints| Config { maps: Sizes { endpoints, ..config().maps }, ..config() };
        // Both addresses of the server, and no more.
        let mut parts = enforcing(&room(2), &[OPEN]);
        let meter = parts.meter.take().unwrap();
        commit(&mut parts);
        let full = TableUse { table: "ENDPOINTS", entries: Some(2), room: 2, when_full: WhenFull::Refuses };
        assert_eq!(table(&*meter, "ENDPOINTS"), full);
        assert_eq!(packets(&*meter, Direction::Egress, Reason::UnknownEndpoint), 0, "the client is not ours yet");
        let ear = client.run(|| UdpSocket::bind((CLIENT.1[0], OPEN)).unwrap()).unwrap();
        ear.set_nonblocking(true).unwrap();
        let more = endpoint("client", CLIENT.0, &CLIENT.1);
        let key = PolicyKey::Endpoint(more.endpoint.clone());
        parts.engine.stage(Change::Put(PolicyItem::Endpoint(more))).unwrap();
        let report = block_on(parts.engine.commit());
        let error = report.problem_of(&key).unwrap();
        assert!(error.to_string().contains("ENDPOINTS is full"), "{error}");
        assert_eq!(table(&*meter, "ENDPOINTS"), full);
        let before = packets(&*meter, Direction::Egress, Reason::UnknownEndpoint);
        say(&voice, OPEN);
        assert_eq!(packets(&*meter, Direction::Egress, Reason::UnknownEndpoint), before + 1);
        let near = server.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        near.send_to(b"x", (CLIENT.1[0], OPEN)).unwrap();
        assert!(ear.recv(&mut [0]).is_err(), "nobody reaches a pod that has no room");
        let larger = serde_json::json!({ "maps": { "endpoints": 40 } });
        parts.engine.stage(Change::Config(larger)).unwrap();
        commit(&mut parts);
        let roomy = table(&*meter, "ENDPOINTS");
        assert_eq!((roomy.entries, roomy.room), (Some(4), 40));
        near.send_to(b"x", (CLIENT.1[0], OPEN)).unwrap();
        assert!(ear.recv(&mut [0]).is_ok());
    });
}

#[test]
fn entries_are_those_that_the_kernel_has_and_connections_those_that_are_open() {
    inside(|| {
        let (_pods, voice) = pods();
        let mut parts = enforcing(&config(), &[7, OPEN]);
        let meter = parts.meter.take().unwrap();
        commit(&mut parts);
        let tables = meter.tables().unwrap();
        let used = |name: &str| tables.iter().find(|table| table.table == name).unwrap().entries;
        assert_eq!((used("ENDPOINTS"), used("CONNECTIONS"), used("FRAGMENTS")), (Some(2), Some(0), None));
        // Two ports of two families, and everything else of each.
        assert!(used("TRAFFIC").unwrap() >= 3 && used("VERDICTS").unwrap() >= 1, "{tables:?}");
        say(&voice, OPEN);
        say(&voice, OPEN);
        let connections = table(&*meter, "CONNECTIONS");
        assert_eq!((connections.entries, connections.when_full), (Some(1), WhenFull::ForgetsOldest));
        let room = config().maps;
        assert_eq!((connections.room, table(&*meter, "PEERS").room), (room.connections.into(), room.peers.into()));
    });
}

/// Nobody takes them away before their room is needed, so a map that lives long enough has as many entries as it has room.
#[test]
fn connections_that_have_timed_out_are_not_counted() {
    in_own_place(|| {
        let [policy, kept, flows] = ["policy", "kept", "flows"].map(|name| Path::new(BPFFS).join(name));
        [&policy, &kept, &flows].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        let mut object = Object::load_pinned(&config().maps, &Pins { kept: &kept, flows: &flows }).unwrap();
        object.pin(&policy).unwrap();
        let udp =
            ConnectionKey { interface: 1, own: [1; 16], other: [2; 16], own_port: 3, other_port: 4, protocol: 17 };
        let seen = |seconds| Some(Tracked::opened(Connection::seen(seconds, 0), 0));
        object.set_connection(udp, seen(100)).unwrap();
        object.set_connection(ConnectionKey { own_port: 5, ..udp }, seen(120)).unwrap();
        let maps = UsedMaps::pinned(&policy, &Pins { kept: &kept, flows: &flows }).unwrap();
        let open =
            |now| maps.used(now, None).unwrap().into_iter().find(|used| used.map == "CONNECTIONS").unwrap().entries;
        assert_eq!([130, 131, 151].map(open), [Some(2), Some(1), Some(0)]);
    });
}

#[test]
fn clients_with_affinity_are_counted_for_as_long_as_their_frontend_keeps_them() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let config = service::Config { cgroup: Some(cgroup.0.clone()), ..service::Config::default() };
        let mut proxy = Proxy::open_with(&config);
        let affine = |seconds| ServiceItem { affinity_seconds: NonZeroU32::new(seconds), ..item(V4, 6, "abc") };
        proxy.put(vec![affine(3600)]);
        let meter = SocketDriver::open(&config).unwrap().meter().unwrap();
        assert_eq!(table(&*meter, "AFFINITY").entries, Some(0));
        client(&cgroup.0).ask("tcp", V4).unwrap();
        let used = table(&*meter, "AFFINITY");
        let room = service::Sizes::default().affinity;
        assert_eq!((used.entries, used.room, used.when_full), (Some(1), room.into(), WhenFull::ForgetsOldest));
        assert_eq!(table(&*meter, "REVERSE").entries, None, "nobody tells of sockets that are closed");
        proxy.put(vec![affine(1)]);
        let is_over = || table(&*meter, "AFFINITY").entries == Some(0);
        wait_for("the client is not counted any more", Duration::from_secs(20), is_over);
    });
}
