//! A whole node in a program: no daemon, no Kubernetes, no file outside of a temporary directory.
//!
//! ```text
//! cargo run -p sdk-examples --example embed-node          # as root
//! ```
//! It makes a network namespace to be the host, opens a node in it, attaches two pods and lets them talk. A program that
//! wants its pods on the real host leaves the namespace out.

use cni_core::model::{EndpointId, NodeName};
use cnidarian::config::{NodeConfig, PoolConfig};
use cnidarian::{AttachRequest, Attachment, Node, built_in};
use net_linux::addr::Address;
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The network below the pods: here a veth whose other end nobody listens on.
fn underlay() -> Result<()> {
    let mut socket = Socket::route()?;
    let peer = VethPeer { name: "wire", mac: None, namespace: None };
    let index = NewLink::new("uplink", NewLinkKind::Veth(peer)).create(&mut socket)?;
    let mut batch = Batch::new();
    for name in ["uplink", "wire"] {
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
    }
    Address::new(index, "192.0.2.1/24".parse()?).create(&mut batch);
    Ok(socket.run_all(&mut batch)?)
}

async fn attach(node: &Node, container: &str) -> Result<(NetNs, Attachment)> {
    let pod = NetNs::new()?;
    let attachment = node.attach(AttachRequest::new(EndpointId::of(container, "eth0")?, pod.clone())).await?;
    println!("{container}: {:?} behind {}", attachment.addresses, attachment.host_interface);
    Ok((pod, attachment))
}

async fn embed() -> Result<()> {
    let mut config = NodeConfig::new(NodeName::new("embedded")?);
    config.underlay.interface = Some("uplink".parse()?);
    config.ipam.pools = vec![PoolConfig {
        name: "pods".to_owned(),
        cidr: "10.99.0.0/24".parse()?,
        block_size: None,
        encapsulation: None,
    }];
    let node = Node::open(config, &built_in()).await?;
    let (server, attachment) = attach(&node, "server").await?;
    let (client, _) = attach(&node, "client").await?;
    let address: IpAddr = attachment.addresses[0];
    // Sockets belong to the namespace that they were opened in, wherever they are used.
    let listener = server.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)))??;
    let mut stream = client.run(|| TcpStream::connect((address, 8080)))??;
    stream.write_all(b"hello")?;
    let mut hello = [0; 5];
    listener.accept()?.0.read_exact(&mut hello)?;
    println!("client -> {address}: {}", String::from_utf8_lossy(&hello));
    for container in ["server", "client"] {
        node.detach(&EndpointId::of(container, "eth0")?).await?;
    }
    println!("{} attachments left", node.status().endpoints.len());
    Ok(())
}

fn run() -> Result<()> {
    let host = NetNs::new()?;
    host.run(|| {
        underlay()?;
        // Threads of the runtime begin in the namespace of the thread that starts them.
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(embed())
    })?
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed-node: {error}");
            ExitCode::FAILURE
        }
    }
}

#[test]
fn a_node_in_process_attaches_pods_that_talk() {
    run().unwrap();
}
