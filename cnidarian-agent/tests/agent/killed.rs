//! `kill -9` of an agent with all its parts in eBPF, again and again, while pods come and go beside packets. Never a look into
//! maps: what counts is what passes, and what is left at the end.
//!
//! 20 kills; as many as `CNIDARIAN_KILL_ROUNDS` says in a long run.

use crate::ebpf::{config, pins};
use crate::policy::{Member, SetAtEnd, closed, connect, ear, echoes, flood, heard, opens, put, resync, three};
use crate::policy::{voice, write_pod};
use crate::world::{Answer, Pod, World, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testlab::bed::{Cgroup, Client, answer_a_client, serve_named};

const ROUNDS: usize = 20;
/// Pods that come and go, half of them closed by policy, in two hands.
const GUESTS: u8 = 8;
/// The address of the first one; all of them are shouted at from the first moment on.
const FIRST: u8 = 100;
/// Where open ones hear what nobody shouts.
const ONCE: u16 = 9;
/// Longer than on any busy machine: what is not answered in that time was lost.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_client_that_is_asked() {
    answer_a_client();
}

fn all_in_ebpf(world: &World, cgroup: &Cgroup) -> Value {
    let mut config = config(world, "ebpf", "native", true);
    config["services"] = json!({"engine": "ebpf", "cgroup": cgroup.0});
    config
}

/// A service of one pod, over TCP and UDP.
fn put_service(world: &World, to: &Member) {
    let ports = json!([{"name": "tcp", "port": 80}, {"name": "udp", "port": 53, "protocol": "UDP"}]);
    put(
        world,
        "service",
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "three"},
            "spec": {"clusterIP": "10.96.0.10", "ports": ports}}),
    );
    let ports = json!([{"name": "tcp", "port": 8080}, {"name": "udp", "port": 8080, "protocol": "UDP"}]);
    let metadata = json!({"name": "web", "namespace": "three", "labels": {"kubernetes.io/service-name": "web"}});
    put(
        world,
        "slice",
        &json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": metadata,
            "ports": ports, "endpoints": [{"addresses": [to.address], "nodeName": "node-1"}]}),
    );
}

/// A pod that comes and goes.
struct Guest {
    pod: Pod,
    namespace: &'static str,
    address: IpAddr,
    /// Hears who shouts.
    ear: UdpSocket,
    /// Hears what is sent once.
    once: UdpSocket,
    /// What its ADD answered, while it is there.
    added: Option<Value>,
}

impl Guest {
    fn new(world: &World, number: u8) -> Self {
        let namespace = if number.is_multiple_of(2) { "closed" } else { "open" };
        let pod = Pod::new(&format!("guest-{number}"));
        write_pod(world, namespace, &pod.id);
        let ear = ear(&pod.netns);
        let once = pod.netns.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, ONCE)).unwrap()).unwrap();
        once.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { pod, namespace, address: IpAddr::from([10, 42, 0, FIRST + number]), ear, once, added: None }
    }

    fn add(&self, world: &World) -> Answer {
        let (namespace, name) = (self.namespace, &self.pod.id);
        let args = format!("IgnoreUnknown=1;IP={};K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}", self.address);
        world.cni_with("ADD", &self.pod, &world.conf(), &[("CNI_ARGS", &args)])
    }

    /// What was added is whole, also when the agent died a moment later: nothing comes to a closed pod, and to an open one what
    /// is sent once.
    fn is_whole(&self, from: &Member) {
        if self.namespace == "open" {
            voice(&from.pod.netns).send_to(b"once", (self.address, ONCE)).unwrap();
            let heard = self.once.recv(&mut [0; 8]);
            assert_eq!(heard.ok(), Some(4), "{}: what is allowed was lost", self.pod.id);
        }
        self.is_silent();
    }

    fn is_silent(&self) {
        if self.namespace == "closed" {
            assert_eq!(heard(&self.ear), Vec::<Vec<u8>>::new(), "{}: a packet that is denied", self.pod.id);
        }
    }
}

