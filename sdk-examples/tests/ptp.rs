//! The example `ptp` attaches a container as the reference does: same shape of answer, traffic flows, DEL leaves nothing.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use net_linux::link::{Link, LinkChange, LinkFilter, LinkId};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::io::Write;
use std::net::UdpSocket;
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
    let mut masquerading = conf;
    masquerading["ipMasq"] = json!(true);
    let refused = Call { host: &host, bin: dir.path(), conf: masquerading };
    assert_eq!(refused.run("ADD", "a", &a).1["code"], 2);
}
