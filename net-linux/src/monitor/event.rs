//! One change, typed. Never says who should care.

use super::setting::{self, Settings};
use crate::addr::{self, Address};
use crate::fdb::{self, FdbEntry};
use crate::link::{self, Link};
use crate::neigh::{self, Neighbour};
use crate::netlink::Header;
use crate::nexthop::{self, NextHop};
use crate::route::{self, Route};

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It is new, or has changed.
    Put,
    /// It is gone.
    Deleted,
}

/// A change of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Of a device.
    Link(Change, Box<Link>),
    /// Of an address.
    Address(Change, Address),
    /// Of a route. The kernel tells nothing of IPv4 routes that go with their device or next-hop object: a device that
    /// goes down or away, or a next-hop object that goes, asks for a look at the routes.
    Route(Change, Box<Route>),
    /// Of a neighbour.
    Neighbour(Change, Neighbour),
    /// Of a VXLAN device's forwarding table.
    Fdb(Change, FdbEntry),
    /// Of a next-hop object.
    NextHop(Change, NextHop),
    /// Of settings of the IP layer. The kernel tells of few: forwarding, reverse path filtering, proxies of neighbours.
    Settings(Settings),
    /// Changes came faster than they were read, and some are lost: read the tables again.
    Lost,
}

/// A change and who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The port of the socket whose request caused it ([`crate::netlink::Socket::port`]); 0 for the kernel's own doing
    /// and for loss. The kernel tells it for addresses, routes, neighbours and next-hop objects; for most changes of
    /// devices, for forwarding entries and for settings it says 0, whoever did it.
    pub port: u32,
    /// What happened.
    pub event: Event,
}

/// Reads a multicast message; `None` for what we have no type for.
pub(super) fn parse(header: Header, payload: &[u8]) -> Option<Event> {
    let put = Change::Put;
    let deleted = Change::Deleted;
    match header.kind {
        link::RTM_NEWLINK => link::parse(header, payload).map(|link| Event::Link(put, Box::new(link))),
        link::RTM_DELLINK => link::parse(header, payload).map(|link| Event::Link(deleted, Box::new(link))),
        addr::RTM_NEWADDR => addr::parse(header, payload).map(|address| Event::Address(put, address)),
        addr::RTM_DELADDR => addr::parse(header, payload).map(|address| Event::Address(deleted, address)),
        route::RTM_NEWROUTE => route::parse(header, payload).map(|route| Event::Route(put, Box::new(route))),
        route::RTM_DELROUTE => route::parse(header, payload).map(|route| Event::Route(deleted, Box::new(route))),
        neigh::RTM_NEWNEIGH => neighbour(put, header, payload),
        neigh::RTM_DELNEIGH => neighbour(deleted, header, payload),
        nexthop::RTM_NEWNEXTHOP => nexthop::parse(header, payload).map(|nexthop| Event::NextHop(put, nexthop)),
        nexthop::RTM_DELNEXTHOP => nexthop::parse(header, payload).map(|nexthop| Event::NextHop(deleted, nexthop)),
        setting::RTM_NEWNETCONF => setting::parse(header, payload).map(Event::Settings),
        _ => None,
    }
}

/// One message type for two tables.
fn neighbour(change: Change, header: Header, payload: &[u8]) -> Option<Event> {
    let entry = || fdb::parse(header, payload).map(|entry| Event::Fdb(change, entry));
    neigh::parse(header, payload).map(|neighbour| Event::Neighbour(change, neighbour)).or_else(entry)
}
