//! Two pods with policy on one node, in namespaces of the test's own; and loaders that are killed and replaced. Never a mount or an
//! interface that others see.

use crate::bed::enforcer;
use crate::place::index;
use crate::pod::{Open, Place, Pod};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::{Hook, Side, Way};
use net_linux::netns::NetNs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The process that is to attach and wait finds here how: `tcx`, `clsact`.
const LOADER: &str = "CNIDARIAN_EBPF_LOADER";

const TCP: u8 = 6;
const OPEN: u16 = 80;
const CLOSED: u16 = 81;
/// How long a connection may take that has to come about: longer than on any busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long to wait for one that must not come about, and how long to try while neighbours are not found yet.
const SOON: Duration = Duration::from_millis(600);

pub(crate) const CLIENT: (&str, [&str; 2]) = ("cni0000000000ca", ["10.9.0.1", "fd00::1"]);
pub(crate) const SERVER: (&str, [&str; 2]) = ("cni0000000000cb", ["10.9.0.2", "fd00::2"]);

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A pod's namespace, its veth's other end on the node.
pub(crate) fn pod(node: &NetNs, (interface, [v4, v6]): (&str, [&str; 2])) -> NetNs {
    let pod = NetNs::new().unwrap();
    pod.run(|| run(&format!("ip link add eth0 address 02:00:00:00:00:01 type veth peer name {interface}"))).unwrap();
    node.run(|| {
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        let target = format!("/proc/{}/fd/{}", std::process::id(), here.as_raw_fd());
        pod.run(|| run(&format!("ip link set {interface} netns {target}"))).unwrap();
        run(&format!("ip link set {interface} address 02:00:00:00:00:fe up"));
        run(&format!("ip address add fe80::1/64 dev {interface} nodad"));
        run(&format!("ip neigh add {v4} dev {interface} lladdr 02:00:00:00:00:01 nud permanent"));
        run(&format!("ip route add {v4}/32 dev {interface}"));
        run(&format!("ip -6 route add {v6}/128 dev {interface}"));
    })
    .unwrap();
    pod.run(|| {
        for line in ["link set lo up", "link set eth0 up"] {
            run(&format!("ip {line}"));
        }
        run(&format!("ip address add {v4}/32 dev eth0"));
        run(&format!("ip address add {v6}/128 dev eth0 nodad"));
        run("ip route add 169.254.1.1 dev eth0 scope link");
        run("ip route add default via 169.254.1.1");
        run("ip neigh add 169.254.1.1 dev eth0 lladdr 02:00:00:00:00:fe nud permanent");
        run("ip -6 route add default via fe80::1 dev eth0");
    })
    .unwrap();
    pod
}

/// What echoes in the server's namespace.
struct Server(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Server {
    fn serve(pod: &NetNs) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let listen = |port| TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).unwrap();
        let listeners = pod.run(|| [OPEN, CLOSED].map(listen)).unwrap();
        listeners.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        let asked = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut streams: Vec<TcpStream> = Vec::new();
            while !asked.load(Ordering::Acquire) {
                for (stream, _) in listeners.iter().filter_map(|listener| listener.accept().ok()) {
                    stream.set_nonblocking(true).unwrap();
                    streams.push(stream);
                }
                streams.retain_mut(|stream| {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(0) => false,
                        Ok(_) => stream.write_all(&byte).is_ok(),
                        Err(error) => error.kind() == ErrorKind::WouldBlock,
                    }
                });
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        if let Some(thread) = self.1.take() {
            let _ = thread.join();
        }
    }
}

