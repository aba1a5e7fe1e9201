//! The engine between two pods, killed at any moment and started again, beside a stream of packets. Never a random policy.

use crate::attached::{CLIENT, Killed, SERVER, pod, put, settle, staged};
use crate::conformance::{config, place};
use crate::each::at_each_hook;
use crate::items::{chain, chain_id, endpoint, port, walk};
use crate::place::{block_on, in_own_place, index, run};
use backend_ebpf::engine::{self, BPFFS, Config, Hook, probe};
use backend_ebpf::kernel::{Program as _, Way};
use cni_core::backend::{Change, CommitReport};
use cni_core::policy::model::{Action, Direction, Protocol};
use cni_core::policy::program::{PolicyEngine, PolicyItem, PolicyKey};
use net_linux::netns::NetNs;
use nix::net::if_::if_nametoindex;
use serde_json::json;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testlab::patience::stretched;

at_each_hook! {
    programs_that_take_turns_at_their_hooks_lose_no_packet_and_let_none_pass,
    a_program_that_somebody_takes_off_is_missed_at_once_and_put_back,
}

/// The process that is to enforce and wait finds here how: `tcx`, `clsact`.
const ENFORCER: &str = "CNIDARIAN_EBPF_ENFORCER";
const UDP: u8 = 17;
const OPEN: u16 = 80;
const CLOSED: u16 = 81;

/// For what has to happen.
fn patience() -> Duration {
    stretched(Duration::from_secs(20))
}

/// The client may go anywhere and is reached by nobody; the server is reached at one port.
pub(crate) fn items() -> Vec<PolicyItem> {
    let (web, none) = (chain_id("web", Direction::Ingress), chain_id("none", Direction::Ingress));
    let mut client = endpoint("client", CLIENT.0, &CLIENT.1);
    client.ingress = walk(&[&none]);
    let mut server = endpoint("server", SERVER.0, &SERVER.1);
    server.ingress = walk(&[&web]);
    let rules = vec![(Action::Allow, vec![port(Protocol::UDP, OPEN)])];
    vec![chain(&web, rules), chain(&none, Vec::new()), PolicyItem::Endpoint(client), PolicyItem::Endpoint(server)]
}

fn enforce() -> (Box<dyn PolicyEngine>, CommitReport) {
    enforce_with(&config(), Hook::probe())
}

fn enforce_with(config: &Config, hook: Hook) -> (Box<dyn PolicyEngine>, CommitReport) {
    let mut engine = engine::open_at(config, probe(), hook).unwrap();
    items().into_iter().for_each(|item| engine.stage(Change::Put(item)).unwrap());
    engine.stage(Change::InSync).unwrap();
    let report = block_on(engine.commit());
    (engine, report)
}

/// A process that enforces and then waits to be killed; without being asked to, it does nothing.
#[test]
fn an_enforcer_that_waits() {
    let Ok(name) = std::env::var(ENFORCER) else { return };
    let (_engine, report) = enforce_with(&config(), if name == "clsact" { Hook::Clsact } else { Hook::Tcx });
    assert!(report.is_complete(), "{report:?}");
    println!("\nin force");
    // Until the end of input, which comes when the parent ends, too.
    let _ = std::io::stdin().read(&mut [0]);
}

fn enforcer(hook: Hook) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["engine::an_enforcer_that_waits", "--exact", "--nocapture"])
        .env(ENFORCER, if hook == Hook::Clsact { "clsact" } else { "tcx" });
    Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

fn in_force(child: &mut Killed) {
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "in force"), "the enforcer failed");
}

/// Two pods on the calling thread's node.
pub(crate) fn pods() -> [NetNs; 2] {
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
    killed_anywhere(Hook::probe());
}

#[test]
fn an_engine_at_clsact_that_is_killed_anywhere_loses_no_packet_and_lets_none_pass() {
    // Without TCX the other test was there.
    if Hook::probe() == Hook::Tcx {
        killed_anywhere(Hook::Clsact);
    }
}

fn killed_anywhere(hook: Hook) {
    beside_a_stream(|told| {
        in_force(&mut enforcer(hook));
        told.begin();
        for round in 0..12 {
            let child = enforcer(hook);
            // Anywhere between its first instruction and after its commit: so many packets later.
            told.wait(round * ROUND_PACKETS);
            drop(child);
        }
        in_force(&mut enforcer(hook));
    });
}

/// How often programs are replaced; `CNIDARIAN_REPLACEMENTS=5000` for long.
fn replacements() -> usize {
    std::env::var("CNIDARIAN_REPLACEMENTS").map_or(40, |text| text.parse().unwrap())
}

