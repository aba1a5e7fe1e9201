//! The example `ptp` attaches a container as the reference does: same shape of answer, traffic flows, DEL leaves nothing.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use net_linux::addr::Address;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().with_file_name("examples").join(name)
}

struct Call<'a> {
    host: &'a NetNs,
    bin: &'a Path,
    conf: Value,
}

impl Call<'_> {
    fn run(&self, verb: &str, id: &str, pod: &NetNs) -> (bool, Value) {
        let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.as_fd().as_raw_fd());
        let mut command = Command::new(self.bin.join("ptp"));
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", id).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", netns).env("CNI_PATH", self.bin);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.host.spawn(&mut command).unwrap();
        child.stdin.take().unwrap().write_all(self.conf.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }
}

fn links(netns: &NetNs) -> usize {
    netns.run(|| Link::dump(&mut Socket::route().unwrap(), &LinkFilter::default()).unwrap().len()).unwrap()
}

#[test]
fn a_container_is_attached_as_by_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ptp", "host-local"] {
        std::os::unix::fs::symlink(program(name), dir.path().join(name)).unwrap();
    }
    let (host, a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap(), NetNs::new().unwrap());
    let up = || {
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("lo"));
        Socket::route().unwrap().run_all(&mut batch).unwrap();
    };
    host.run(up).unwrap();
    let ranges = json!([[{"subnet": "10.98.0.0/24"}], [{"subnet": "fd98::/64"}]]);
    let ipam = json!({"type": "host-local", "ranges": ranges, "dataDir": dir.path().join("data"),
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    let conf = json!({"cniVersion": "1.0.0", "name": "ptp", "type": "ptp", "ipam": ipam, "mtu": 1400,
        "dns": {"nameservers": ["192.0.2.53"]}});
    let call = Call { host: &host, bin: dir.path(), conf: conf.clone() };
    let (done, added) = call.run("ADD", "a", &a);
    assert!(done, "{added}");
    assert_eq!(added["interfaces"].as_array().unwrap().len(), 2);
    assert_eq!(added["interfaces"][1]["name"], "eth0");
    assert_eq!(added["ips"][0]["interface"], 1);
    assert_eq!(added["ips"][0]["address"], "10.98.0.2/24");
    assert_eq!(added["ips"][0]["gateway"], "10.98.0.1");
    assert_eq!(added["dns"]["nameservers"][0], "192.0.2.53");
    assert_eq!(call.run("ADD", "other", &a).1["code"], 4, "the interface is there already");
    let bare = json!({"cniVersion": "1.0.0", "name": "ptp", "type": "ptp"});
    let refused = Call { host: &host, bin: dir.path(), conf: bare }.run("ADD", "bare", &b).1;
    assert!(refused["code"] == 7 && refused["msg"].as_str().unwrap().contains("ipam.type"), "{refused}");
    let (done, added) = call.run("ADD", "a2", &b);
    assert!(done, "{added}");
    for (ip, any) in added["ips"].as_array().unwrap().iter().zip(["0.0.0.0:0", "[::]:0"]) {
        let net: ipnet::IpNet = ip["address"].as_str().unwrap().parse().unwrap();
        let target = std::net::SocketAddr::new(net.addr(), 9000);
        let server = b.run(|| UdpSocket::bind((target.ip(), 9000)).unwrap()).unwrap();
        let client = a.run(|| UdpSocket::bind(any).unwrap()).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"hello", target).unwrap();
        let mut bytes = [0; 5];
        server.recv_from(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }
    let mut checked = conf.clone();
    checked["prevResult"] = added;
    let check = Call { host: &host, bin: dir.path(), conf: checked };
    assert!(check.run("CHECK", "a2", &b).0);
    assert!(!check.run("CHECK", "a2", &a).0, "another container has other addresses");
    for (id, pod) in [("a", &a), ("a2", &b), ("a", &a)] {
        let (done, error) = call.run("DEL", id, pod);
        assert!(done, "{error}");
    }
    assert_eq!(links(&host), 1, "only lo");
}

/// The rules of all tables, as `nft` shows them.
fn ruleset(netns: &NetNs) -> String {
    let mut command = Command::new("nft");
    let child = netns.spawn(command.args(["list", "ruleset"]).stdout(Stdio::piped())).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Who sent a datagram, as its receiver sees it.
fn seen_source(from: &NetNs, to: &NetNs, target: IpAddr) -> IpAddr {
    let server = to.run(|| UdpSocket::bind((target, 0)).unwrap()).unwrap();
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let client = from.run(|| UdpSocket::bind((any, 0)).unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let heard = (0..50).find_map(|_| {
        // A veth that has just come up may still drop.
        let _ = client.send_to(b"hello", server.local_addr().unwrap());
        server.recv_from(&mut [0; 8]).ok()
    });
    heard.unwrap_or_else(|| panic!("nothing came to {target}")).1.ip()
}

/// A network beside the host's: `up0` on the host, `eth0` there.
fn outside(host: &NetNs) -> NetNs {
    let outside = NetNs::new().unwrap();
    let end = |name: &str, addresses: [&str; 2]| {
        let mut socket = Socket::route().unwrap();
        let index = Link::get(&mut socket, &LinkId::Name(name)).unwrap().unwrap().index;
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
        for address in addresses {
            Address::new(index, address.parse().unwrap()).create(&mut batch);
        }
        socket.run_all(&mut batch).unwrap();
    };
    host.run(|| {
        let peer = VethPeer { name: "eth0", mac: None, namespace: Some(outside.as_fd()) };
        NewLink::new("up0", NewLinkKind::Veth(peer)).create(&mut Socket::route().unwrap()).unwrap();
        end("up0", ["192.0.2.1/24", "2001:db8::1/64"]);
    })
    .unwrap();
    outside.run(|| end("eth0", ["192.0.2.2/24", "2001:db8::2/64"])).unwrap();
    outside
}

#[test]
fn ip_masq_hides_containers_from_the_outside_alone_and_goes_with_them() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ptp", "host-local"] {
        std::os::unix::fs::symlink(program(name), dir.path().join(name)).unwrap();
    }
    let (host, a, b) = (NetNs::new().unwrap(), NetNs::new().unwrap(), NetNs::new().unwrap());
    let outside = outside(&host);
    let script = "add table ip nat { chain post { type nat hook postrouting priority 100; }; }";
    assert!(host.spawn(Command::new("nft").arg(script)).unwrap().wait().unwrap().success());
    let before = ruleset(&host);
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.97.0.0/24"}], [{"subnet": "fd97::/64"}]],
        "dataDir": dir.path().join("data"), "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]});
    let mut conf = json!({"cniVersion": "1.1.0", "name": "hidden", "type": "ptp", "ipam": ipam, "ipMasq": true});
    let call = Call { host: &host, bin: dir.path(), conf: conf.clone() };
    for (id, pod) in [("a", &a), ("b", &b)] {
        let (done, added) = call.run("ADD", id, pod);
        assert!(done, "{added}");
    }
    for (to, target, seen) in [
        (&outside, "192.0.2.2", "192.0.2.1"),
        (&outside, "2001:db8::2", "2001:db8::1"),
        (&b, "10.97.0.3", "10.97.0.2"),
        (&b, "fd97::3", "fd97::2"),
    ] {
        assert_eq!(seen_source(&a, to, target.parse().unwrap()), seen.parse::<IpAddr>().unwrap(), "to {target}");
    }
    assert_eq!(call.run("ADD", "other", &a).1["code"], 4);
    assert!(call.run("DEL", "other", &b).0);
    for id in ["a", "a"] {
        assert!(call.run("DEL", id, &a).0);
        let rules = ruleset(&host);
        assert!(!rules.contains("10.97.0.2") && rules.contains("10.97.0.3"), "{rules}");
    }
    // "b" ends without DEL; GC takes what is left.
    conf["cni.dev/valid-attachments"] = json!([]);
    let (done, error) = Call { host: &host, bin: dir.path(), conf }.run("GC", "", &b);
    assert!(done, "{error}");
    assert_eq!(ruleset(&host), before, "what others have is as it was, and nothing else is left");
}
