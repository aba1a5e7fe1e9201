//! Two namespaces with a cable between them, and in each a transport with a core that does what the test says. Never a check.

use bgp_speaker::speaker::{Addresses, ConnId, ConnectFailure, Input, Output, Target};
use bgp_speaker::transport::{Core, Handle, Host, Limits, Setup, SetupError, Transport, Trouble};
use bgp_speaker::types::PeerId;
use net_linux::addr::Address;
use net_linux::link::{Link, LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longer than anything here takes, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The device in each namespace.
pub(crate) const DEVICE: &str = "eth0";
/// What the transports listen on; no test needs the privileged port.
pub(crate) const PORT: u16 = 1790;

/// What a core or a host was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Connected { conn: ConnId, local: SocketAddr, remote: SocketAddr, interface: Option<Arc<str>> },
    Accepted { conn: ConnId, local: SocketAddr, remote: SocketAddr, interface: Option<Arc<str>> },
    Failed { conn: ConnId, why: ConnectFailure },
    Received { conn: ConnId, bytes: Vec<u8> },
    Closed { conn: ConnId, why: ConnectFailure },
    Sent { conn: ConnId, bytes: usize },
    Bfd { peer: PeerId, up: bool, independent: bool, at: Instant },
    Neighbour { interface: Arc<str>, address: Option<Ipv6Addr> },
    Addresses(Addresses),
    Trouble(String),
}

pub(crate) struct Stand(Sender<Event>);

impl Core for Stand {
    fn handle(&mut self, now: Instant, input: Input<'_>, _out: &mut Vec<Output>) {
        let event = match input {
            Input::Connected { conn, local, remote, interface } => Event::Connected { conn, local, remote, interface },
            Input::Accepted { conn, local, remote, interface } => Event::Accepted { conn, local, remote, interface },
            Input::Failed { conn, why } => Event::Failed { conn, why },
            Input::Received { conn, bytes } => Event::Received { conn, bytes: bytes.to_vec() },
            Input::Closed { conn, why } => Event::Closed { conn, why },
            Input::Sent { conn, bytes } => Event::Sent { conn, bytes },
            Input::Bfd { peer, up, independent } => Event::Bfd { peer, up, independent, at: now },
            Input::Neighbour { interface, address } => Event::Neighbour { interface, address },
            Input::Addresses(addresses) => Event::Addresses(addresses),
            Input::Resolved { .. } | Input::Tick => return,
        };
        let _ = self.0.send(event);
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

struct Log(Sender<Event>);

impl Host for Log {
    fn output(&mut self, output: Output) {
        panic!("nobody asked for {output:?}");
    }

    fn trouble(&mut self, trouble: Trouble) {
        let _ = self.0.send(Event::Trouble(trouble.to_string()));
    }
}

/// One end of the cable.
pub(crate) struct Node {
    pub(crate) namespace: NetNs,
    handle: Option<Handle<Stand>>,
    events: Receiver<Event>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(crate) fn start(namespace: &NetNs, limits: Limits) -> Self {
        let (sender, events) = channel();
        let (ready, handle) = channel();
        let inside = namespace.clone();
        let thread = thread::spawn(move || {
            inside.enter().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (transport, handle) = Transport::new(Stand(sender.clone()), Log(sender), limits).unwrap();
                ready.send(handle).unwrap();
                transport.run().await.unwrap();
            });
        });
        let handle = Some(handle.recv().unwrap());
        Self { namespace: namespace.clone(), handle, events, thread: Some(thread) }
    }

    fn handle(&self) -> &Handle<Stand> {
        self.handle.as_ref().unwrap()
    }

    pub(crate) fn set_up(&self, setup: Setup) -> Result<(), SetupError> {
        block_on(self.handle().set_up(setup))
    }

    /// Lets the core say something.
    pub(crate) fn say(&self, outputs: impl IntoIterator<Item = Output>) {
        let outputs: Vec<_> = outputs.into_iter().collect();
        self.handle().post(move |_, _, out| out.extend(outputs)).unwrap();
    }

    /// Keeps the core busy, without any other turn between.
    pub(crate) fn keep_busy(&self, length: Duration) {
        block_on(self.handle().with(move |_, _, _| thread::sleep(length))).unwrap();
    }

    /// As [`Self::keep_busy`], from its next turn on, without waiting for the end.
    pub(crate) fn be_busy(&self, length: Duration) {
        self.handle().post(move |_, _, _| thread::sleep(length)).unwrap();
    }

