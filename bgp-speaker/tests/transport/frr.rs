//! FRR's `zebra` and `bfdd` at the other end. Never its `bgpd`.

use crate::bfd::{PEER, cut_and_measure, watch};
use crate::stage::{DEVICE, Daemon, Event, Node, PATIENCE, cable};
use bgp_speaker::transport::{Limits, Setup};
use net_linux::netns::NetNs;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tempfile::TempDir;

/// The daemons change to a user of their own.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    directory
}

/// Starts a daemon, and waits until it can be asked.
fn start(namespace: &NetNs, directory: &Path, name: &str, config: &str, more: &[&str]) -> Daemon {
    let at = |file: &str| directory.join(file);
    let file = at(&format!("{name}.conf"));
    fs::write(&file, config).unwrap();
    let mut command = Command::new(format!("/usr/lib/frr/{name}"));
    command.args(["-u", "frr", "-g", "frr", "-P", "0", "--vty_socket"]).arg(directory);
    command.arg("-z").arg(at("zserv.api")).arg("-i").arg(at(&format!("{name}.pid"))).arg("-f").arg(file).args(more);
    let daemon = Daemon(namespace.spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).unwrap());
    let deadline = Instant::now() + PATIENCE;
    while !at(&format!("{name}.vty")).exists() || !at("zserv.api").exists() {
        assert!(Instant::now() < deadline, "{name} does not start");
        std::thread::yield_now();
    }
    daemon
}

/// Asks until the answer is as wanted.
fn ask(namespace: &NetNs, directory: &Path, question: &str, wanted: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(directory).args(["-c", question]).stdout(Stdio::piped()).stderr(Stdio::null());
        let output = namespace.spawn(&mut command).unwrap().wait_with_output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        if wanted(&answer) {
            return;
        }
        assert!(Instant::now() < deadline, "{answer}");
    }
}

#[test]
fn bfdd_agrees_and_is_missed_when_the_link_is_cut() {
    let (ends, directory) = (cable(), directory());
    let node = Node::start(&ends[0], Limits::default());
    let _zebra = start(&ends[1], directory.path(), "zebra", "", &[]);
    let config = format!(
        "bfd\n peer 10.9.0.1 local-address 10.9.0.2 interface {DEVICE}\n  detect-multiplier 3\n  \
         receive-interval 100\n  transmit-interval 100\n"
    );
    let control = directory.path().join("bfdd.sock").to_string_lossy().into_owned();
    let _bfdd = start(&ends[1], directory.path(), "bfdd", &config, &["--bfdctl", &control]);
    node.say([watch("10.9.0.2", "10.9.0.1", true)]);
    let independent = node.wait("word of BFD", |event| match event {
        Event::Bfd { up: true, independent, .. } => Some(*independent),
        _ => None,
    });
    // A process of its own, and yet it says so only where `bgpd` asks it to (`bfd check-control-plane-failure`).
    assert!(!independent);
    ask(&ends[1], directory.path(), "show bfd peers brief", |answer| {
        answer.lines().any(|line| line.contains("10.9.0.1") && line.trim_end().ends_with("up"))
    });
    cut_and_measure(&ends[1], &node);
    assert!(!node.pending().iter().any(|event| matches!(event, Event::Bfd { peer, .. } if *peer == PEER)));
}

#[test]
fn zebra_and_we_find_each_other_on_an_unnumbered_link() {
    let (ends, directory) = (cable(), directory());
    let node = Node::start(&ends[0], Limits::default());
    let config = format!("interface {DEVICE}\n no ipv6 nd suppress-ra\n ipv6 nd ra-interval 10\n");
    let _zebra = start(&ends[1], directory.path(), "zebra", &config, &[]);
    node.set_up(Setup { discover: vec![Arc::from(DEVICE)], ..Setup::default() }).unwrap();
    let found = node.wait("neighbour", |event| match event {
        Event::Neighbour { address, .. } => Some(*address),
        Event::Trouble(trouble) => panic!("{trouble}"),
        _ => None,
    });
    assert_eq!(found, Some("fe80::2".parse().unwrap()));
    ask(&ends[1], directory.path(), &format!("show interface {DEVICE}"), |answer| {
        let neighbours = answer.split_once("Neighbor address(s):");
        neighbours.is_some_and(|(_, after)| after.contains("inet6 fe80::1/128"))
    });
}