#[test]
fn programs_replaced_again_and_again_lose_no_packet_and_let_none_pass() {
    beside_a_stream(|told| {
        let mut engine = Some(enforce().0);
        told.begin();
        for round in 0..replacements() {
            // One in two by a successor, the other by itself, with other sizes.
            let report = if round % 2 == 0 {
                drop(engine.take());
                let (successor, report) = enforce();
                engine = Some(successor);
                report
            } else {
                let engine = engine.as_mut().unwrap();
                let verdicts = 4096 + u32::try_from(round % 7).unwrap();
                engine
                    .stage(Change::Config(
                        json!({ "maps": { "verdicts": verdicts, "connections": 1024, "fragments": 64 } }),
                    ))
                    .unwrap();
                block_on(engine.commit())
            };
            assert!(report.is_complete(), "{round}: {report:?}");
        }
        told.wait(ROUND_PACKETS);
        let left = std::fs::read_dir(place()).unwrap().count();
        assert_eq!(left, 3, "one generation, what is kept, and what programs tell through");
    });
}

/// How many programs take the place of another.
const TURNS: usize = 5000;

fn programs_that_take_turns_at_their_hooks_lose_no_packet_and_let_none_pass(hook: Hook) {
    beside_a_stream(|told| {
        let mut both = [0, 1].map(|_| staged((UDP, OPEN)));
        put(&mut both[0], hook);
        told.begin();
        let of = |hook: Hook| {
            let mut hooks = hook.open().unwrap();
            let ways = Way::PODS.map(|way| hooks.find::<Way>(index(CLIENT.0), way.side()).unwrap());
            ways.map(|found| found.iter().map(|at| (at.program, at.hook)).collect::<Vec<_>>())
        };
        let all_at = |hook| [vec![(Way::FromPod, hook)], vec![(Way::ToPod, hook)]];
        assert_eq!(of(hook), all_at(Hook::Clsact), "the kernel waits for nobody there");
        settle(hook);
        assert_eq!(of(hook), all_at(hook), "moved while packets pass");
        told.wait(ROUND_PACKETS);
        // Four programs each time.
        for round in 0..TURNS.div_ceil(4) {
            put(&mut both[(round + 1) % 2], hook);
        }
        told.wait(ROUND_PACKETS);
        let seen =
            both.map(|enforcer| enforcer.object.packets(Way::ToPod).unwrap().iter().map(|(_, count)| count).sum());
        assert!(seen.iter().all(|count: &u64| *count > 0), "{seen:?}");
    });
}

/// What a stream has sent.
struct Told<'a> {
    sent: &'a AtomicUsize,
    counts: &'a AtomicBool,
}

