//! Comparing an attachment with what it should be. Never repairs.

use super::list::{endpoint_of, is_doomed};
use super::pod::{LOOPBACK_INDEX, PodSide};
use super::{AttachRequest, elsewhere};
use crate::addr::Address;
use crate::link::{Link, LinkId, LinkKind};
use crate::neigh::Neighbour;
use crate::netlink::{Result, Socket};
use crate::route::{Route, RouteFilter};
use cni_core::cni;
use cni_core::model::MacAddr;
use std::fmt;

/// Which side of an attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host's.
    Host,
    /// The pod's.
    Pod,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host",
            Self::Pod => "pod",
        })
    }
}

/// One thing that is not as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drifted {
    /// On which side.
    pub side: Side,
    /// What: `interface eth0`, `address 10.1.2.3/32`.
    pub object: String,
    /// What it should be.
    pub expected: String,
    /// What it is; `None` when it is missing.
    pub found: Option<String>,
}

impl fmt::Display for Drifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.side, self.object)?;
        match &self.found {
            Some(found) => write!(f, "{found}, should be {}", self.expected),
            None => write!(f, "missing, should be {}", self.expected),
        }
    }
}

struct Report {
    side: Side,
    drifted: Vec<Drifted>,
}

impl Report {
    fn missing(&mut self, object: String, expected: impl fmt::Display) {
        let expected = expected.to_string();
        self.drifted.push(Drifted { side: self.side, object, expected, found: None });
    }

    fn differs(&mut self, object: &str, expected: impl fmt::Display, found: impl fmt::Display) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected != found {
            self.drifted.push(Drifted { side: self.side, object: object.to_owned(), expected, found: Some(found) });
        }
    }

    /// What both ends have in common.
    fn link(&mut self, object: &str, link: &Link, mtu_bytes: u32, mac: MacAddr) {
        self.differs(object, "a veth", if link.kind == LinkKind::Veth { "a veth" } else { "another kind of device" });
        self.differs(object, "up", if link.up { "up" } else { "down" });
        self.differs(object, format_args!("MTU {mtu_bytes}"), format_args!("MTU {}", link.mtu_bytes));
        let found = link.mac.map_or_else(|| "no MAC".to_owned(), |mac| format!("MAC {mac}"));
        self.differs(object, format_args!("MAC {mac}"), found);
    }
}

/// The host's side; gives the index of the host's end too.
pub(super) fn host(socket: &mut Socket, request: &AttachRequest) -> Result<(Vec<Drifted>, Option<u32>)> {
    let mut report = Report { side: Side::Host, drifted: Vec::new() };
    let name = request.host_interface();
    let object = format!("interface {name}");
    let Some(link) = Link::get(socket, &LinkId::Name(name.as_str()))? else {
        report.missing(object, "a veth");
        return Ok((report.drifted, None));
    };
    report.link(&object, &link, request.mtu_bytes, request.host_mac());
    let alias = |id: &str| format!("the endpoint {id}'s by its alias");
    let found = endpoint_of(&link).map_or_else(|| "without our alias".to_owned(), |id| alias(id.as_str()));
    report.differs(&object, alias(request.id.as_str()), found);
    report.differs(&object, "attached", if is_doomed(&link) { "detached and to be deleted" } else { "attached" });
    let autoconf = if link.ipv6_autoconf == Some(true) { "with" } else { "without" };
    report.differs(&object, "without IPv6 autoconfiguration", format_args!("{autoconf} IPv6 autoconfiguration"));
    Ok((report.drifted, Some(link.index)))
}

/// The pod's side; runs on a thread inside the pod's namespace.
pub(super) fn pod(request: &AttachRequest, host_index: Option<u32>, listed: &[cni::Route]) -> Result<Vec<Drifted>> {
    let mut report = Report { side: Side::Pod, drifted: Vec::new() };
    let mut socket = Socket::route()?;
    let name = request.id.interface();
    let object = format!("interface {name}");
    let Some(link) = Link::get(&mut socket, &LinkId::Name(name))? else {
        report.missing(object, "a veth");
        return Ok(report.drifted);
    };
    report.link(&object, &link, request.mtu_bytes, request.pod_mac());
    if host_index.is_some() && link.peer_index != host_index {
        report.differs(&object, format_args!("the other end of {}", request.host_interface()), "of another pair");
    }
    let side = PodSide::new(request, link.index);
    addresses(&mut report, &side, &Address::dump(&mut socket, Some(link.index))?);
    neighbours(&mut report, &side, &Neighbour::dump(&mut socket, Some(link.index))?);
    let present = Route::dump(&mut socket, &RouteFilter::default())?;
    routes(&mut report, &side, &present, link.index);
    for route in present.iter().filter(|route| elsewhere::leads(route, &side, link.index, listed)) {
        report.differs(&elsewhere::named(route), "absent", elsewhere::shown(route, link.index));
    }
    let loopback = Link::get(&mut socket, &LinkId::Index(LOOPBACK_INDEX))?;
    report.differs("interface lo", "up", if loopback.is_some_and(|link| link.up) { "up" } else { "down" });
    Ok(report.drifted)
}

fn addresses(report: &mut Report, side: &PodSide, present: &[Address]) {
    for wanted in &side.addresses {
        let object = format!("address {}", wanted.address);
        match present.iter().find(|address| address.address == wanted.address) {
            None => report.missing(object, "there"),
            Some(found) => {
                let state = if found.tentative { "tentative or a duplicate" } else { "usable" };
                report.differs(&object, "usable", state);
            }
        }
    }
    for other in present {
        if !side.addresses.iter().any(|wanted| wanted.address == other.address) {
            report.differs(&format!("address {}", other.address), "absent", "there");
        }
    }
}

fn neighbours(report: &mut Report, side: &PodSide, present: &[Neighbour]) {
    for wanted in &side.neighbours {
        let object = format!("neighbour {}", wanted.address);
        let text = |neighbour: &Neighbour| {
            let mac = neighbour.mac.map_or_else(|| "no MAC".to_owned(), |mac| mac.to_string());
            format!("{:?} at {mac}", neighbour.state)
        };
        match present.iter().find(|neighbour| neighbour.address == wanted.address) {
            None => report.missing(object, text(wanted)),
            Some(found) => report.differs(&object, text(wanted), text(found)),
        }
    }
}

fn routes(report: &mut Report, side: &PodSide, present: &[Route], index: u32) {
    for wanted in &side.routes {
        let expected = format!("via {} on this interface", wanted.via.map_or_else(String::new, |via| via.to_string()));
        match present.iter().find(|route| route.same_place(wanted)) {
            None => report.missing(wanted.to_string(), expected),
            Some(found) if found != wanted => {
                let device = if found.index == Some(index) { "this interface" } else { "another interface" };
                let via = found.via.map_or_else(String::new, |via| format!("via {via} "));
                let rest =
                    if found.via == wanted.via && found.index == wanted.index { ", with other attributes" } else { "" };
                report.differs(&wanted.to_string(), expected, format_args!("{via}on {device}{rest}"));
            }
            Some(_) => {}
        }
    }
}
