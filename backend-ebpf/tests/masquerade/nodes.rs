//! Pods, their node and a far host behind a router with a smaller MTU, with real TCP, UDP, ICMP. Never a frame made by hand.
//!
//! ```text
//! pod 10.244.1.2 ── node 192.0.2.1 ──[segment A]── 192.0.2.8 gate 203.0.113.1 ──(MTU 1300)── 203.0.113.2 far
//! ```
//!
//! The far host and the gate know no way to pods: whoever they hear was masqueraded.

use crate::each::at_each_hook;
use crate::hooks::{backend, index, open};
use backend_ebpf::Ebpf;
use backend_ebpf::abi::Masqueraded;
use backend_ebpf::kernel::masquerade::Attached;
use backend_ebpf::kernel::{Hook, MasqueradeMaps, masquerade};
use cni_core::backend::{Backend, Change, OpenRequest, WhenFull};
use cni_core::model::{Masquerade, NodeContext};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};
use testlab::bed::{Cluster, Node, Pod, Underlays, cable, run, try_run, udp};

at_each_hook! {
    pods_are_heard_outside_as_their_node_on_a_port_of_ours,
    datagrams_in_pieces_get_through,
    a_pod_hears_from_a_router_far_away_how_large_its_packets_may_be,
    the_nodes_own_connections_and_pods_own_way_to_their_node_stay_as_they_are,
    who_finds_no_port_free_is_dropped_and_counted_and_others_keep_theirs,
    who_outside_knows_the_way_to_a_pod_talks_with_its_own_address,
    an_agent_that_ends_leaves_open_connections_to_those_that_follow,
    either_programs_or_chains_masquerade_and_never_both,
}

pub(crate) const FAR: [&str; 2] = ["203.0.113.2", "2001:db8:f::2"];
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8:a::1"];
/// Where the far host says whom it hears.
const WHO: u16 = 4000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    cluster: Cluster,
    pub(crate) far: Pod,
    gate: NetNs,
    hook: Hook,
}

fn context(node: &Node) -> NodeContext {
    let prefixes = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    let sources = prefixes(&["10.244.0.0/16", "fd00:1::/64"]);
    NodeContext { masquerade: Some(Masquerade { keep: sources.clone(), sources }), ..node.context() }
}

fn far_host(underlays: &Underlays) -> (NetNs, Pod) {
    let (gate, far) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    underlays.plug(8, &gate);
    cable((&gate, "far"), (&far, "eth0"));
    gate.run(|| {
        run("ip address add 203.0.113.1/24 dev far");
        run("ip address add 2001:db8:f::1/64 dev far nodad");
        run("ip link set far mtu 1300 up");
        run("ip route del default");
        run("ip -6 route del default");
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    })
    .unwrap();
    far.run(|| {
        run("ip link set lo up");
        run("ip address add 203.0.113.2/24 dev eth0");
        run("ip address add 2001:db8:f::2/64 dev eth0 nodad");
        // Larger than the gate's side: what it sends is cut by nobody.
        run("ip link set eth0 mtu 1300 up");
        run("ip route add default via 203.0.113.1");
        run("ip -6 route add default via 2001:db8:f::1");
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, WHO)).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if &buffer[..length] == b"end" {
                    return;
                }
                let _ = socket.send_to(from.to_string().as_bytes(), from);
            }
        });
    })
    .unwrap();
    (gate, Pod::serving(far, FAR.map(|text| text.parse().unwrap()).to_vec()))
}

impl World {
    pub(crate) fn new(hook: Hook, section: &Value) -> Self {
        let underlays = Underlays::new();
        let (gate, far) = far_host(&underlays);
        let cluster = Cluster::on(underlays, backend(hook), &[1], section);
        cluster.nodes[0].stage_all(vec![Change::Node(context(&cluster.nodes[0]))]);
        cluster.nodes[0]
            .netns
            .run(|| {
                run("ip route add 203.0.113.0/24 via 192.0.2.8");
                run("ip -6 route add 2001:db8:f::/64 via 2001:db8:a::8");
            })
            .unwrap();
        Self { cluster, far, gate, hook }
    }

    pub(crate) fn node(&self) -> &Node {
        &self.cluster.nodes[0]
    }

