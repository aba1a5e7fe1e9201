//! Namespaces and links between us and our peers. Never the host's own network: everything is in fresh namespaces, which
//! go with the test's process.

use net_linux::netns::NetNs;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that has to come about: a session, a route. Generous, for a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// Our namespace and one more for each peer, each with a link of its own to us.
pub(crate) struct Bed {
    pub(crate) ours: NetNs,
    pub(crate) links: Vec<Link>,
}

/// A link: our end is called `peerN`, the peer's end `net0`.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) theirs: NetNs,
    number: u8,
}

impl Link {
    /// The name of our end.
    pub(crate) fn device(&self) -> String {
        format!("peer{}", self.number)
    }

    /// Our addresses: IPv4, IPv6, link-local.
    pub(crate) fn our4(&self) -> IpAddr {
        Ipv4Addr::new(10, 0, self.number, 1).into()
    }

    pub(crate) fn our6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00, self.number.into(), 0, 0, 0, 0, 0, 1).into()
    }

    pub(crate) fn our_link_local(&self) -> IpAddr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, self.number.into(), 0, 1).into()
    }

    /// The peer's addresses: IPv4, IPv6, link-local.
    pub(crate) fn their4(&self) -> IpAddr {
        Ipv4Addr::new(10, 0, self.number, 2).into()
    }

    pub(crate) fn their6(&self) -> IpAddr {
        Ipv6Addr::new(0xfd00, self.number.into(), 0, 0, 0, 0, 0, 2).into()
    }

    pub(crate) fn their_link_local(&self) -> IpAddr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, self.number.into(), 0, 2).into()
    }
}

impl Link {
    /// Lets nothing pass between the peer and some addresses, or again.
    pub(crate) fn hide(&self, addresses: &[IpAddr], hidden: bool) {
        let verb = if hidden { "add" } else { "del" };
        let line = |address: &IpAddr| format!("route {verb} blackhole {address}");
        settle(&self.theirs, &addresses.iter().map(line).collect::<Vec<_>>());
    }

    /// From the other end: for a daemon in our own place.
    pub(crate) fn reversed(&self, ours: &NetNs) -> Self {
        Self { theirs: ours.clone(), ..*self }
    }
}

impl Bed {
    /// With so many peers.
    pub(crate) fn new(peers: u8) -> Self {
        let ours = NetNs::new().expect("root, to make network namespaces");
        settle(&ours, &["link set lo up".to_owned()]);
        let links = (1..=peers).map(|number| link(&ours, number)).collect();
        Self { ours, links }
    }

    /// One link on which nobody has an address but the link-local one.
    pub(crate) fn unnumbered() -> Self {
        let bed = Self::new(1);
        let (link, device) = (bed.link(), bed.link().device());
        let lines = |device: &str, v4, v6| {
            vec![format!("address del {v4}/24 dev {device}"), format!("address del {v6}/64 dev {device}")]
        };
        settle(&bed.ours, &lines(&device, link.our4(), link.our6()));
        settle(&link.theirs, &lines("net0", link.their4(), link.their6()));
        bed
    }

    /// The only link.
    pub(crate) fn link(&self) -> &Link {
        &self.links[0]
    }
}

fn link(ours: &NetNs, number: u8) -> Link {
    let link = Link { theirs: NetNs::new().unwrap(), number };
    let device = link.device();
    // The peer's end is made in our namespace and handed over by the id of a process that is in the other one.
    let mut holder = link.theirs.spawn(Command::new("sleep").arg("60").stdin(Stdio::null())).unwrap();
    settle(ours, &[format!("link add {device} type veth peer name net0 netns {}", holder.id())]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    let up = |device: &str, v4: IpAddr, v6: IpAddr, link_local: IpAddr| {
        vec![
            "link set lo up".to_owned(),
            format!("link set {device} addrgenmode none"),
            format!("link set {device} up"),
            format!("address add {v4}/24 dev {device}"),
            format!("address add {v6}/64 dev {device} nodad"),
            format!("address add {link_local}/64 dev {device} nodad"),
        ]
    };
    settle(ours, &up(&device, link.our4(), link.our6(), link.our_link_local()));
    settle(&link.theirs, &up("net0", link.their4(), link.their6(), link.their_link_local()));
    // The other links, by way of us.
    settle(&link.theirs, &[format!("route add 10.0.0.0/16 via {}", link.our4())]);
    link
}

/// Runs lines of iproute2 in one process.
fn settle(namespace: &NetNs, lines: &[String]) {
    let mut command = Command::new("ip");
    let mut child = namespace.spawn(command.args(["-batch", "-"]).stdin(Stdio::piped())).unwrap();
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines:?}");
}

/// Runs a program in a namespace; what it printed, also when it failed.
pub(crate) fn ask(namespace: &NetNs, program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = namespace.spawn(&mut command).unwrap().wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until a condition holds. After the deadline it panics with what was waited for and what `state` shows.
pub(crate) fn wait_for(what: &str, deadline: Duration, state: impl Fn() -> String, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < deadline, "after {deadline:?} still not: {what}\n{}", state());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A folder that daemons may write in, whoever they run as.
pub(crate) fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::Builder::new().prefix("bgp-interop-").tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}
