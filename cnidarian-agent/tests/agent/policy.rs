//! Policy closes before it opens, outlives its agent, and follows what is written: a real agent, seen by packets.

use crate::world::{Pod, World, until};
use net_linux::addr::Address;
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::marks;
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::nft::{self, Nft};
use net_linux::route::Route;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub(crate) const PORT: u16 = 7;
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// A pod that the cluster knows of, attached.
pub(crate) struct Member {
    pub(crate) pod: Pod,
    pub(crate) address: IpAddr,
    /// Hears what comes to [`PORT`].
    pub(crate) ear: UdpSocket,
}

pub(crate) fn put(world: &World, name: &str, object: &Value) {
    let directory = world.dir.path().join("cluster");
    std::fs::create_dir_all(&directory).unwrap();
    let fresh = directory.join(format!(".{name}.new"));
    std::fs::write(&fresh, object.to_string()).unwrap();
    std::fs::rename(fresh, directory.join(format!("{name}.json"))).unwrap();
}

pub(crate) fn remove(world: &World, name: &str) {
    std::fs::remove_file(world.dir.path().join("cluster").join(format!("{name}.json"))).unwrap();
}

/// What was written before is in force after.
pub(crate) fn resync(world: &World) {
    let (done, text) = world.ask(&["resync"]);
    assert!(done, "{text}\n{}", world.log());
}

pub(crate) fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

pub(crate) fn closed(namespace: &str) -> Value {
    policy(namespace, "closed", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))
}

/// Only pods `app: NAME` of the namespace may talk to `app: TO`.
pub(crate) fn only(namespace: &str, to: &str, from: &str) -> Value {
    let from = json!([{"podSelector": {"matchLabels": {"app": from}}}]);
    policy(namespace, to, &json!({"podSelector": {"matchLabels": {"app": to}}, "ingress": [{"from": from}]}))
}

pub(crate) fn write_pod(world: &World, namespace: &str, name: &str) {
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node-1"}});
    put(world, &format!("pod-{namespace}-{name}"), &pod);
}

fn add(world: &World, namespace: &str, pod: &Pod) -> IpAddr {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={}", pod.id);
    let added = world.cni_with("ADD", pod, &world.conf(), &[("CNI_ARGS", &args)]).ok();
    added["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap()
}

/// As a runtime that wants a certain address.
fn add_at(world: &World, namespace: &str, pod: &Pod, address: IpAddr) {
    let args = format!("IgnoreUnknown=1;IP={address};K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={}", pod.id);
    world.cni_with("ADD", pod, &world.conf(), &[("CNI_ARGS", &args)]).ok();
}

pub(crate) fn ear(netns: &NetNs) -> UdpSocket {
    let ear = netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap()).unwrap();
    ear.set_nonblocking(true).unwrap();
    ear
}

pub(crate) fn join(world: &World, namespace: &str, name: &str) -> Member {
    write_pod(world, namespace, name);
    let pod = Pod::new(name);
    let ear = ear(&pod.netns);
    let address = add(world, namespace, &pod);
    Member { pod, address, ear }
}

/// All datagrams that were heard.
pub(crate) fn heard(ear: &UdpSocket) -> Vec<Vec<u8>> {
    let mut bytes = [0; 64];
    std::iter::from_fn(|| ear.recv(&mut bytes).ok().map(|length| bytes[..length].to_vec())).collect()
}

pub(crate) fn voice(from: &NetNs) -> UdpSocket {
    from.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).unwrap()
}

/// Whether a new flow gets through.
pub(crate) fn reaches(from: &NetNs, to: IpAddr, ear: &UdpSocket) -> bool {
    let voice = voice(from);
    let word = format!("from {}", voice.local_addr().unwrap());
    let end = Instant::now() + SILENCE;
    while Instant::now() < end {
        let _ = voice.send_to(word.as_bytes(), (to, PORT));
        std::thread::sleep(Duration::from_millis(10));
        if heard(ear).iter().any(|heard| heard == word.as_bytes()) {
            return true;
        }
    }
    false
}

pub(crate) fn opens(from: &NetNs, to: &Member) {
    until("a flow that is allowed gets through", || {
        if reaches(from, to.address, &to.ear) { Ok(()) } else { Err("silence".to_owned()) }
    });
}

pub(crate) fn stays_closed(from: &NetNs, to: &Member) {
    assert!(!reaches(from, to.address, &to.ear), "a flow that is denied got through");
}

