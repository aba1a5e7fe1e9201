//! A cluster of speakers in virtual time, on a network in memory: how soon everybody knows everything, and what that costs
//! each of them. The very code of a router runs, without sockets and clocks. Never asserts: it prints tables.
//!
//! ```text
//! cargo run --release -p benches --bin bgp-sim [-- reflectors NODES REFLECTORS FULL | mesh NODES]
//! ```
//!
//! Every node announces a few blocks. Messages take a millisecond between any two nodes; work takes no time, so the times
//! are those of the protocol: timers and round trips. With reflectors only the first `FULL` nodes are told of routes: a
//! table of 5,000 prefixes by four reflectors takes 9 MB, which one node has and one machine does not have 5,000 times.
#![forbid(unsafe_code)]

use benches::stats::{Table, millis};
use bgp_speaker::config::{BGP_PORT, Config, PeerAddress, PeerConfig, PeerName, RemoteAsn};
use bgp_speaker::policy::{Policy, RawDefault, RawPolicy};
use bgp_speaker::speaker::{Beginning, Origination, Speaker};
use bgp_speaker::testkit::{Network, NodeId};
use bgp_speaker::types::{Asn, Family, RouterId};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const DELAY: Duration = Duration::from_millis(1);
/// Longer than any timer of the protocol that is at work here.
const LIMIT: Duration = Duration::from_secs(900);

/// Who has sessions with whom.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Everybody with everybody.
    Mesh,
    /// Everybody with the first few.
    Reflectors {
        /// How many those are.
        count: usize,
        /// How many nodes are told of routes, reflectors included.
        full: usize,
    },
}

/// The nodes of a cluster.
struct Cluster {
    shape: Shape,
    network: Network,
    nodes: Vec<NodeId>,
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| -> Outcome<usize> { Ok(args.get(at).ok_or("a number is missing")?.parse()?) };
    let cases = match args.first().map(String::as_str) {
        None => vec![
            (100, Shape::Mesh),
            (300, Shape::Mesh),
            (1_000, Shape::Reflectors { count: 4, full: 1_000 }),
            (5_000, Shape::Reflectors { count: 4, full: 200 }),
        ],
        Some("mesh") => vec![(number(1)?, Shape::Mesh)],
        Some("reflectors") => vec![(number(1)?, Shape::Reflectors { count: number(2)?, full: number(3)? })],
        Some(other) => return Err(format!("{other}: reflectors NODES REFLECTORS FULL, or mesh NODES").into()),
    };
    let columns = [
        "",
        "converged s",
        "sends per node",
        "KB out per node",
        "KB in per node",
        "KB out per reflector",
        "routes lost",
        "took s",
    ];
    for (nodes, shape) in cases {
        let mut table = Table::new(&columns);
        Cluster::new(nodes, shape).measure(&mut table)?;
        println!("{nodes} nodes, a block each, {shape:?}\n{table}");
    }
    Ok(())
}

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 1)) + node as u32)
}

fn block(number: usize) -> Outcome<IpNet> {
    let network = Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + 64 * number as u32);
    Ok(Ipv4Net::new(network, 26)?.into())
}

impl Cluster {
    fn new(count: usize, shape: Shape) -> Self {
        let mut network = Network::new(DELAY);
        let nodes = (0..count).map(|node| network.add(&[IpAddr::V4(address(node))])).collect();
        Self { shape, network, nodes }
    }

    /// Nodes that are told of routes.
    fn full(&self) -> usize {
        match self.shape {
            Shape::Mesh => self.nodes.len(),
            Shape::Reflectors { full, .. } => full.min(self.nodes.len()),
        }
    }

    fn is_reflector(&self, node: usize) -> bool {
        matches!(self.shape, Shape::Reflectors { count, .. } if node < count)
    }

    fn config(&self, node: usize) -> Outcome<Config> {
        let asn = Asn::new(64_512).ok_or("AS 0")?;
        let mut config = Config::new(asn, RouterId::new(address(node)).ok_or("0.0.0.0")?);
        config.listen = vec![(Ipv4Addr::UNSPECIFIED, BGP_PORT).into()];
        let others: Vec<usize> = match self.shape {
            Shape::Reflectors { count, .. } if !self.is_reflector(node) => (0..count).collect(),
            _ => (0..self.nodes.len()).filter(|other| *other != node).collect(),
        };
        let nothing = Arc::new(Policy::export(&RawPolicy { statements: Vec::new(), default: RawDefault::Reject })?);
        for other in others {
            let mut peer = PeerConfig::new(PeerAddress::Ip(address(other).into()), RemoteAsn::Internal);
            peer.families = [Family::Ipv4].into();
            // One side calls: who has the greater number. A mesh of thousands has no need of collisions.
            peer.passive = other > node;
            peer.reflector_client = self.is_reflector(node) && !self.is_reflector(other);
            peer.export = (other >= self.full()).then(|| Arc::clone(&nothing));
            config.peers.insert(PeerName::from(address(other).to_string()), peer);
        }
        Ok(config)
    }