    pub(crate) fn pod(&self) -> &Pod {
        &self.cluster.pods[0]
    }

    /// The agent ends.
    pub(crate) fn stop(&mut self) {
        self.cluster.nodes[0].stop();
    }

    /// Another agent, as after a crash of the one before. Whether all of it is in force.
    pub(crate) fn starts(&mut self, section: &Value) -> bool {
        let node = &mut self.cluster.nodes[0];
        node.stop();
        node.section = section.clone();
        node.start();
        node.stage(vec![Change::Node(context(node))]).is_complete()
    }

    /// The same, and it is.
    pub(crate) fn restart(&mut self, section: &Value) {
        assert!(self.starts(section));
        self.cluster.introduce(&self.cluster.nodes[0]);
    }

    pub(crate) fn programs(&self) -> Vec<&'static str> {
        self.attached().into_iter().map(|found| found.program.name()).collect()
    }

    fn attached(&self) -> Vec<Attached> {
        let find = || masquerade::find(&mut open(self.hook), index("eth0")).unwrap();
        self.node().netns.run(find).unwrap()
    }

    pub(crate) fn maps(&self) -> MasqueradeMaps {
        self.readable_maps().unwrap()
    }

    pub(crate) fn has_maps(&self) -> bool {
        self.readable_maps().is_some()
    }

    fn readable_maps(&self) -> Option<MasqueradeMaps> {
        MasqueradeMaps::of(self.attached().into_iter().flat_map(|found| found.known.map_ids)).unwrap()
    }

    fn chains(&self) -> String {
        self.node().netns.run(|| run("nft list ruleset")).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let socket = self.far.netns.run(|| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap()).unwrap();
        let _ = socket.send_to(b"end", (Ipv6Addr::LOCALHOST, WHO));
    }
}

fn any(to: IpAddr) -> SocketAddr {
    SocketAddr::new(if to.is_ipv4() { IpAddr::from([0; 4]) } else { Ipv6Addr::UNSPECIFIED.into() }, 0)
}

/// A socket that talks to the far host.
pub(crate) fn asking(from: &NetNs, family: usize) -> UdpSocket {
    let to: IpAddr = FAR[family].parse().unwrap();
    let socket = from.run(|| UdpSocket::bind(any(to)).unwrap()).unwrap();
    socket.connect((to, WHO)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// As whom the far host hears it.
pub(crate) fn heard(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.send(b"who am I?").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).parse().unwrap())
}

pub(crate) fn unmapped(heard: SocketAddr) -> (IpAddr, u16) {
    (heard.ip().to_canonical(), heard.port())
}

const MODES: [&str; 2] = ["vxlan", "native"];

fn pods_are_heard_outside_as_their_node_on_a_port_of_ours(hook: Hook) {
    for (mode, fast_path) in [("vxlan", false), ("native", false), ("vxlan", true)] {
        let world = World::new(hook, &json!({ "mode": mode, "masquerade": "ebpf", "fastPath": fast_path }));
        assert_eq!(world.programs(), ["masq_out", "masq_in"]);
        assert!(!world.chains().contains("masq-"), "{}", world.chains());
        for family in 0..2 {
            world.pod().talks_to(FAR[family].parse().unwrap());
            let (address, port) = unmapped(heard(&asking(&world.pod().netns, family)).unwrap());
            assert_eq!(address, NODE[family].parse::<IpAddr>().unwrap(), "{mode}");
            assert!(port >= 61_000, "{port}");
        }
        let used = world.maps();
        assert!(used.packets(Masqueraded::Out).unwrap() > 0 && used.packets(Masqueraded::Back).unwrap() > 0);
    }
}

/// Larger than the way and than the pod's own link, both ways: fragments.
fn datagrams_in_pieces_get_through(hook: Hook) {
    let world = World::new(hook, &json!({ "mode": "native", "masquerade": "ebpf" }));
    for far in FAR {
        let to: IpAddr = far.parse().unwrap();
        world
            .pod()
            .netns
            .run(|| {
                // The first may learn the way's MTU.
                udp(SocketAddr::new(to, 7), 4000).unwrap_or_else(|error| panic!("UDP to {to}: {error}"));
                run(&format!("ping -n -c 2 -W 5 -s 4000 {to}"));
            })
            .unwrap();
    }
}