    /// Waits for an event that `pick` takes; others are passed over.
    pub(crate) fn wait<T>(&self, what: &str, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut passed = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else { panic!("no {what}; there were {passed:?}") };
            if let Some(found) = pick(&event) {
                return found;
            }
            passed.push(match event {
                Event::Received { conn, bytes } => format!("{} bytes of {conn:?}", bytes.len()),
                event => format!("{event:?}"),
            });
        }
    }

    /// What has come until now, but for addresses: the kernel has them when it has them.
    pub(crate) fn pending(&self) -> Vec<Event> {
        self.events.try_iter().filter(|event| !matches!(event, Event::Addresses(_))).collect()
    }

    pub(crate) fn accepted(&self) -> ConnId {
        self.wait("connection", |event| match event {
            Event::Accepted { conn, .. } => Some(*conn),
            _ => None,
        })
    }

    pub(crate) fn connected(&self, wanted: ConnId) {
        self.wait("connection", |event| match event {
            Event::Connected { conn, .. } if *conn == wanted => Some(()),
            Event::Failed { conn, why } if *conn == wanted => panic!("{why}"),
            _ => None,
        });
    }

    pub(crate) fn failed(&self, wanted: ConnId) -> ConnectFailure {
        self.wait("failure", |event| match event {
            Event::Failed { conn, why } if *conn == wanted => Some(why.clone()),
            Event::Connected { conn, .. } if *conn == wanted => panic!("{conn:?} came about"),
            _ => None,
        })
    }

    pub(crate) fn closed(&self, wanted: ConnId) -> ConnectFailure {
        self.wait("end", |event| match event {
            Event::Closed { conn, why } if *conn == wanted => Some(why.clone()),
            _ => None,
        })
    }

    /// Waits for so many bytes of a connection.
    pub(crate) fn received(&self, wanted: ConnId, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        self.wait("bytes", |event| {
            if let Event::Received { conn, bytes } = event
                && *conn == wanted
            {
                all.extend_from_slice(bytes);
            }
            (all.len() >= count).then_some(())
        });
        all
    }

    /// Ends the transport and waits for it.
    pub(crate) fn stop(&mut self) {
        self.handle = None;
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.handle = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !thread::panicking()
        {
            panic!("a transport panicked");
        }
    }
}

/// A real daemon, ended when the test ends, however.
pub(crate) struct Daemon(pub(crate) Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two namespaces: 10.9.0.1, 2001:db8::1, fe80::1 and the same with 2.
pub(crate) fn cable() -> [NetNs; 2] {
    let ends = [NetNs::new().unwrap(), NetNs::new().unwrap()];
    let peer = VethPeer { name: DEVICE, mac: None, namespace: Some(ends[1].as_fd()) };
    let veth = NewLink::new(DEVICE, NewLinkKind::Veth(peer));
    ends[0].run(|| veth.create(&mut Socket::route().unwrap()).unwrap()).unwrap();
    for (end, namespace) in ends.iter().enumerate() {
        let inside = || {
            let mut socket = Socket::route().unwrap();
            let index = Link::get(&mut socket, &LinkId::Name(DEVICE)).unwrap().unwrap().index;
            let mut batch = Batch::new();
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            up.add(&mut batch, &LinkId::Name("lo"));
            LinkChange { no_ipv6_autoconf: true, ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
            up.add(&mut batch, &LinkId::Index(index));
            for (prefix, length) in [("10.9.0.", 24), ("2001:db8::", 64), ("fe80::", 64)] {
                let address = format!("{prefix}{}/{length}", end + 1).parse().unwrap();
                Address::new(index, address).create(&mut batch);
            }
            socket.run_all(&mut batch).unwrap();
        };
        namespace.run(inside).unwrap();
    }
    wait_for_carrier(&ends);
    ends
}

/// The kernel notices a moment later that both ends are up, and drops packets until then.
fn wait_for_carrier(ends: &[NetNs; 2]) {
    let open = |end: usize| ends[end].run(|| UdpSocket::bind((format!("10.9.0.{}", end + 1), 9)).unwrap()).unwrap();
    let sockets = [open(0), open(1)];
    sockets[1].set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        sockets[0].send_to(&[0], "10.9.0.2:9").unwrap();
        if sockets[1].recv(&mut [0]).is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "the cable carries nothing");
    }
}

/// Takes the device of an end down or up.
pub(crate) fn set_device(namespace: &NetNs, up: bool) {
    let inside = || {
        let mut batch = Batch::new();
        LinkChange { up: Some(up), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(DEVICE));
        Socket::route().unwrap().run_all(&mut batch).unwrap();
    };
    namespace.run(inside).unwrap();
}

pub(crate) fn two_nodes() -> [Node; 2] {
    cable().each_ref().map(|namespace| Node::start(namespace, Limits::default()))
}

/// A plain target: port [`PORT`], the kernel's choice for the rest.
pub(crate) fn target(remote: &str) -> Target {
    let remote = SocketAddr::new(ip(remote), PORT);
    Target { remote, local: None, interface: None, ttl: 64, least_ttl: None, password: None }
}

pub(crate) fn key(text: &str) -> Option<Arc<[u8]>> {
    Some(Arc::from(text.as_bytes()))
}

pub(crate) fn show<T: Debug>(what: &str, value: T) {
    println!("{what}: {value:?}");
}