/// Adds and deletes as a runtime does, until it is told to stop.
fn come_and_go(
    world: &RwLock<&mut World>,
    from: &Member,
    guests: &mut [Guest],
    stop: &AtomicBool,
    added: &AtomicUsize,
) {
    while !stop.load(Ordering::SeqCst) {
        for guest in &mut *guests {
            if guest.added.take().is_some() {
                let gone = world.read().unwrap().cni("DEL", &guest.pod);
                assert!(gone.success, "{}", gone.json);
                continue;
            }
            let answer = guest.add(&world.read().unwrap());
            if answer.success {
                guest.is_whole(from);
                guest.added = Some(answer.json);
                added.fetch_add(1, Ordering::SeqCst);
            } else {
                let undone = world.read().unwrap().cni("DEL", &guest.pod);
                assert!(undone.success, "{}", undone.json);
            }
            guest.is_silent();
        }
    }
}

/// Kills and starts the agent, each time at another moment by the clock of who shouts: every other time while it starts, else after
/// it added some pods.
fn kill_again_and_again(
    world: &RwLock<&mut World>,
    config: &Value,
    rounds: usize,
    [shouted, added]: [&AtomicUsize; 2],
) {
    for round in 0..rounds {
        if round.is_multiple_of(2) {
            let wanted = added.load(Ordering::SeqCst) + 1 + round / 2 % 4;
            until("pods are added", || match added.load(Ordering::SeqCst) {
                now if now >= wanted => Ok(()),
                now => Err(format!("{now} of {wanted}\n{}", world.read().unwrap().log())),
            });
        }
        let moment = shouted.load(Ordering::Relaxed) + round * 7919 % 30_000;
        let end = Instant::now() + PATIENCE;
        while shouted.load(Ordering::Relaxed) < moment && Instant::now() < end {
            std::thread::yield_now();
        }
        // Without waiting for anybody who asks it for something; only the handle is locked, for the new process.
        let pid = Pid::from_raw(i32::try_from(world.read().unwrap().pid()).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let mut world = world.write().unwrap();
        world.kill();
        world.spawn(config);
    }
}

/// Datagrams that are answered, one at a time: whether none was lost, and how many there were.
fn datagrams(from: &Member, to: &Member, stop: &AtomicBool) -> usize {
    let voice = voice(&from.pod.netns);
    voice.connect((to.address, 8080)).unwrap();
    voice.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answered = 0;
    while !stop.load(Ordering::SeqCst) {
        voice.send(b"?").unwrap();
        assert_eq!(voice.recv(&mut [0; 8]).expect("a datagram of an open flow was lost"), 1);
        answered += 1;
    }
    answered
}

/// Connections to a service.
fn asks(client: &mut Client, stop: &AtomicBool) -> usize {
    let mut answered = 0;
    while !stop.load(Ordering::SeqCst) {
        for (how, to) in [("tcp", "10.96.0.10:80"), ("udp", "10.96.0.10:53")] {
            let said = client.ask(how, to);
            assert_eq!(said.as_ref().map(|(server, _)| server.as_str()), Ok("b"), "{how} to the service: {said:?}");
            answered += 1;
        }
    }
    answered
}

/// What is pinned, and the node's interfaces; of generations of policy only how many.
fn left(world: &World) -> Vec<String> {
    fn below(folder: &Path, all: &mut Vec<String>) {
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let words = file.path().display().to_string();
            let words = words.split('/').map(|word| if word.parse::<u32>().is_ok() { "N" } else { word });
            all.push(words.collect::<Vec<_>>().join("/"));
            below(&file.path(), all);
        }
    }
    let mut all = Vec::new();
    below(&pins(world), &mut all);
    let names = || {
        nix::net::if_::if_nameindex()
            .unwrap()
            .iter()
            .map(|one| format!("interface {}", one.name().to_str().unwrap()))
            .collect::<Vec<_>>()
    };
    all.extend(world.netns.run(names).unwrap());
    all.sort();
    all
}

