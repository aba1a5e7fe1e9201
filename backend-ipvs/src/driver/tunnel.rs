//! The device that takes in what other nodes tunnel to pods of this one. Never touches one without our alias, and no tunnel of a
//! backend: it hears at an address of its own.

use super::{IpvsDriver, Write};
use crate::object::{Key, Object, TUNNEL, TUNNEL_END};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::link::{Ipip, Link, LinkChange, LinkId, LinkKind, NewLink, NewLinkKind};
use net_linux::netlink::{Batch, Socket};
use net_linux::{marks, sysctl};

/// Loose: the inner packet comes from where routes lead past this device. The stricter of this and `conf/all` does not count,
/// the greater does.
const RP_FILTER: (&str, &str) = ("net/ipv4/conf/svc-tunnel/rp_filter", "2");

const KIND: Ipip = Ipip { collect_metadata: false, local: Some(TUNNEL_END) };

/// One with our alias, or one that a predecessor made and was killed before it gave it the alias.
fn is_ours(link: &Link) -> bool {
    link.our_id() == Some(marks::SERVICE_TUNNEL) || (link.alias.is_none() && link.group == marks::FRESH_LINK_GROUP)
}

fn ours(socket: &mut Socket) -> Result<Option<Link>> {
    match Link::get(socket, &LinkId::Name(TUNNEL))? {
        Some(link) if !is_ours(&link) => {
            let detail = "there is one that is not ours; rename it, or delete it";
            Err(Error::new(ErrorKind::Foreign, "create", Key::Tunnel, detail))
        }
        other => Ok(other),
    }
}

fn address(index: u32) -> Address {
    Address { never_source: true, ..Address::new(index, IpNet::from(std::net::IpAddr::V4(TUNNEL_END))) }
}

/// Takes ours away.
pub(super) fn clear(socket: &mut Socket) -> Result<()> {
    match ours(socket) {
        Ok(Some(link)) => Ok(LinkId::Index(link.index).remove(socket)?),
        Ok(None) => Ok(()),
        Err(error) if error.kind == ErrorKind::Foreign => Ok(()),
        Err(error) => Err(error),
    }
}

impl IpvsDriver {
    pub(super) fn read_tunnel(&mut self) -> Result<Option<(Key, Object)>> {
        let Ok(Some(link)) = ours(&mut self.route) else { return Ok(None) };
        let made = link.up && link.our_id().is_some() && link.kind == LinkKind::Ipip(KIND);
        let addresses = Address::dump(&mut self.route, Some(link.index))?;
        let hears = addresses.iter().any(|found| *found == address(link.index));
        let loose = self.inside(|| sysctl::read(RP_FILTER.0).is_ok_and(|value| value == RP_FILTER.1))?;
        Ok(Some((Key::Tunnel, Object::Tunnel { intact: made && hears && loose })))
    }

    pub(super) fn write_tunnel(&mut self, op: &Write) -> Result<()> {
        let present = match (ours(&mut self.route), op) {
            // Ours is gone already.
            (Err(error), Op::Delete { .. }) if error.kind == ErrorKind::Foreign => return Ok(()),
            (present, _) => present?,
        };
        match (op, present) {
            (Op::Delete { .. }, None) => Ok(()),
            (Op::Delete { .. }, Some(link)) => Ok(LinkId::Index(link.index).remove(&mut self.route)?),
            (Op::Put { .. }, Some(link)) if link.kind == LinkKind::Ipip(KIND) => self.open_tunnel(link.index),
            (Op::Put { .. }, Some(link)) => {
                LinkId::Index(link.index).remove(&mut self.route)?;
                self.make_tunnel()
            }
            (Op::Put { .. }, None) => self.make_tunnel(),
        }
    }

    fn make_tunnel(&mut self) -> Result<()> {
        let device = NewLink::new(TUNNEL, NewLinkKind::Ipip(KIND));
        let index = NewLink { group: marks::FRESH_LINK_GROUP, ..device }.create(&mut self.route)?;
        self.open_tunnel(index)
    }

    /// Up comes last: what comes before that is dropped.
    fn open_tunnel(&mut self, index: u32) -> Result<()> {
        self.inside(|| sysctl::write(RP_FILTER.0, RP_FILTER.1))??;
        let alias = marks::alias(marks::SERVICE_TUNNEL);
        let quiet = LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf: true, ..LinkChange::default() };
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut batch = Batch::new();
        quiet.add(&mut batch, &LinkId::Index(index));
        address(index).replace(&mut batch);
        up.add(&mut batch, &LinkId::Index(index));
        Ok(self.route.run_all(&mut batch)?)
    }
}
