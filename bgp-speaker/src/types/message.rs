//! The messages of BGP as their readers need them. Never bytes.

use super::{Attributes, Capabilities, Family, NextHop, Notification, PathId, RouterId};
use ipnet::IpNet;
use std::sync::Arc;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271, section 4.2.
    Open(Open),
    /// RFC 4271, section 4.3.
    Update(Update),
    /// RFC 4271, section 4.5.
    Notification(Notification),
    /// RFC 4271, section 4.4.
    Keepalive,
    /// RFC 2918; RFC 7313.
    RouteRefresh(Refresh),
}

/// How a speaker introduces itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The two-byte number of its system, [`super::Asn::TRANS`] when it does not fit.
    pub asn: u16,
    /// Its offer of a hold time: 0, or 3 and more.
    pub hold_time_seconds: u16,
    /// Its BGP identifier.
    pub id: RouterId,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// A prefix in an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nlri {
    /// The prefix, without host bits.
    pub prefix: IpNet,
    /// Which of its paths; 0 where the session carries no ids.
    pub path: PathId,
}

/// Prefixes of one family that share their attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// All prefixes are of it.
    pub family: Family,
    /// What they carry. Shared: the same bytes in a row of messages give the same `Arc`.
    pub attributes: Arc<Attributes>,
    /// At least one.
    pub nlri: Vec<Nlri>,
}

/// Prefixes of one family that are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// All prefixes are of it.
    pub family: Family,
    /// At least one.
    pub nlri: Vec<Nlri>,
}

/// Something wrong in an UPDATE that does not end the session. RFC 7606.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The attribute's type code.
    pub attribute: u8,
    /// What was wrong with it.
    pub what: String,
    /// The announced prefixes were turned into withdrawals; else the attribute was left out.
    pub withdrawn: bool,
}

/// Routes that come and go. What RFC 7606 says to treat as withdrawn already stands under `withdrawals`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Gone, to be read first.
    pub withdrawals: Vec<Withdrawal>,
    /// New, or changed.
    pub announcements: Vec<Announcement>,
    /// The first full table of a family has been sent. RFC 4724, section 2.
    pub end_of_rib: Option<Family>,
    /// For log and counters.
    pub problems: Vec<Problem>,
}

/// What a ROUTE-REFRESH says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefreshKind {
    /// Send all again (0). RFC 2918.
    Request,
    /// All follows (1). RFC 7313.
    Begin,
    /// That was all (2). RFC 7313.
    End,
}

/// A ROUTE-REFRESH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refresh {
    /// Of what.
    pub family: Family,
    /// What it says.
    pub kind: RefreshKind,
}

/// Where a session's own end is: what "next hop self" means on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SelfNextHop {
    /// For IPv4 routes.
    pub v4: Option<NextHop>,
    /// For IPv6 routes.
    pub v6: Option<NextHop>,
}