fn a_pod_hears_from_a_router_far_away_how_large_its_packets_may_be(hook: Hook) {
    let world = World::new(hook, &json!({ "mode": "native", "masquerade": "ebpf" }));
    for far in FAR {
        let ping = || try_run(&format!("ping -n -M do -c 3 -i 0.2 -W 1 -s 1400 {far}"));
        // Routers answer at a limited rate, and neighbours may not be known yet.
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let said = world.pod().netns.run(ping).unwrap().unwrap_err();
            if said.contains("mtu") && said.contains("1300") {
                break;
            }
            assert!(Instant::now() < end, "{said}");
        }
        // TCP goes on with less.
        world.pod().talks_to(far.parse().unwrap());
    }
}

fn the_nodes_own_connections_and_pods_own_way_to_their_node_stay_as_they_are(hook: Hook) {
    let world = World::new(hook, &json!({ "mode": "vxlan", "masquerade": "ebpf" }));
    let at_node = Pod::serving(world.node().netns.clone(), NODE.map(|text| text.parse().unwrap()).to_vec());
    for family in 0..2 {
        let own = asking(&world.node().netns, family);
        let port = own.local_addr().unwrap().port();
        let node: IpAddr = NODE[family].parse().unwrap();
        assert_eq!(unmapped(heard(&own).unwrap()), (node, port));
        world.pod().talks_to(node);
        // The node's own from a port that is ours, which the node has chosen by itself.
        let to: IpAddr = FAR[family].parse().unwrap();
        let bound = || UdpSocket::bind(SocketAddr::new(any(to).ip(), 61_234)).unwrap();
        let socket = world.node().netns.run(bound).unwrap();
        socket.connect((to, WHO)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(unmapped(heard(&socket).unwrap()), (node, 61_234));
    }
    assert_eq!(world.maps().packets(Masqueraded::Out).unwrap(), 0);
    drop(at_node);
}

fn who_finds_no_port_free_is_dropped_and_counted_and_others_keep_theirs(hook: Hook) {
    let world = World::new(hook, &json!({ "mode": "native", "masquerade": "ebpf", "masqueradePorts": "61000-61003" }));
    for family in 0..2 {
        let sockets: Vec<UdpSocket> = (0..4).map(|_| asking(&world.pod().netns, family)).collect();
        let mut ports: Vec<u16> = sockets.iter().map(|socket| heard(socket).unwrap().port()).collect();
        ports.sort_unstable();
        assert_eq!(ports, [61_000, 61_001, 61_002, 61_003]);
        let one_more = asking(&world.pod().netns, family);
        one_more.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let before = world.maps().packets(Masqueraded::NoPort).unwrap();
        assert_eq!(heard(&one_more), None);
        assert_eq!(world.maps().packets(Masqueraded::NoPort).unwrap(), before + 1);
        assert!(sockets.iter().all(|socket| heard(socket).is_some()));
    }
    // An agent that reads all this, as monitors see it.
    let request = OpenRequest {
        node: context(world.node()),
        config: world.node().section.clone(),
        state_dir: std::env::temp_dir(),
        host_stack_for: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = || async {
        let mut parts = backend(hook).open(request).await.unwrap();
        parts.datapath.resync().await.unwrap();
        let meter = parts.meter.unwrap();
        (meter.dropped().unwrap(), meter.tables().unwrap())
    };
    let (dropped, tables) = world.node().netns.run(|| runtime.block_on(read())).unwrap();
    let full: u64 = dropped.iter().filter(|one| one.word() == "full").map(|one| one.packets).sum();
    assert_eq!(full, world.maps().packets(Masqueraded::NoPort).unwrap());
    for (name, entries, room) in
        [("COMING", Some(8), 65_536), ("LEAVING", Some(8), 65_536), ("MASQ_FRAGMENTS", None, 4096)]
    {
        let found = tables.iter().find(|table| table.table == name).unwrap();
        assert_eq!((found.entries, found.room, found.when_full), (entries, room, WhenFull::ForgetsOldest), "{name}");
    }
}

fn who_outside_knows_the_way_to_a_pod_talks_with_its_own_address(hook: Hook) {
    let world = World::new(hook, &json!({ "mode": "native", "masquerade": "ebpf" }));
    let routes = || {
        run("ip route add 10.244.1.0/24 via 192.0.2.1");
        run("ip -6 route add fd00:1::/64 via 2001:db8:a::1");
    };
    world.gate.run(routes).unwrap();
    for (pod, far) in world.pod().addresses.iter().zip(FAR) {
        world.far.talks_to(*pod);
        // And the other way round as before.
        world.pod().talks_to(far.parse().unwrap());
    }
}

/// The sizes differ, so the second agent loads programs anew; the third finds all as it wants it.
fn an_agent_that_ends_leaves_open_connections_to_those_that_follow(hook: Hook) {
    let section = |room: u32| json!({ "mode": "native", "masquerade": "ebpf", "maxMasqueraded": room });
    let mut world = World::new(hook, &section(4096));
    let mut streams: Vec<TcpStream> = FAR
        .iter()
        .map(|far| {
            let to = SocketAddr::new(far.parse().unwrap(), 7);
            world.pod().netns.run(|| TcpStream::connect_timeout(&to, PATIENCE).unwrap()).unwrap()
        })
        .collect();
    let asking: Vec<UdpSocket> = (0..2).map(|family| asking(&world.pod().netns, family)).collect();
    let before: Vec<_> = asking.iter().map(heard).collect();
    for room in [8192, 8192] {
        world.stop();
        echoes(&mut streams);
        world.restart(&section(room));
        echoes(&mut streams);
        assert_eq!(asking.iter().map(heard).collect::<Vec<_>>(), before);
        assert_eq!(world.maps().room().connections, room);
    }
}

pub(crate) fn echoes(streams: &mut [TcpStream]) {
    for stream in streams {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"still there?").unwrap();
        let mut back = [0; 12];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"still there?");
    }
}

