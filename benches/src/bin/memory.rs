//! What an agent holds in memory: empty, with 110 pods, with 5,000 peers. Never asserts: it prints a table.
//!
//! ```text
//! cargo build --release -p cnidarian-agent
//! cargo build --profile shim -p cnidarian-cni --target x86_64-unknown-linux-musl
//! cargo run --release -p benches --bin memory        # as root
//! ```
#![forbid(unsafe_code)]

use benches::programs;
use benches::stats::Table;
use cni_core::ipam::pools::block_key;
use cni_core::model::{EndpointId, NodeName};
use cni_core::runtime::Attachment;
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use testlab::lab::{Lab, Node};
use testlab::registry::Registry;
use testlab::scenario::{Overrides, Scenario};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const PODS: usize = 110;
const PEERS: u32 = 5_000;
/// After this long an agent has read the kernel again, which it does every 60 s, and has given back what that and a
/// burst left free, which it does every 10 s.
const SETTLED: Duration = Duration::from_secs(80);

fn main() -> Result<(), AnyError> {
    let programs = programs::release();
    let one = Overrides { backend: None, nodes: Some(1), pods: Some(0) };
    let scenario = Scenario::standard().with(&one)?;
    let lab = Lab::start(scenario, &programs, &Registry::open()?, false, &AtomicBool::new(false))?;
    let node = &lab.nodes[0];
    let mut table = Table::new(&["", "RSS MB", "of it anonymous MB", "most so far MB", "processor s", "after s"]);
    measure(&mut table, "agent, empty", node, Duration::ZERO)?;
    let start = Instant::now();
    let pods = (0..PODS).map(|number| attach(node, number)).collect::<Result<Vec<_>, _>>()?;
    measure(&mut table, "110 pods", node, start.elapsed())?;
    let manifests = node.socket.ancestors().nth(2).ok_or("the lab has a directory")?.join("manifests");
    let start = Instant::now();
    for number in 0..PEERS {
        write_peer(&manifests, number)?;
    }
    eprintln!("wrote {PEERS} nodes and {} blocks in {} ms", PEERS * 2, start.elapsed().as_millis());
    let deadline = Instant::now() + Duration::from_secs(60);
    while routes(node)? < 2 * PEERS as usize {
        if Instant::now() > deadline {
            return Err(format!("only {} routes after a minute\n{}", routes(node)?, node.log_tail()).into());
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    measure(&mut table, "110 pods, 5,000 peers with 10,000 blocks, at once", node, start.elapsed())?;
    std::thread::sleep(SETTLED);
    measure(&mut table, "the same, settled", node, start.elapsed())?;
    println!("{table}");
    drop(pods);
    Ok(())
}

fn attach(node: &Node, number: usize) -> Result<NetNs, AnyError> {
    let pod = NetNs::new()?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), pod.as_fd().as_raw_fd());
    node.add(&Attachment::new(EndpointId::of(&format!("pod{number}"), "eth0")?, path))?;
    Ok(pod)
}

fn write_peer(manifests: &Path, number: u32) -> Result<(), AnyError> {
    let name = format!("peer-{number}");
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(172, 20, 0, 1)) + number);
    let mac = backend_vxlan::vtep::mac_of(&NodeName::new(&name)?).to_string();
    let attributes = json!({"tunnel-port": "8472", "vtep-mac": mac, "vtep-vni": "1"}).to_string();
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {
            "cnidarian.io/backend": "vxlan",
            "cnidarian.io/v4-address": v4,
            "cnidarian.io/attributes": attributes,
        }},
    });
    write(manifests, &format!("node-{name}"), &node)?;
    let v4_block = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number * 64);
    let v6_block = Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd10, 0, 0, 0, 0, 0, 0, 0)) + u128::from(number) * 64);
    for (pool, cidr) in [("far-v4", format!("{v4_block}/26")), ("far-v6", format!("{v6_block}/122"))] {
        let key = block_key(cidr.parse()?);
        let block = json!({
            "apiVersion": "cnidarian.io/v1",
            "kind": "IPBlock",
            "metadata": {"name": key.name.to_string()},
            "spec": {"cidr": cidr, "owner": name, "pool": pool, "claims": []},
        });
        write(manifests, &format!("block-{pool}-{number}"), &block)?;
    }
    Ok(())
}

fn write(manifests: &Path, name: &str, object: &Value) -> Result<(), AnyError> {
    let fresh = manifests.join(format!(".{name}.new"));
    fs::write(&fresh, object.to_string())?;
    Ok(fs::rename(&fresh, manifests.join(format!("{name}.json")))?)
}

/// Routes of ours on the node.
fn routes(node: &Node) -> Result<usize, AnyError> {
    use net_linux::netlink::Socket;
    use net_linux::route::{Route, RouteFilter};
    Ok(node.namespace.run(|| Route::dump(&mut Socket::route()?, &RouteFilter::ours()).map(|routes| routes.len()))??)
}

fn measure(table: &mut Table, what: &str, node: &Node, after: Duration) -> Result<(), AnyError> {
    let pid = node.agent_pid().ok_or("the agent runs")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = |field: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or_default()
    };
    let processor = Command::new("ps").args(["-o", "cputimes=", "-p", &pid.to_string()]).output()?;
    table.row(&[
        what.to_owned(),
        format!("{:.1}", kilobytes("VmRSS:") / 1024.0),
        format!("{:.1}", kilobytes("RssAnon:") / 1024.0),
        format!("{:.1}", kilobytes("VmHWM:") / 1024.0),
        String::from_utf8_lossy(&processor.stdout).trim().to_owned(),
        format!("{:.1}", after.as_secs_f64()),
    ]);
    Ok(())
}
