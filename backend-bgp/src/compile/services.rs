//! Whether addresses of services that every node announces fit a node. Never single services: those are items.

use super::node::node_error;
use crate::config::Config;
use cni_core::backend::{ErrorKind, Result};
use cni_core::model::{NodeContext, overlap};
use ipnet::IpNet;

/// Refuses addresses of services that lie in the underlay: announcing them would cut the nodes off.
pub(super) fn are_outside(config: &Config, node: &NodeContext) -> Result<()> {
    let of = |prefix: &IpNet| node.underlay.segments().find(|segment| overlap(segment, prefix));
    let Some((prefix, segment)) = config.services.iter().find_map(|prefix| Some((prefix, of(prefix)?))) else {
        return Ok(());
    };
    let interface = &node.underlay.interface;
    let detail = format!("has {prefix}, which overlaps {segment} of the underlay ({interface}); leave it out");
    Err(node_error(ErrorKind::Invalid, node, "serviceAdvertisement.clusterIPs", detail))
}
