//! The engine between two pods, killed at any moment and started again, beside a stream of packets. Never a random policy.

use crate::attached::{CLIENT, Killed, SERVER, pod};
use crate::conformance::config;
use crate::items::{chain, chain_id, endpoint, port, walk};
use crate::place::{block_on, in_own_place};
use backend_ebpf::engine::{self, BPFFS, Config};
use cni_core::backend::{Change, CommitReport};
use cni_core::policy::model::{Action, Direction, Protocol};
use cni_core::policy::program::{PolicyEngine, PolicyItem, PolicyKey};
use net_linux::netns::NetNs;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The process that is to enforce and wait finds this.
const ENFORCER: &str = "CNIDARIAN_EBPF_ENFORCER";
const OPEN: u16 = 80;
const CLOSED: u16 = 81;
const PATIENCE: Duration = Duration::from_secs(20);

/// The client may go anywhere and is reached by nobody; the server is reached at one port.
fn items() -> Vec<PolicyItem> {
    let (web, none) = (chain_id("web", Direction::Ingress), chain_id("none", Direction::Ingress));
    let mut client = endpoint("client", CLIENT.0, &CLIENT.1);
    client.ingress = walk(&[&none]);
    let mut server = endpoint("server", SERVER.0, &SERVER.1);
    server.ingress = walk(&[&web]);
    let rules = vec![(Action::Allow, vec![port(Protocol::UDP, OPEN)])];
    vec![chain(&web, rules), chain(&none, Vec::new()), PolicyItem::Endpoint(client), PolicyItem::Endpoint(server)]
}

fn enforce() -> (Box<dyn PolicyEngine>, CommitReport) {
    enforce_with(&config())
}

fn enforce_with(config: &Config) -> (Box<dyn PolicyEngine>, CommitReport) {
    let mut engine = engine::open(config).unwrap();
    items().into_iter().for_each(|item| engine.stage(Change::Put(item)).unwrap());
    engine.stage(Change::InSync).unwrap();
    let report = block_on(engine.commit());
    (engine, report)
}

/// A process that enforces and then waits to be killed; without being asked to, it does nothing.
#[test]
fn an_enforcer_that_waits() {
    if std::env::var_os(ENFORCER).is_none() {
        return;
    }
    let (_engine, report) = enforce();
    assert!(report.is_complete(), "{report:?}");
    println!("\nin force");
    // Until the end of input, which comes when the parent ends, too.
    let _ = std::io::stdin().read(&mut [0]);
}

fn enforcer() -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["engine::an_enforcer_that_waits", "--exact", "--nocapture"]).env(ENFORCER, "1");
    Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

fn in_force(child: &mut Killed) {
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "in force"), "the enforcer failed");
}

/// Two pods on the calling thread's node.
fn pods() -> [NetNs; 2] {
    let node = NetNs::current().unwrap();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    [pod(&node, CLIENT), pod(&node, SERVER)]
}

fn ear(netns: &NetNs, port: u16) -> UdpSocket {
    let ear = netns.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
    ear.set_nonblocking(true).unwrap();
    ear
}

fn heard(ear: &UdpSocket) -> usize {
    std::iter::from_fn(|| ear.recv(&mut [0; 8]).ok()).count()
}

/// Whether a datagram gets through.
fn reaches(voice: &UdpSocket, ear: &UdpSocket, port: u16, patience: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < patience {
        let _ = voice.send_to(b"x", (SERVER.1[0], port));
        std::thread::sleep(Duration::from_millis(1));
        if heard(ear) > 0 {
            return true;
        }
    }
    false
}

/// How many packets of the stream one enforcer lives longer than the one before it: about 25 ms.
const ROUND_PACKETS: usize = 1500;