/// A veth between the node and a namespace of its own, up, with addresses and a way back.
pub(crate) fn neighbour(world: &World, interface: &str, node: &str, other: &str) -> NetNs {
    let netns = NetNs::new().unwrap();
    let up = |name: &str, address: &str, gateway: Option<&str>| {
        let mut socket = Socket::route().unwrap();
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
        let index = net_linux::link::Link::get(&mut socket, &LinkId::Name(name)).unwrap().unwrap().index;
        Address::new(index, address.parse().unwrap()).create(&mut batch);
        if let Some(gateway) = gateway {
            let everywhere = "0.0.0.0/0".parse().unwrap();
            Route::via_on_link(everywhere, gateway.parse().unwrap(), index).create(&mut batch);
        }
        socket.run_all(&mut batch).unwrap();
    };
    let create = || {
        let peer = VethPeer { name: "eth0", mac: None, namespace: Some(netns.as_fd()) };
        NewLink::new(interface, NewLinkKind::Veth(peer)).create(&mut Socket::route().unwrap()).unwrap();
        up(interface, node, None);
    };
    world.netns.run(create).unwrap();
    netns.run(|| up("eth0", other, node.split('/').next())).unwrap();
    netns
}

/// Sets it when it goes, also when the test fails: threads that wait for it end.
pub(crate) struct SetAtEnd<'a>(pub(crate) &'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends to everybody as fast as it can until it is told to stop. Answers how many the kernel took from it.
pub(crate) fn flood(from: &NetNs, targets: impl Fn() -> Vec<IpAddr>, stop: &AtomicBool, taken: &AtomicUsize) {
    let voice = voice(from);
    while !stop.load(Ordering::Relaxed) {
        for target in targets() {
            // Without an interface there is no route yet.
            if voice.send_to(b"race", (target, PORT)).is_ok() {
                taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn our_table() -> nft::TableId {
    nft::TableId::new(nft::Family::Inet, nft::Name::new(marks::NFT_TABLE).unwrap())
}

/// How often the agent wrote to the kernel so far.
fn commits(world: &World) -> u64 {
    let connect = || TcpStream::connect("127.0.0.1:9401").unwrap();
    let mut client = world.netns.run(connect).unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("cnidarian_commit_seconds_count "));
    count.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

#[test]
fn many_pods_that_go_at_once_are_few_commits() {
    let mut world = World::new();
    let mut config = world.config();
    config["metrics"] = json!({"address": "127.0.0.1:9401"});
    world.start_with(&config);
    let server = join(&world, "crowd", "server");
    put(&world, "only", &only("crowd", "server", "friend"));
    let friend = |number: usize| {
        let metadata = json!({"name": format!("friend-{number}"), "namespace": "crowd", "labels": {"app": "friend"}});
        let ip = format!("10.43.{}.{}", number / 250, number % 250 + 1);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "node-2"},
            "status": {"podIPs": [{"ip": ip}]}})
    };
    let members = || {
        let table = world.netns.run(|| Nft::open().unwrap().contents(&our_table()).unwrap().unwrap()).unwrap();
        let named = table.sets.iter().zip(&table.elements);
        named
            .filter(|(set, _)| set.object.id.name.as_str().starts_with("pol-set-a4-"))
            .map(|(_, all)| all.len())
            .sum::<usize>()
    };
    let all: Vec<Value> = (0..300).map(friend).collect();
    put(&world, "friends", &json!({"apiVersion": "v1", "kind": "List", "items": all}));
    until("all friends are known", || if members() == 300 { Ok(()) } else { Err(members().to_string()) });
    let before = commits(&world);
    remove(&world, "friends");
    until("they are gone", || if members() == 0 { Ok(()) } else { Err(members().to_string()) });
    let commits = commits(&world) - before;
    assert!(commits < 60, "{commits} commits for 300 pods");
    drop(server);
}

/// 40 pods; as many as `CNIDARIAN_RACE_PODS` says in a long run.
#[test]
fn not_one_packet_gets_through_before_the_program_of_a_new_pod_is_in_force() {
    new_pods_are_closed("nftables");
}

#[test]
fn not_one_packet_gets_through_before_the_program_of_a_new_pod_is_in_force_in_ebpf() {
    new_pods_are_closed("ebpf");
}

fn new_pods_are_closed(engine: &str) {
    let pods = std::env::var("CNIDARIAN_RACE_PODS").map_or(40, |text| text.parse().unwrap());
    let world = World::enforcing(engine);
    put(&world, "closed", &closed("race"));
    let open = join(&world, "open", "open");
    let outside = neighbour(&world, "beyond", "203.0.113.1/24", "203.0.113.2/24");
    let beyond = ear(&outside);
    let targets = [open.address, "203.0.113.2".parse().unwrap()];
    // The address that the next pod gets, so that no moment of it is missed.
    let next = AtomicU8::new(0);
    let (stop, shouted) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopped = SetAtEnd(&stop);
        scope.spawn(|| {
            let aim = || vec![IpAddr::from([10, 42, 0, next.load(Ordering::Relaxed)])];
            flood(&open.pod.netns, aim, &stop, &shouted);
        });
        for number in 0..pods {
            let namespace = if number == pods / 2 { "open" } else { "race" };
            let pod = Pod::new(&format!("racer-{number}"));
            write_pod(&world, namespace, &pod.id);
            let own_ear = ear(&pod.netns);
            let last = 20 + u8::try_from(number % 200).unwrap();
            next.store(last, Ordering::Relaxed);
            let (enough, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                let _stopped = SetAtEnd(&enough);
                scope.spawn(|| flood(&pod.netns, || targets.to_vec(), &enough, &taken));
                add_at(&world, namespace, &pod, IpAddr::from([10, 42, 0, last]));
                let before = taken.load(Ordering::Relaxed);
                until("the pod sends", || {
                    if taken.load(Ordering::Relaxed) > before + 50 { Ok(()) } else { Err("nothing".to_owned()) }
                });
            });
            if namespace == "race" {
                assert_eq!(heard(&own_ear).len(), 0, "{} heard somebody", pod.id);
                assert_eq!(heard(&open.ear).len(), 0, "{} was heard by a pod", pod.id);
                assert_eq!(heard(&beyond).len(), 0, "{} was heard outside", pod.id);
            } else {
                // The same without policy: the floods are real.
                for ear in [&own_ear, &open.ear, &beyond] {
                    until("a pod without policy is heard and hears", || {
                        if heard(ear).is_empty() { Err("silence".to_owned()) } else { Ok(()) }
                    });
                }
            }
            world.cni("DEL", &pod).ok();
            for ear in [&open.ear, &beyond] {
                drop(heard(ear));
            }
        }
    });
    assert!(shouted.load(Ordering::Relaxed) > 0);
}

