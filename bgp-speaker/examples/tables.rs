//! Measures the tables alone: routes in from peers, UPDATEs out to others, without sockets and without reading messages. Never
//! a statement about a whole speaker.
//!
//! `cargo run --release -p bgp-speaker --example tables -- feed 1000000 1250` (prefixes, different attributes), or
//! `reflect 500 10` (clients, prefixes of each).

use bgp_speaker::config::Selection;
use bgp_speaker::export::{Delivery, Encode, Export, GroupFacts};
use bgp_speaker::rib::{Own, PeerFacts, PeerKind, Rib};
use bgp_speaker::speaker::{Resolution, Via};
use bgp_speaker::types::{
    Announcement, AsPath, Asn, Attributes, Family, NextHop, Nlri, PathId, PeerId, Refresh, RouterId, SelfNextHop,
    Update, Withdrawal,
};
use bytes::{BufMut, BytesMut};
use ipnet::{IpNet, Ipv4Net};
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

/// Slots looked at in a round: bounds what a round holds in memory.
const BUDGET: usize = 16_384;
/// NLRI of /24s in a message of 4096 bytes.
const NLRI_IN_MESSAGE: usize = 1000;

/// Messages as long as real ones, with nothing but prefixes that is right.
struct Dummy;

impl Dummy {
    fn pack(attributes: usize, nlri: &[Nlri], out: &mut BytesMut) {
        for nlri in nlri.chunks(NLRI_IN_MESSAGE) {
            out.put_bytes(0xff, 23 + attributes);
            for Nlri { prefix, .. } in nlri {
                out.put_u8(prefix.prefix_len());
                if let IpNet::V4(prefix) = prefix {
                    out.put_slice(&prefix.addr().octets()[..usize::from(prefix.prefix_len().div_ceil(8))]);
                }
            }
        }
    }
}

impl Encode for Dummy {
    fn announce(&self, _: &GroupFacts, _: Family, _: &Attributes, nlri: &[Nlri], out: &mut BytesMut) {
        Self::pack(50, nlri, out);
    }
    fn withdraw(&self, _: &GroupFacts, _: Family, nlri: &[Nlri], out: &mut BytesMut) {
        Self::pack(0, nlri, out);
    }
    fn end_of_rib(&self, _: &GroupFacts, _: Family, out: &mut BytesMut) {
        out.put_bytes(0, 23);
    }
    fn refresh(&self, _: &GroupFacts, _: Refresh, out: &mut BytesMut) {
        out.put_bytes(0, 23);
    }
}

fn asn(number: u32) -> Result<Asn, Box<dyn Error>> {
    Asn::new(number).ok_or_else(|| "AS 0".into())
}

fn peer(number: u32, kind: PeerKind) -> Result<PeerFacts, Box<dyn Error>> {
    let address = Ipv4Addr::from(0x0a00_0001 + number);
    let system = asn(if kind.is_external() { 65_001 + number } else { 64_512 })?;
    let router_id = RouterId::new(address).ok_or("no router id")?;
    Ok(PeerFacts::new(number.to_string().into(), kind, system, router_id, address.into()))
}

fn facts(kind: PeerKind) -> GroupFacts {
    let next_hop = NextHop::V4(Ipv4Addr::new(10, 255, 0, 1));
    GroupFacts::new(kind, SelfNextHop { v4: Some(next_hop), v6: None })
}

fn attributes(peer: &PeerFacts, number: u32) -> Result<Arc<Attributes>, Box<dyn Error>> {
    let std::net::IpAddr::V4(address) = peer.address else { return Err("not IPv4".into()) };
    let mut made = Attributes::own(NextHop::V4(address));
    let path = if peer.kind.is_external() { vec![peer.asn, asn(1 + number)?] } else { Vec::new() };
    made.as_path = AsPath::sequence(path);
    Ok(Arc::new(made))
}

fn blocks(first: u32, count: u32) -> Vec<Nlri> {
    let nets =
        (first..first + count).filter_map(|number| Ipv4Net::new(Ipv4Addr::from(0x1000_0000 + (number << 8)), 24).ok());
    nets.map(|net| Nlri { prefix: net.into(), path: PathId(0) }).collect()
}

struct Loop {
    rib: Rib,
    export: Export,
    bytes: usize,
    deliveries: usize,
}