    fn start(&mut self, node: usize, beginning: &Beginning) -> Outcome<()> {
        let config = self.config(node)?;
        self.network.start(self.nodes[node], config, beginning)?;
        let prefix = block(node)?;
        let announce = |speaker: &mut Speaker, now, _: &mut Vec<_>| {
            speaker.announce(now, prefix, &Origination::default());
        };
        self.network.with(self.nodes[node], announce).ok_or("it was started")?;
        Ok(())
    }

    fn measure(&mut self, table: &mut Table) -> Outcome<()> {
        self.step(table, "cold start", |cluster| {
            (0..cluster.nodes.len()).try_for_each(|node| cluster.start(node, &Beginning::Fresh))
        })?;
        let last = self.nodes.len() - 1;
        self.step(table, "a node restarts, routes kept", |cluster| cluster.restart(last))?;
        if let Shape::Reflectors { count, .. } = self.shape {
            self.step(table, "a reflector restarts, routes kept", |cluster| cluster.restart(0))?;
            for node in 1..count {
                self.step(table, "the next reflector likewise", |cluster| cluster.restart(node))?;
            }
            self.step(table, "a reflector is lost for good", |cluster| {
                cluster.network.kill(cluster.nodes[0]);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn restart(&mut self, node: usize) -> Outcome<()> {
        self.network.kill(self.nodes[node]);
        // As long as a new process takes.
        self.network.run_for(Duration::from_secs(2));
        self.start(node, &Beginning::Restarted([Family::Ipv4].into()))
    }

    /// Does something and waits until all that live know everything, and nobody has anything to say any more.
    fn step(&mut self, table: &mut Table, what: &str, work: impl FnOnce(&mut Self) -> Outcome<()>) -> Outcome<()> {
        let real = Instant::now();
        let before: Vec<_> = self.nodes.iter().map(|node| self.network.traffic(*node)).collect();
        let began = self.network.now();
        work(self)?;
        let (mut converged, mut lost) = (None, 0);
        while self.network.now() - began < LIMIT {
            let full = &self.nodes[..self.full()];
            let missing: usize =
                full.iter().map(|node| (self.nodes.len() - 1).saturating_sub(self.network.fib(*node).len())).sum();
            let settled = missing == 0 && self.is_settled();
            match (settled, converged) {
                (true, None) => converged = Some(self.network.now() - began),
                (false, _) => converged = None,
                _ => {}
            }
            if what != "cold start" {
                lost = lost.max(missing);
            }
            // A while after it, so that nothing is under way any more and keepalives are few.
            if converged.is_some_and(|at| self.network.now() - began > at + Duration::from_secs(5)) {
                break;
            }
            self.network.run_for(Duration::from_millis(100));
        }
        let moved = |nodes: &mut dyn Iterator<Item = usize>| {
            let (mut sends, mut out, mut into, mut count) = (0, 0, 0, 0);
            for node in nodes {
                let (before, now) = (before[node], self.network.traffic(self.nodes[node]));
                sends += now.sends - before.sends;
                out += now.bytes_out - before.bytes_out;
                into += now.bytes_in - before.bytes_in;
                count += 1;
            }
            let mean = |sum: u64| sum as f64 / f64::from(count.max(1));
            (mean(sends), mean(out) / 1e3, mean(into) / 1e3)
        };
        let (sends, out, into) = moved(&mut (0..self.full()).filter(|node| !self.is_reflector(*node)));
        let (_, reflected, _) = moved(&mut (0..self.full()).filter(|node| self.is_reflector(*node)));
        table.row(&[
            what.to_owned(),
            converged.map_or_else(|| "never".to_owned(), |at| format!("{:.1}", at.as_secs_f64())),
            format!("{sends:.1}"),
            format!("{out:.1}"),
            format!("{into:.1}"),
            format!("{reflected:.0}"),
            lost.to_string(),
            millis(real.elapsed() / 1000),
        ]);
        Ok(())
    }

    /// Everybody who lives has told its kernel that it knows all.
    fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| self.network.speaker(*node).is_none() || self.network.is_in_sync(*node))
    }
}