pub(crate) fn connect(from: &Member, to: &Member) -> [TcpStream; 2] {
    let listener = to.pod.netns.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()).unwrap();
    let target = SocketAddr::new(to.address, listener.local_addr().unwrap().port());
    let client = from.pod.netns.run(|| TcpStream::connect_timeout(&target, Duration::from_secs(10)).unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
    }
    [client, server]
}

pub(crate) fn echoes([client, server]: &mut [TcpStream; 2]) -> bool {
    let mut byte = [0];
    client.write_all(b"?").is_ok()
        && server.read_exact(&mut byte).is_ok()
        && server.write_all(&byte).is_ok()
        && client.read_exact(&mut byte).is_ok()
}

/// Pods `a`, `b` and `c` of one namespace; only `a` may talk to `b`.
pub(crate) fn three(world: &World) -> [Member; 3] {
    put(world, "only", &only("three", "b", "a"));
    let members = ["a", "b", "c"].map(|name| join(world, "three", name));
    // Kubelet writes the addresses that a pod was given; members of sets come from there.
    for member in &members {
        tell_address(world, "three", member);
    }
    resync(world);
    members
}

fn tell_address(world: &World, namespace: &str, member: &Member) {
    let name = &member.pod.id;
    let metadata = json!({"name": name, "namespace": namespace, "labels": {"app": name}});
    let status = json!({"phase": "Running", "podIPs": [{"ip": member.address}]});
    let spec = json!({"nodeName": "node-1"});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status});
    put(world, &format!("pod-{namespace}-{name}"), &pod);
}

#[test]
fn policy_outlives_its_agent_and_a_restart_neither_opens_nor_cuts() {
    outlives_its_agent("nftables");
}

#[test]
fn policy_outlives_its_agent_and_a_restart_neither_opens_nor_cuts_in_ebpf() {
    outlives_its_agent("ebpf");
}