impl Told<'_> {
    /// From here on each packet counts.
    fn begin(&self) {
        self.counts.store(true, Ordering::Release);
        self.wait(ROUND_PACKETS);
    }

    /// Waits until so many more were sent.
    fn wait(&self, packets: usize) {
        let end = self.sent.load(Ordering::Acquire) + packets;
        let deadline = Instant::now() + patience();
        while self.sent.load(Ordering::Acquire) < end {
            assert!(Instant::now() < deadline, "the stream stands still");
            // Not at the cost of the stream, where there is one processor.
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Sets it when it goes, also when the test fails.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Does `work` beside a stream of packets, of which one in two is denied: the others come all, and of those none.
fn beside_a_stream(work: impl FnOnce(&Told<'_>) + Send) {
    in_own_place(|| {
        let [client, server] = pods();
        let (open, closed) = (ear(&server, OPEN), ear(&server, CLOSED));
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        assert!(reaches(&voice, &closed, CLOSED, patience()), "before anything is enforced");
        let (stop, begun, told) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        let [sent, passed, leaked] = std::thread::scope(|scope| {
            let stream = scope.spawn(|| {
                let [mut sent, mut passed, mut leaked] = [0; 3];
                while !stop.load(Ordering::Acquire) {
                    if !begun.load(Ordering::Acquire) {
                        heard(&open);
                        heard(&closed);
                        std::thread::yield_now();
                        continue;
                    }
                    sent += usize::from(voice.send_to(b"x", (SERVER.1[0], OPEN)).is_ok());
                    told.store(sent, Ordering::Release);
                    let _ = voice.send_to(b"x", (SERVER.1[0], CLOSED));
                    // In one kernel a datagram is there when it was sent, so nothing waits in a buffer.
                    passed += heard(&open);
                    leaked += heard(&closed);
                }
                [sent, passed, leaked]
            });
            let stopped = SetAtEnd(&stop);
            work(&Told { sent: &told, counts: &begun });
            drop(stopped);
            stream.join().unwrap()
        });
        println!("{sent} packets of a connection that is allowed, {passed} came; {leaked} came that are denied");
        assert!(sent > 1000, "{sent}");
        assert_eq!((passed + heard(&open), leaked + heard(&closed)), (sent, 0));
        engine::clear().unwrap();
        assert!(reaches(&voice, &closed, CLOSED, patience()), "nothing is enforced any more");
        assert!(!std::fs::exists(format!("{BPFFS}/cnidarian")).unwrap(), "no pin is left");
    });
}

fn a_program_that_somebody_takes_off_is_missed_at_once_and_put_back(hook: Hook) {
    in_own_place(|| {
        let [client, server] = pods();
        let closed = ear(&server, CLOSED);
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut parts = engine::open_parts_at(&config(), hook).unwrap();
            let (engine, watch) = (&mut parts.engine, parts.drift.as_mut().unwrap());
            items().into_iter().for_each(|item| engine.stage(Change::Put(item)).unwrap());
            engine.stage(Change::InSync).unwrap();
            assert!(engine.commit().await.is_complete());
            for way in Way::PODS {
                assert!(!reaches(&voice, &closed, CLOSED, Duration::from_millis(300)));
                hook.open().unwrap().take_off(way, index(SERVER.0)).unwrap();
                tokio::time::timeout(patience(), watch.changed()).await.expect("nobody missed it").unwrap();
                let drift = engine.resync().await.unwrap();
                assert_eq!(drift.changed, [format!("policy at {}", SERVER.0)]);
                assert!(drift.repair.is_complete());
                assert!(hook.open().unwrap().has_ours(way, index(SERVER.0)).unwrap());
            }
            heard(&closed);
            assert!(!reaches(&voice, &closed, CLOSED, Duration::from_millis(300)));
            // Addresses of the namespace may still be told of.
            let settled = async {
                while tokio::time::timeout(Duration::from_millis(1500), watch.changed()).await.is_ok() {
                    assert!(engine.resync().await.unwrap().changed.is_empty(), "nothing is missing");
                }
            };
            tokio::time::timeout(patience(), settled).await.expect("something seems to be missing");
            let is_moved = || {
                let mut hooks = hook.open().unwrap();
                let mut all = Way::PODS.into_iter().map(|way| hooks.find::<Way>(index(SERVER.0), way.side()).unwrap());
                all.all(|found| found.len() == 1 && found[0].hook == hook)
            };
            let moved = async {
                while !is_moved() {
                    let _ = tokio::time::timeout(Duration::from_millis(200), watch.changed()).await;
                }
            };
            tokio::time::timeout(patience(), moved).await.expect("nobody moved them from clsact");
        });
        engine::clear().unwrap();
    });
}

#[test]
fn what_a_predecessor_let_pass_while_it_was_replaced_ends_also_where_something_else_fails() {
    in_own_place(|| {
        let [client, server] = pods();
        let open = ear(&server, OPEN);
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        assert!(enforce().1.is_complete());
        assert!(reaches(&voice, &open, OPEN, patience()));
        let stop = AtomicBool::new(false);
        let failed = std::thread::scope(|scope| {
            let stopped = SetAtEnd(&stop);
            scope.spawn(|| {
                while !stop.load(Ordering::Acquire) {
                    let _ = voice.send_to(b"x", (SERVER.1[0], OPEN));
                }
            });
            let mut engine = engine::open_at(&config(), probe(), Hook::probe()).unwrap();
            let closed = chain(&chain_id("web", Direction::Ingress), Vec::new());
            let nowhere = endpoint("nowhere", "cni0000000000cc", &["10.9.0.3", "fd00::3"]);
            let more = [closed, PolicyItem::Endpoint(nowhere)];
            items().into_iter().chain(more).for_each(|item| engine.stage(Change::Put(item)).unwrap());
            engine.stage(Change::InSync).unwrap();
            let report = block_on(engine.commit());
            drop(stopped);
            report.failed
        });
        assert_eq!(failed.len(), 1, "{failed:?}");
        heard(&open);
        assert!(!reaches(&voice, &open, OPEN, Duration::from_millis(300)));
        engine::clear().unwrap();
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
        let (mut engine, report) = enforce_with(&small, Hook::probe());
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
            assert!(reaches(&voice, &open, OPEN, patience()), "what was in force stays so");
            assert!(!reaches(&voice, &closed, CLOSED, Duration::from_millis(300)));
        }
        let less = vec![(Action::Allow, vec![port(Protocol::UDP, CLOSED)])];
        engine.stage(Change::Put(chain(&web, less))).unwrap();
        let report = block_on(engine.commit());
        assert!(report.is_complete(), "{report:?}");
        assert!(reaches(&voice, &closed, CLOSED, patience()));
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

#[test]
fn interfaces_that_go_while_all_is_taken_off_are_no_failure() {
    in_own_place(|| {
        let place = NetNs::current().unwrap();
        let ends = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let come_and_go = || {
                    for round in 0..60 {
                        let name = format!("cni{round:012x}");
                        run(&format!("ip link add {name} type veth peer name there"));
                        run(&format!("ip link delete {name}"));
                    }
                };
                let done = place.run(come_and_go);
                ends.store(true, Ordering::Relaxed);
                done.unwrap();
            });
            let mut hooks: Vec<_> = Hook::every().into_iter().map(|hook| hook.open().unwrap()).collect();
            while !ends.load(Ordering::Relaxed) {
                for way in Way::EVERY {
                    for hooks in &mut hooks {
                        let indices = (0..60).filter_map(|round| if_nametoindex(&*format!("cni{round:012x}")).ok());
                        indices.for_each(|index| hooks.take_off(way, index).unwrap());
                    }
                }
                engine::clear().unwrap();
            }
        });
    });
}