fn connect(pod: &NetNs, family: usize, port: u16, limit: Duration) -> Option<TcpStream> {
    let to = SocketAddr::new(SERVER.1[family].parse::<IpAddr>().unwrap(), port);
    let stream = pod.run(|| TcpStream::connect_timeout(&to, limit).ok()).unwrap()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

fn echoes(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

/// Both pods can be reached by nobody, but the server at what is open; the client may go anywhere. Attached to nothing.
pub(crate) fn staged(open: Open) -> Enforcer {
    let mut enforcer = enforcer();
    let closed = Pod { ingress: Some(&[]), egress: None };
    let server = Pod { ingress: Some(&[open]), egress: Some(&[]) };
    for (name, (interface, addresses), pod) in [("client", CLIENT, closed), ("server", SERVER, server)] {
        pod.stage_at(&mut enforcer, &Place { name, interface: (interface, index(interface)), addresses });
    }
    enforcer.commit().unwrap();
    enforcer
}

/// Has its programs take the place of those before them, at both ends of both veths' hosts.
pub(crate) fn put(enforcer: &mut Enforcer, hook: Hook) {
    let mut hooks = hook.open().unwrap();
    for (interface, _) in [CLIENT, SERVER] {
        for way in Way::PODS {
            enforcer.object.attach(&mut hooks, way, index(interface)).unwrap();
        }
    }
}

/// Moves them to where they stay.
pub(crate) fn settle(hook: Hook) {
    let mut hooks = hook.open().unwrap();
    for (interface, _) in [CLIENT, SERVER] {
        Side::BOTH.into_iter().for_each(|side| hooks.settle(index(interface), side).unwrap());
    }
}

fn attach(hook: Hook) -> Enforcer {
    let mut enforcer = staged((TCP, OPEN));
    put(&mut enforcer, hook);
    settle(hook);
    enforcer
}

fn hook(name: &str) -> Hook {
    if name == "clsact" { Hook::Clsact } else { Hook::Tcx }
}

/// A process that attaches and then waits to be killed; without being asked to, it does nothing.
#[test]
fn a_loader_that_waits() {
    let Ok(name) = std::env::var(LOADER) else { return };
    let _enforcer = attach(hook(&name));
    println!("\nattached");
    // Until the end of input, which comes when the parent ends, too.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A child, killed when dropped, so that a failing test leaves none.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn loader(hook: &str) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["attached::a_loader_that_waits", "--exact", "--nocapture"]).env(LOADER, hook);
    let mut child = Killed(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "attached"), "the loader failed");
    child
}

fn policy_holds_whatever_becomes_of_the_loader(name: &str) {
    let node = NetNs::new().unwrap();
    let (client, server) = (pod(&node, CLIENT), pod(&node, SERVER));
    let _server = Server::serve(&server);
    node.run(|| {
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{setting}"), "1").unwrap();
        }
        let reached = |port, limit| [0, 1].map(|family| connect(&client, family, port, limit).is_some());
        // Neighbours of IPv6 are found at the first try.
        assert!((0..30).any(|_| reached(CLOSED, SOON) == [true, true]), "{name}: before anything is attached");
        let enforced = |when: &str| {
            assert_eq!(reached(OPEN, PATIENCE), [true, true], "{name}: {when}");
            assert_eq!(reached(CLOSED, SOON), [false, false], "{name}: {when}");
        };
        let first = loader(name);
        enforced("attached");
        let mut open = [0, 1].map(|family| connect(&client, family, OPEN, PATIENCE).unwrap());
        assert!(open.iter_mut().all(echoes));
        drop(first);
        enforced("after the loader was killed");
        assert!(open.iter_mut().all(echoes), "{name}: an open connection goes on");
        let hook = hook(name);
        let second = attach(hook);
        enforced("replaced by another loader");
        assert!(open.iter_mut().all(echoes), "{name}: an open connection goes on");
        let passed: u64 = second.object.packets(Way::ToPod).unwrap().iter().map(|(_, count)| count).sum();
        assert!(passed > 0, "it is the new program that sees packets");
        drop(second);
        enforced("after the second one ended");
        for _ in 0..2 {
            for (interface, _) in [CLIENT, SERVER] {
                let mut hooks = hook.open().unwrap();
                Way::PODS.into_iter().for_each(|way| hooks.take_off(way, index(interface)).unwrap());
            }
        }
        assert_eq!(reached(CLOSED, PATIENCE), [true, true], "{name}: taken off");
    })
    .unwrap();
}

#[test]
fn policy_at_tcx_holds_whatever_becomes_of_the_loader() {
    if Hook::probe() == Hook::Clsact {
        println!("this kernel has no TCX");
        return;
    }
    policy_holds_whatever_becomes_of_the_loader("tcx");
}

#[test]
fn policy_at_clsact_holds_whatever_becomes_of_the_loader() {
    policy_holds_whatever_becomes_of_the_loader("clsact");
}