fn outlives_its_agent(engine: &str) {
    let mut world = World::enforcing(engine);
    let [a, b, c] = three(&world);
    let free = join(&world, "open", "free");
    let mut open = connect(&a, &b);
    assert!(echoes(&mut open));
    let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (allowed, denied) = (voice(&a.pod.netns), AtomicUsize::new(0));
    let got: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let stopped = SetAtEnd(&stop);
        scope.spawn(|| {
            // Every datagram on a flow that is open, and each a new flow that is denied, for as long as the agent is away,
            // comes and goes.
            while !stop.load(Ordering::Relaxed) {
                allowed.send_to(b"allowed", (b.address, PORT)).unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
                if voice(&c.pod.netns).send_to(b"denied", (b.address, PORT)).is_ok() {
                    denied.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let listener = scope.spawn(|| {
            let mut got = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                got.extend(heard(&b.ear));
                std::thread::sleep(Duration::from_millis(1));
            }
            got
        });
        let pause =
            || {
                let wanted = sent.load(Ordering::Relaxed) + 50;
                until("more is sent", || {
                    if sent.load(Ordering::Relaxed) >= wanted { Ok(()) } else { Err("less".to_owned()) }
                });
            };
        for _ in 0..3 {
            pause();
            world.kill();
            pause();
            assert!(echoes(&mut open), "while nobody is there");
            world.start();
            pause();
            assert!(echoes(&mut open), "after a restart");
        }
        drop(stopped);
        listener.join().unwrap()
    });
    let mut all = got;
    until("the last datagram is heard", || {
        all.extend(heard(&b.ear));
        let through = all.iter().filter(|heard| *heard == b"allowed").count();
        let sent = sent.load(Ordering::Relaxed);
        if through == sent { Ok(()) } else { Err(format!("{through} of {sent}")) }
    });
    assert!(denied.load(Ordering::Relaxed) > 0);
    assert!(!all.iter().any(|heard| heard == b"denied"), "a restart opened what is denied");
    stays_closed(&c.pod.netns, &b);
    // Without agent: new flows as before, and an interface that nobody knows is closed.
    world.kill();
    opens(&a.pod.netns, &b);
    stays_closed(&c.pod.netns, &b);
    let other = neighbour(&world, "other0", "10.99.0.1/24", "10.99.0.2/24");
    opens(&other, &free);
    // Programs are where the agent put them; its own interfaces are down until then.
    if engine == "nftables" {
        let stranger = neighbour(&world, "cnistranger", "10.99.1.1/24", "10.99.1.2/24");
        stays_closed(&stranger, &free);
    }
}

#[test]
fn a_change_of_policy_ends_open_connections_and_its_removal_lets_new_ones_in() {
    turns("nftables");
}

#[test]
fn a_change_of_policy_ends_open_connections_and_its_removal_lets_new_ones_in_in_ebpf() {
    turns("ebpf");
}

fn turns(engine: &str) {
    let world = World::enforcing(engine);
    let [a, b, _c] = three(&world);
    let mut open = connect(&a, &b);
    assert!(echoes(&mut open));
    put(&world, "more", &closed("three"));
    until("an open connection is cut", || if echoes(&mut open) { Err("it goes on".to_owned()) } else { Ok(()) });
    stays_closed(&a.pod.netns, &b);
    remove(&world, "more");
    opens(&a.pod.netns, &b);
    assert!(echoes(&mut connect(&a, &b)));
}

fn delete_table() {
    let mut batch = nft::Batch::new();
    batch.delete_table(&our_table());
    Nft::open().unwrap().commit(&batch).unwrap();
}

#[test]
fn a_table_that_somebody_deleted_is_made_again() {
    let world = World::started();
    let [a, b, c] = three(&world);
    stays_closed(&c.pod.netns, &b);
    world.netns.run(delete_table).unwrap();
    until("it is made again without being asked for", || {
        if reaches(&c.pod.netns, b.address, &b.ear) { Err("a denied flow gets through".to_owned()) } else { Ok(()) }
    });
    for _ in 0..3 {
        world.netns.run(delete_table).unwrap();
        resync(&world);
        stays_closed(&c.pod.netns, &b);
        opens(&a.pod.netns, &b);
    }
}

#[test]
fn a_policy_that_cannot_be_read_closes_its_pods_and_nobody_else_and_is_shown() {
    let world = World::started();
    let [a, b, c] = three(&world);
    opens(&c.pod.netns, &a);
    let peer = json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Near", "values": ["c"]}]}});
    let spec = json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": [peer]}]});
    put(&world, "bad", &policy("three", "bad", &spec));
    resync(&world);
    stays_closed(&c.pod.netns, &a);
    opens(&a.pod.netns, &b);
    opens(&a.pod.netns, &c);
    let (_, text) = world.ask(&["status"]);
    assert!(text.contains("three/bad") && text.contains("Near"), "{text}");
    remove(&world, "bad");
    resync(&world);
    opens(&c.pod.netns, &a);
    let (_, text) = world.ask(&["status"]);
    assert!(!text.contains("three/bad"), "{text}");
}

/// What we have in the table for policy.
fn policy_chains() -> Vec<String> {
    let id = our_table();
    let mut nft = Nft::open().unwrap();
    if nft.table(&id).unwrap().is_none() {
        return Vec::new();
    }
    let chains = nft.chains(&id).unwrap().into_iter().map(|chain| chain.object.id.name.as_str().to_owned());
    chains.filter(|name| name.starts_with("pol-")).collect()
}

#[test]
fn without_an_engine_nothing_of_the_last_one_is_left() {
    let mut world = World::started();
    let [_a, b, c] = three(&world);
    stays_closed(&c.pod.netns, &b);
    assert!(!world.netns.run(policy_chains).unwrap().is_empty());
    world.stop();
    stays_closed(&c.pod.netns, &b);
    let mut config = world.config();
    config["policy"] = json!("none");
    world.start_with(&config);
    assert_eq!(world.netns.run(policy_chains).unwrap(), [""; 0]);
    opens(&c.pod.netns, &b);
    world.stop();
    world.start();
    stays_closed(&c.pod.netns, &b);
}

#[test]
fn from_one_engine_to_the_other_no_packet_passes_that_both_deny() {
    let mut world = World::started();
    let [a, b, c] = three(&world);
    let (stop, denied) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopped = SetAtEnd(&stop);
        scope.spawn(|| flood(&c.pod.netns, || vec![b.address], &stop, &denied));
        for engine in ["ebpf", "nftables", "ebpf"] {
            world.stop();
            world.policy = engine.to_owned();
            world.start();
            let before = denied.load(Ordering::Relaxed);
            until("more is sent", || {
                if denied.load(Ordering::Relaxed) > before + 100 { Ok(()) } else { Err("less".to_owned()) }
            });
            assert!(!heard(&b.ear).iter().any(|word| word == b"race"), "{engine}");
        }
    });
    opens(&a.pod.netns, &b);
    assert_eq!(world.netns.run(policy_chains).unwrap(), [""; 0], "nothing of the engine before is left");
    world.stop();
    world.policy = "none".to_owned();
    world.start();
    opens(&c.pod.netns, &b);
}