fn either_programs_or_chains_masquerade_and_never_both(hook: Hook) {
    for mode in MODES {
        let section = |engine: &str| json!({ "mode": mode, "masquerade": engine });
        let mut world = World::new(hook, &section("nftables"));
        for engine in ["nftables", "ebpf", "nftables", "ebpf"] {
            world.restart(&section(engine));
            let is_ebpf = engine == "ebpf";
            assert_eq!(world.programs().len(), if is_ebpf { 2 } else { 0 }, "{mode} {engine}");
            assert_eq!(world.chains().contains("masq-"), !is_ebpf, "{mode} {engine}: {}", world.chains());
            for (family, far) in FAR.iter().enumerate() {
                world.pod().talks_to(far.parse().unwrap());
                let (address, _) = unmapped(heard(&asking(&world.pod().netns, family)).unwrap());
                assert_eq!(address, NODE[family].parse::<IpAddr>().unwrap(), "{mode} {engine}");
            }
        }
        // Off, while the agent runs.
        world.node().stage_all(vec![Change::Node(world.node().context())]);
        assert!(world.programs().is_empty() && !world.chains().contains("masq-"));
        // And what another backend would find.
        world.node().stage_all(vec![Change::Node(context(world.node()))]);
        assert_eq!(world.programs().len(), 2);
        world.stop();
        world.node().netns.run(|| Ebpf.clear().unwrap()).unwrap();
        assert!(world.programs().is_empty());
    }
}

#[test]
fn ports_that_the_node_gives_to_its_own_sockets_are_refused() {
    let world = World::new(Hook::probe(), &json!({ "mode": "native" }));
    let open = |section: Value| {
        let request = OpenRequest {
            node: context(world.node()),
            config: section,
            state_dir: std::env::temp_dir(),
            host_stack_for: Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        world.node().netns.run(|| runtime.block_on(async { Ebpf.open(request).await.map(drop) })).unwrap()
    };
    let section = json!({ "mode": "native", "masquerade": "ebpf", "masqueradePorts": "50000-51000" });
    let refused = open(section.clone()).unwrap_err();
    assert_eq!(refused.field, Some("masqueradePorts"), "{refused}");
    let reserve = || std::fs::write("/proc/sys/net/ipv4/ip_local_reserved_ports", "50000-51000").unwrap();
    world.node().netns.run(reserve).unwrap();
    open(section).unwrap();
}