impl Loop {
    fn flush(&mut self) {
        for change in self.rib.take_next_hops() {
            if let bgp_speaker::rib::NextHopChange::Track(address) = change {
                let via = Via { interface: "eth0".into(), gateway: None };
                self.rib.resolve(address, vec![Resolution { metric: 0, via }]);
            }
        }
        let changes = self.rib.take_changes();
        self.export.mark(&changes);
        loop {
            let mut out: Vec<Delivery> = Vec::new();
            let more = self.export.flush(&self.rib, &Dummy, BUDGET, &mut out);
            self.deliveries += out.len();
            self.bytes += out.iter().map(|delivery| delivery.bytes.len()).sum::<usize>();
            if !more {
                break;
            }
        }
        self.export.reclaim(&mut self.rib);
    }

    fn report(&self, what: &str, since: Instant) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        println!(
            "{what}: {:.3} s, {} prefixes, {} deliveries, {} bytes, {} {}",
            since.elapsed().as_secs_f64(),
            self.rib.prefixes(Family::Ipv4),
            self.deliveries,
            self.bytes,
            field("VmRSS"),
            field("VmHWM"),
        );
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize| arguments.get(at).and_then(|text| text.parse::<u32>().ok()).ok_or("see the head of the file");
    let router_id = RouterId::new(Ipv4Addr::new(10, 255, 0, 1)).ok_or("no router id")?;
    let own = Own { asn: asn(64_512)?, router_id, cluster_id: router_id, selection: Selection::default() };
    let mut all = Loop { rib: Rib::new(own), export: Export::default(), bytes: 0, deliveries: 0 };
    match arguments.first().map(String::as_str) {
        Some("feed") => feed(&mut all, number(1)?, number(2)?),
        Some("reflect") => reflect(&mut all, number(1)?, number(2)?),
        _ => Err("see the head of the file".into()),
    }
}

fn feed(all: &mut Loop, prefixes: u32, different: u32) -> Result<(), Box<dyn Error>> {
    let from = peer(0, PeerKind::External)?;
    all.rib.peer_up(PeerId(0), from.clone(), None);
    all.rib.peer_up(PeerId(1), peer(1, PeerKind::External)?, None);
    all.export.join(&all.rib, PeerId(0), facts(PeerKind::External), [Family::Ipv4].into());
    all.export.join(&all.rib, PeerId(1), facts(PeerKind::External), [Family::Ipv4].into());
    let start = Instant::now();
    let share = (prefixes / different).max(1);
    let mut since_flush = 0;
    for number in 0..prefixes.div_ceil(share) {
        let (first, family) = (number * share, Family::Ipv4);
        let nlri = blocks(first, share.min(prefixes - first));
        since_flush += nlri.len();
        for nlri in nlri.chunks(NLRI_IN_MESSAGE) {
            let announcement = Announcement { family, attributes: attributes(&from, number)?, nlri: nlri.to_vec() };
            all.rib.update(PeerId(0), &Update { announcements: vec![announcement], ..Update::default() })?;
        }
        if since_flush >= BUDGET {
            since_flush = 0;
            all.flush();
        }
    }
    all.flush();
    all.report("announced", start);
    let start = Instant::now();
    for first in (0..prefixes).step_by(NLRI_IN_MESSAGE) {
        let nlri = blocks(first, (NLRI_IN_MESSAGE as u32).min(prefixes - first));
        let withdrawal = Withdrawal { family: Family::Ipv4, nlri };
        all.rib.update(PeerId(0), &Update { withdrawals: vec![withdrawal], ..Update::default() })?;
        if first as usize % BUDGET < NLRI_IN_MESSAGE {
            all.flush();
        }
    }
    all.flush();
    all.report("withdrawn", start);
    Ok(())
}

fn reflect(all: &mut Loop, clients: u32, each: u32) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    for number in 0..clients {
        let client = peer(number, PeerKind::Client)?;
        all.rib.peer_up(PeerId(number), client.clone(), None);
        all.export.join(&all.rib, PeerId(number), facts(PeerKind::Client), [Family::Ipv4].into());
        let nlri = blocks(number * each, each);
        let announcement = Announcement { family: Family::Ipv4, attributes: attributes(&client, number)?, nlri };
        all.rib.update(PeerId(number), &Update { announcements: vec![announcement], ..Update::default() })?;
        all.flush();
    }
    all.report("came one by one", start);
    let start = Instant::now();
    all.rib.peer_down(PeerId(0), &[]);
    all.export.leave(PeerId(0));
    all.flush();
    all.report("one left", start);
    Ok(())
}
