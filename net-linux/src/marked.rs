//! Everything with a mark of ours in a network namespace, for who takes all of it away. Never what carries none; and no programs,
//! pins or services of IPVS, which their own parts know.

use crate::link::{Link, LinkFilter, LinkId};
use crate::marks;
use crate::neigh::Neighbour;
use crate::netlink::Socket;
use crate::nexthop::NextHop;
use crate::nft::{Batch, Family, Nft, NftError, TableId};
use crate::objects::{self, Object, Write};
use crate::route::{Route, RouteFilter};
use cni_core::backend::Result;
use nix::errno::Errno;
use std::fmt;

/// Something of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// A route, next-hop object or neighbour.
    Entry(Object),
    /// A device.
    Device {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// A table of nftables with all that is in it.
    Table(TableId),
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(object) => object.fmt(f),
            Self::Device { name, .. } => write!(f, "device {name}"),
            Self::Table(id) => write!(f, "nftables table {id}"),
        }
    }
}

/// All of ours in the network namespace of the calling thread, in an order in which it can be removed: what refers to a device
/// comes before it. Interfaces of pods are devices, too.
///
/// # Errors
/// The kernel could not be read.
pub fn find() -> Result<Vec<Marked>> {
    let mut socket = Socket::route()?;
    let mut found = Vec::new();
    for protocol in [marks::PROTOCOL, marks::LEARNED_PROTOCOL] {
        let routes = Route::dump(&mut socket, &RouteFilter { protocol: Some(protocol), ..RouteFilter::default() })?;
        found.extend(routes.into_iter().map(|route| Marked::Entry(Object::Route(route))));
    }
    let mut hops = NextHop::dump(&mut socket, None)?;
    hops.retain(|hop| marks::NEXTHOP_IDS.contains(&hop.id) || marks::LEARNED_NEXTHOP_IDS.contains(&hop.id));
    found.extend(hops.into_iter().map(|hop| Marked::Entry(Object::NextHop(hop))));
    let neighbours = Neighbour::dump(&mut socket, None)?.into_iter().filter(Neighbour::is_ours);
    found.extend(neighbours.map(|neighbour| Marked::Entry(Object::Neighbour(neighbour))));
    let devices = Link::dump(&mut socket, &LinkFilter::default())?.into_iter().filter(is_device_of_ours);
    found.extend(devices.map(|link| Marked::Device { index: link.index, name: link.name }));
    found.extend(tables()?.into_iter().map(Marked::Table));
    Ok(found)
}

/// Takes one away; what has gone since is taken away already.
///
/// # Errors
/// The kernel refused.
pub fn remove(marked: &Marked) -> Result<()> {
    match marked {
        Marked::Entry(object) => {
            let done = objects::write(&mut Socket::route()?, &[Write::Delete(object.clone())]);
            Ok(done.into_iter().collect::<crate::netlink::Result<()>>()?)
        }
        Marked::Device { index, .. } => Ok(LinkId::Index(*index).remove(&mut Socket::route()?)?),
        Marked::Table(id) => {
            let mut batch = Batch::new();
            batch.delete_table(id);
            match Nft::open()?.commit(&batch) {
                Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(()),
                done => Ok(done?),
            }
        }
    }
}

/// By its alias, or by the group of those that have none yet, or wait for their end.
fn is_device_of_ours(link: &Link) -> bool {
    let in_group = [marks::FRESH_LINK_GROUP, marks::STAGED_LINK_GROUP].contains(&link.group);
    link.our_id().is_some() || in_group
}

/// None where the kernel has no nftables.
fn tables() -> Result<Vec<TableId>> {
    let ours = |id: &TableId| {
        let name = id.name.as_str();
        let whole = [marks::NFT_TABLE, marks::NFT_SERVICES_TABLE].contains(&name);
        id.family == Family::Inet && (whole || name.starts_with(marks::NFT_CONTAINERS_TABLE_PREFIX))
    };
    match Nft::open().and_then(|mut nft| nft.tables()) {
        Ok(tables) => Ok(tables.into_iter().map(|table| table.object.id).filter(ours).collect()),
        Err(error) if is_without_nftables(&error) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The answers of a kernel that has no netfilter sockets, or no nftables behind them.
fn is_without_nftables(error: &NftError) -> bool {
    matches!(error.errno(), Some(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP | Errno::EINVAL))
}
