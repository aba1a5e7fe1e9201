//! A BGP speaker in a program: it peers with a router, announces a prefix and prints what it learns.
//!
//! ```text
//! cargo run -p sdk-examples --example embed-bgp -- 64512 192.0.2.1 64513 192.0.2.254 10.0.0.0/24
//! #                                                own system, id; the peer's system, address; what to announce
//! ```
//! The speaker itself has no socket and no clock: the transport gives it both. Whoever writes routes to a kernel does it where
//! this program prints them, and answers `Track` with the kernel's way to the next hop. Here each next hop counts as on link.

use bgp_speaker::config::{Config, PeerAddress, PeerConfig, RemoteAsn};
use bgp_speaker::speaker::{Beginning, Input, Origination, Output, Resolution, Speaker, Via};
use bgp_speaker::transport::{Handle, Host, Limits, Setup, Transport, Trouble};
use bgp_speaker::types::{Asn, RouterId};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Takes what is not about sockets. Called on the transport's task, so it only passes on.
struct Printer(UnboundedSender<Output>);

impl Host for Printer {
    fn output(&mut self, output: Output) {
        // The other end lives as long as the program wants to know.
        let _ = self.0.send(output);
    }

    fn trouble(&mut self, trouble: Trouble) {
        eprintln!("{trouble}");
    }
}

/// A speaker with sockets, the way to it, the sockets it asks for, and what it has to tell.
type Embedded = (Transport<Speaker, Printer>, Handle<Speaker>, Setup, UnboundedReceiver<Output>);

/// A speaker with one peer, that listens where `listen` says.
fn speaker(own: (u32, RouterId), peer: (u32, SocketAddr), listen: SocketAddr) -> Result<Embedded> {
    let asn = |number| Asn::new(number).ok_or("a system's number is not 0");
    let mut config = Config::new(asn(own.0)?, own.1);
    config.listen = vec![listen];
    let address = PeerAddress::Ip(peer.1.ip());
    let mut router = PeerConfig { port: peer.1.port(), ..PeerConfig::new(address, RemoteAsn::Exactly(asn(peer.0)?)) };
    router.local = Some(listen.ip());
    config.peers.insert("router".into(), router);
    let setup = Setup::of(&config);
    let speaker = Speaker::new(Instant::now(), config, &Beginning::Fresh, u64::from(std::process::id()))?;
    let (outputs, told) = unbounded_channel();
    let (transport, handle) = Transport::new(speaker, Printer(outputs), Limits::default())?;
    Ok((transport, handle, setup, told))
}

/// Answers what the speaker asks of the kernel, and shows the rest, until `enough` says so.
async fn host(
    handle: &Handle<Speaker>,
    told: &mut UnboundedReceiver<Output>,
    enough: impl Fn(&Output) -> bool,
) -> Result<()> {
    while let Some(output) = told.recv().await {
        match &output {
            Output::Track { address } => {
                let (address, via) = (*address, Via { interface: "eth0".into(), gateway: None });
                let ways = vec![Resolution { metric: 0, via }];
                handle.post(move |core, now, out| core.handle(now, Input::Resolved { address, ways }, out))?;
            }
            Output::Route { prefix, hops } if hops.is_empty() => println!("{prefix} is gone"),
            Output::Route { prefix, hops } => {
                println!("{prefix} via {:?}", hops.iter().map(|hop| hop.address).collect::<Vec<_>>())
            }
            Output::Peer { name, event, .. } => println!("{name}: {event:?}"),
            _ => {}
        }
        if enough(&output) {
            break;
        }
    }
    Ok(())
}

async fn run(arguments: &[String]) -> Result<()> {
    let [own, id, peer, address, prefix] = arguments else {
        return Err("five arguments: ASN ID PEER-ASN PEER-ADDRESS PREFIX".into());
    };
    let id = RouterId::new(id.parse()?).ok_or("a BGP identifier is not 0.0.0.0")?;
    let listen = SocketAddr::new(IpAddr::V4(id.get()), bgp_speaker::config::BGP_PORT);
    let peer = (peer.parse()?, SocketAddr::new(address.parse()?, bgp_speaker::config::BGP_PORT));
    let (transport, handle, setup, mut told) = speaker((own.parse()?, id), peer, listen)?;
    let running = tokio::spawn(transport.run());
    handle.set_up(setup).await?;
    let prefix = prefix.parse()?;
    handle.with(move |core, now, _| core.announce(now, prefix, &Origination::default())).await?;
    host(&handle, &mut told, |_| false).await?;
    running.await??;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    run(&std::env::args().skip(1).collect::<Vec<_>>()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use net_linux::addr::Address;
    use net_linux::link::{LinkChange, LinkId};
    use net_linux::netlink::{Batch, Socket};
    use net_linux::netns::NetNs;
    use std::time::Duration;

    /// Index of the loopback device of every network namespace.
    const LOOPBACK: u32 = 1;

    fn addresses(texts: &[&str]) {
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(LOOPBACK));
        for text in texts {
            Address::new(LOOPBACK, text.parse().unwrap()).create(&mut batch);
        }
        Socket::route().unwrap().run_all(&mut batch).unwrap();
    }

    async fn learn(own: u8, other: u8) -> (Handle<Speaker>, tokio::task::JoinHandle<std::io::Result<Speaker>>) {
        let id = RouterId::new([192, 0, 2, own].into()).unwrap();
        let place = |last: u8| SocketAddr::from(([192, 0, 2, last], bgp_speaker::config::BGP_PORT));
        let asn = |last: u8| 65_000 + u32::from(last);
        let (transport, handle, setup, mut told) =
            speaker((asn(own), id), (asn(other), place(other)), place(own)).unwrap();
        let running = tokio::spawn(transport.run());
        handle.set_up(setup).await.unwrap();
        let prefix = |last: u8| format!("10.0.{last}.0/24").parse().unwrap();
        let announced = prefix(own);
        handle.with(move |core, now, _| core.announce(now, announced, &Origination::default())).await.unwrap();
        let wanted = prefix(other);
        let enough = |output: &Output| matches!(output, Output::Route { prefix, .. } if *prefix == wanted);
        host(&handle, &mut told, enough).await.unwrap();
        (handle, running)
    }

    #[test]
    fn two_programs_learn_each_others_prefixes() {
        let both = async {
            let both = async { tokio::join!(learn(1, 2), learn(2, 1)) };
            let (one, two) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("they learn in time");
            for (handle, running) in [one, two] {
                drop(handle);
                running.await.unwrap().unwrap();
            }
        };
        let work = || {
            addresses(&["192.0.2.1/32", "192.0.2.2/32"]);
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(both);
        };
        NetNs::new().unwrap().run(work).unwrap();
    }
}
