//! Two namespaces and a link: in one the daemon under measurement, in the other all of its peers. Never the host's network.

use crate::Outcome;
use net_linux::netns::NetNs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

/// The daemon's address.
pub(crate) const DAEMON: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Where the daemon and its peers live.
pub(crate) struct Bed {
    pub(crate) daemon: NetNs,
    pub(crate) field: NetNs,
}

/// The address of a peer, all of them local to the field. Peers 0 and 1 are on the daemon's link, as external peers have
/// to be; clients from 2 on are behind a route, so that thousands of them need no neighbour entries.
pub(crate) fn address(peer: usize) -> Ipv4Addr {
    match peer {
        0..2 => Ipv4Addr::new(10, 0, 0, 2 + peer as u8),
        _ => Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + peer as u32),
    }
}

impl Bed {
    pub(crate) fn new() -> Outcome<Self> {
        let (daemon, field) = (NetNs::new()?, NetNs::new()?);
        let other = format!("/proc/{}/fd/{}", std::process::id(), field.as_fd().as_raw_fd());
        settle(
            &daemon,
            &[
                "link set lo up".to_owned(),
                format!("link add eth0 type veth peer name eth0 netns {other}"),
                "link set eth0 up".to_owned(),
                format!("address add {DAEMON}/24 dev eth0"),
            ],
        )?;
        let own = (0..2).map(|peer| format!("address add {}/24 dev eth0", address(peer)));
        let lines = ["link set lo up".to_owned(), "link set eth0 up".to_owned()].into_iter().chain(own);
        settle(&field, &lines.chain(["route add local 10.1.0.0/16 dev lo".to_owned()]).collect::<Vec<_>>())?;
        settle(&daemon, &[format!("route add 10.1.0.0/16 via {}", address(0))])?;
        Ok(Self { daemon, field })
    }
}

/// Runs lines of iproute2 in one process.
fn settle(namespace: &NetNs, lines: &[String]) -> Outcome<()> {
    let mut child = namespace.spawn(Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()))?;
    child.stdin.take().ok_or("stdin is piped")?.write_all(lines.join("\n").as_bytes())?;
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("ip: {status}: {lines:?}").into()) }
}