#[test]
fn a_pod_with_the_address_of_an_old_one_does_not_inherit_its_connections() {
    inherits_nothing("nftables");
}

#[test]
fn a_pod_with_the_address_of_an_old_one_does_not_inherit_its_connections_in_ebpf() {
    inherits_nothing("ebpf");
}

fn inherits_nothing(engine: &str) {
    const SOURCE: u16 = 4000;
    let world = World::enforcing(engine);
    put(&world, "closed", &closed("shut"));
    let friend = join(&world, "open", "friend");
    let before = join(&world, "open", "before");
    let from = |pod: &Pod| pod.netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SOURCE)).unwrap()).unwrap();
    let voice = from(&before.pod);
    until("the old pod is heard", || {
        voice.send_to(b"old", (friend.address, PORT)).unwrap();
        if heard(&friend.ear).is_empty() { Err("silence".to_owned()) } else { Ok(()) }
    });
    // Both ways, as the kernel takes a flow of UDP for established then.
    friend.ear.send_to(b"answer", (before.address, SOURCE)).unwrap();
    world.cni("DEL", &before.pod).ok();
    let after = Pod::new("after");
    write_pod(&world, "shut", "after");
    add_at(&world, "shut", &after, before.address);
    let voice = from(&after);
    let end = Instant::now() + SILENCE;
    while Instant::now() < end {
        let _ = voice.send_to(b"new", (friend.address, PORT));
        let _ = friend.ear.send_to(b"new", (before.address, SOURCE));
        std::thread::sleep(Duration::from_millis(5));
    }
    voice.set_nonblocking(true).unwrap();
    assert!(!heard(&friend.ear).iter().any(|word| word == b"new"), "the new pod sends on the old one's flow");
    assert!(heard(&voice).is_empty(), "the new pod hears what was for the old one");
}