#[test]
fn an_engine_that_is_killed_anywhere_and_started_again_loses_no_packet_and_lets_none_pass() {
    in_own_place(|| {
        let [client, server] = pods();
        let (open, closed) = (ear(&server, OPEN), ear(&server, CLOSED));
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        assert!(reaches(&voice, &closed, CLOSED, PATIENCE), "before anything is enforced");
        in_force(&mut enforcer());
        let (stop, told, mut counts) = (AtomicBool::new(false), AtomicUsize::new(0), [0; 3]);
        heard(&closed);
        heard(&open);
        std::thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let [mut sent, mut passed, mut leaked] = [0; 3];
                while !stop.load(Ordering::Acquire) {
                    sent += usize::from(voice.send_to(b"x", (SERVER.1[0], OPEN)).is_ok());
                    told.store(sent, Ordering::Release);
                    let _ = voice.send_to(b"x", (SERVER.1[0], CLOSED));
                    // In one kernel a datagram is there when it was sent, so nothing waits in a buffer.
                    passed += heard(&open);
                    leaked += heard(&closed);
                }
                [sent, passed, leaked]
            });
            for round in 0..12 {
                let child = enforcer();
                // Anywhere between its first instruction and after its commit: so many packets later.
                let end = told.load(Ordering::Acquire) + round * ROUND_PACKETS;
                let deadline = Instant::now() + PATIENCE;
                while told.load(Ordering::Acquire) < end {
                    assert!(Instant::now() < deadline, "the stream stands still");
                    std::thread::yield_now();
                }
                drop(child);
            }
            in_force(&mut enforcer());
            stop.store(true, Ordering::Release);
            counts = stream.join().unwrap();
        });
        let [sent, passed, leaked] = counts;
        println!("{sent} packets of a connection that is allowed, {passed} came; {leaked} came that are denied");
        assert!(sent > 1000, "{sent}");
        assert_eq!((passed + heard(&open), leaked + heard(&closed)), (sent, 0));
        engine::clear().unwrap();
        assert!(reaches(&voice, &closed, CLOSED, PATIENCE), "nothing is enforced any more");
        assert!(!std::fs::exists(format!("{BPFFS}/cnidarian")).unwrap(), "no pin is left");
    });
}

#[test]
fn a_policy_without_room_leaves_the_one_before_it_in_force_until_there_is_less() {
    in_own_place(|| {
        let [client, server] = pods();
        let (open, closed) = (ear(&server, OPEN), ear(&server, CLOSED));
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let mut small = config();
        small.maps.classes = 64;
        let (mut engine, report) = enforce_with(&small);
        assert!(report.is_complete(), "{report:?}");
        // Ports that are not neighbours: more prefixes than there is room for.
        let web = chain_id("web", Direction::Ingress);
        let ports = (0..100).map(|number| (Action::Allow, vec![port(Protocol::TCP, 2 * number + 1)])).collect();
        engine.stage(Change::Put(chain(&web, ports))).unwrap();
        for _ in 0..2 {
            let report = block_on(engine.commit());
            let error = report.problem_of(&PolicyKey::Chain(web.clone())).unwrap();
            assert!(error.to_string().contains("TRAFFIC is full"), "{error}");
            assert!(report.should_retry());
            assert!(reaches(&voice, &open, OPEN, PATIENCE), "what was in force stays so");
            assert!(!reaches(&voice, &closed, CLOSED, Duration::from_millis(300)));
        }
        let less = vec![(Action::Allow, vec![port(Protocol::UDP, CLOSED)])];
        engine.stage(Change::Put(chain(&web, less))).unwrap();
        let report = block_on(engine.commit());
        assert!(report.is_complete(), "{report:?}");
        assert!(reaches(&voice, &closed, CLOSED, PATIENCE));
        heard(&open);
        assert!(!reaches(&voice, &open, OPEN, Duration::from_millis(300)));
        engine::clear().unwrap();
    });
}

#[test]
fn engines_of_two_namespaces_do_not_know_of_each_other() {
    in_own_place(|| {
        let [client, server] = pods();
        let closed = ear(&server, CLOSED);
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let (_engine, report) = enforce();
        assert!(report.is_complete(), "{report:?}");
        let elsewhere = NetNs::new().unwrap();
        elsewhere
            .run(|| {
                let mut other = engine::open(&config()).unwrap();
                other.stage(Change::InSync).unwrap();
                assert!(block_on(other.commit()).is_complete());
                engine::clear().unwrap();
            })
            .unwrap();
        assert!(!reaches(&voice, &closed, CLOSED, Duration::from_millis(300)), "the other one's end is not ours");
        assert_ne!(engine::observe().unwrap().len(), 0);
        engine::clear().unwrap();
        assert_eq!(engine::observe().unwrap().len(), 0);
    });
}