#[test]
fn killed_at_any_moment_with_all_in_ebpf_it_loses_no_packet_lets_none_pass_and_leaves_nothing() {
    let Some(cgroup) = Cgroup::new() else { return };
    let rounds = std::env::var("CNIDARIAN_KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut world = World::new();
    let config = all_in_ebpf(&world, &cgroup);
    world.start_with(&config);
    put(&world, "closed", &closed("closed"));
    let [a, b, c] = three(&world);
    b.pod.netns.run(|| serve_named(b.address, "b")).unwrap();
    put_service(&world, &b);
    resync(&world);
    let mut client = Client::new("killed::a_client_that_is_asked", &cgroup.0, &a.pod.netns);
    until("the service is there", || client.ask("tcp", "10.96.0.10:80").map(drop));
    let before = left(&world);
    let mut open = connect(&a, &b);
    let mut guests: Vec<Guest> = (0..GUESTS).map(|number| Guest::new(&world, number)).collect();
    let shout_at: Vec<IpAddr> = guests.iter().map(|guest| guest.address).chain([b.address]).collect();
    let (stop, shouted, added) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let shared = RwLock::new(&mut world);
    std::thread::scope(|scope| {
        let stopped = SetAtEnd(&stop);
        scope.spawn(|| flood(&c.pod.netns, || shout_at.clone(), &stop, &shouted));
        let flow = scope.spawn(|| datagrams(&a, &b, &stop));
        let served = scope.spawn(|| asks(&mut client, &stop));
        let halves = guests.chunks_mut(usize::from(GUESTS / 2));
        let (world, from, stop, added) = (&shared, &a, &stop, &added);
        let runtimes: Vec<_> =
            halves.map(|guests| scope.spawn(move || come_and_go(world, from, guests, stop, added))).collect();
        kill_again_and_again(&shared, &config, rounds, [&shouted, added]);
        assert!(echoes(&mut open), "an open connection");
        drop(stopped);
        runtimes.into_iter().for_each(|one| one.join().unwrap());
        let (answered, asked) = (flow.join().unwrap(), served.join().unwrap());
        let added = added.load(Ordering::SeqCst);
        println!("{rounds} kills: {added} ADDs, {answered} datagrams, {asked} connections to the service");
        assert!(added >= rounds && answered > rounds && asked > rounds, "they had little to do");
    });
    world.kill();
    world.start_with(&config);
    let expected = guests.iter().filter(|guest| guest.added.is_some()).count() + 3;
    until("exactly what was added is there", || {
        let (leases, veths, routes) = (world.leases(), world.veths(), world.routes());
        match [leases.len(), veths.len(), routes.len()] == [expected; 3] {
            true => Ok(()),
            false => Err(format!("{expected} expected: {leases:?} {veths:?} {routes:?}\n{}", world.log())),
        }
    });
    let plan: Value = serde_json::from_str(&world.ask(&["plan", "--json"]).1).unwrap();
    assert_eq!(plan["steps"], json!([]), "nothing is left to write");
    assert!(world.ask(&["ipam", "check"]).0);
    for guest in &guests {
        if let Some(added) = &guest.added {
            let checked = world.check(&guest.pod, added);
            assert!(checked.success, "{}: {}", guest.pod.id, checked.json);
            guest.is_whole(&a);
        }
        world.cni("DEL", &guest.pod).ok();
        guest.is_silent();
    }
    let words = heard(&b.ear);
    assert!(!words.iter().any(|word| word == b"race"), "denied packets came through");
    opens(&a.pod.netns, &b);
    // A detached interface goes a moment after DEL has answered.
    until("pins and interfaces are those of before", || {
        let now = left(&world);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
    for member in [&a, &b, &c] {
        world.cni("DEL", &member.pod).ok();
    }
    world.assert_empty();
    world.kill();
    world.policy = "none".to_owned();
    world.start();
    assert!(!pins(&world).exists(), "nothing of eBPF is left without it");
}
