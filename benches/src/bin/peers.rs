//! Programming 5,000 peers of the `vxlan` backend into the kernel: objects per second, a resync that finds nothing, one
//! change among all, and taking everything away again. Each peer has one IPv4 and one IPv6 prefix.
//!
//! `cargo run --release -p benches --bin peers [PEERS]`. Needs root; works in a network namespace of its own.

use backend_vxlan::Vxlan;
use benches::stats::{Table, millis};
use cni_core::backend::{Backend, Change, CommitReport, NetworkChange, OpenRequest, Parts};
use cni_core::model::{InterfaceName, NetworkItem, NetworkKey, NodeContext, NodeName, Peer, PeerPrefix, Underlay};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let count = std::env::args().nth(1).map_or(Ok(5_000), |count| count.parse::<u16>())?;
    let mut table = Table::new(&["mode, step", "objects written", "ms", "objects/s"]);
    for mode in ["vxlan", "host-gw", "udp"] {
        for (step, written, took) in NetNs::new()?.run(|| measure(&json!({ "mode": mode }), count))?? {
            let rate = if written == 0 { String::new() } else { format!("{:.0}", written as f64 / took.as_secs_f64()) };
            table.row(&[format!("{mode}, {step}"), written.to_string(), millis(took), rate]);
        }
    }
    println!("{count} peers with a prefix of each family\n{table}");
    Ok(())
}

fn measure(section: &Value, count: u16) -> Outcome<Vec<(&'static str, usize, Duration)>> {
    for line in [
        "link add eth0 type veth peer name far",
        "link set lo up",
        "link set far up",
        "link set eth0 up",
        "address add 192.0.0.1/16 dev eth0",
        "address add 2001:db8::1/64 dev eth0 nodad",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status()?;
        assert!(status.success(), "ip {line}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(steps(section, count))
}

async fn steps(section: &Value, count: u16) -> Outcome<Vec<(&'static str, usize, Duration)>> {
    let directory = tempfile::tempdir()?;
    let node = NodeContext {
        name: NodeName::new("node-0")?,
        underlay: Underlay {
            interface: InterfaceName::new("eth0")?,
            index: 2,
            mtu_bytes: 1500,
            v4: Some("192.0.0.1/16".parse()?),
            v6: Some("2001:db8::1/64".parse()?),
        },
        masquerade: None,
    };
    let request =
        || OpenRequest { node: node.clone(), config: section.clone(), state_dir: directory.path().to_owned() };
    let peers: Vec<Peer> = (1..=count).map(peer).collect::<Outcome<_>>()?;
    let mut parts = Vxlan.open(request()).await?;
    let mut rows = Vec::new();

    // The device first, so that the peers are measured alone.
    commit(&mut parts, vec![Change::InSync]).await?;
    let all = || peers.iter().cloned().map(|peer| Change::Put(NetworkItem::Peer(peer))).collect::<Vec<_>>();
    let (written, took) = commit(&mut parts, all()).await?;
    rows.push(("stage and program all", written, took));

    let start = Instant::now();
    let drift = parts.datapath.resync().await?;
    assert!(drift.is_none(), "a resync of an unchanged kernel found {drift:?}");
    rows.push(("resync, nothing changed", drift.repair.written, start.elapsed()));

    let moved = Peer { v4: Some(Ipv4Addr::new(192, 0, 255, 1)), ..peers[0].clone() };
    let (written, took) = commit(&mut parts, vec![Change::Put(NetworkItem::Peer(moved))]).await?;
    rows.push(("one peer moves", written, took));
    commit(&mut parts, vec![Change::Put(NetworkItem::Peer(peers[0].clone()))]).await?;

    drop(parts);
    let mut parts = Vxlan.open(request()).await?;
    let restarted = all().into_iter().chain([Change::InSync]).collect();
    let (written, took) = commit(&mut parts, restarted).await?;
    rows.push(("restart: stage all, read, compare", written, took));

    let gone = peers.iter().map(|peer| Change::Remove(NetworkKey::Peer(peer.node.clone()))).collect();
    let (written, took) = commit(&mut parts, gone).await?;
    rows.push(("remove all", written, took));
    Ok(rows)
}

async fn commit(parts: &mut Parts, changes: Vec<NetworkChange>) -> Outcome<(usize, Duration)> {
    let start = Instant::now();
    for change in changes {
        parts.datapath.stage(change)?;
    }
    let report: CommitReport = parts.datapath.commit().await;
    let took = start.elapsed();
    assert!(report.is_complete(), "{:?} {:?}", report.failed.first(), report.blocked.first());
    Ok((report.written, took))
}

fn peer(number: u16) -> Outcome<Peer> {
    let node = NodeName::new(&format!("node-{number}"))?;
    let [high, low] = number.to_be_bytes();
    let mac = backend_vxlan::vtep::mac_of(&node).to_string();
    let prefix =
        |text: String| -> Outcome<PeerPrefix> { Ok(PeerPrefix { prefix: text.parse()?, encapsulation: None }) };
    Ok(Peer {
        v4: Some(Ipv4Addr::new(192, 0, high.wrapping_add(1), low)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number)),
        prefixes: vec![prefix(format!("10.{high}.{low}.0/24"))?, prefix(format!("fd00:0:0:{number:x}::/64"))?],
        attributes: [(backend_vxlan::vtep::ATTRIBUTE_MAC.into(), mac.into())].into(),
        node,
    })
}
