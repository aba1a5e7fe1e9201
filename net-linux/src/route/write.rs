//! Requests that write routes. Never reads.

use super::{
    RTA_DST, RTA_ENCAP, RTA_ENCAP_TYPE, RTA_METRICS, RTA_NH_ID, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE,
    RTAX_ADVMSS, RTAX_MTU, RTM_DELROUTE, RTM_NEWROUTE, RTMSG_BYTES, RTNH_F_ONLINK, Route, multipath,
};
use crate::addr::family;
use crate::netlink::{Batch, Message, wire};

impl Route {
    /// Adds a request that creates it; the kernel answers `EEXIST` when its place is taken, whoever's the route there is.
    pub fn create(&self, batch: &mut Batch) {
        self.write(batch, "create", wire::NLM_F_CREATE | wire::NLM_F_EXCL);
    }

    /// Adds a request that creates it or takes its place over, whoever's the route there is.
    pub fn replace(&self, batch: &mut Batch) {
        self.write(batch, "replace", wire::NLM_F_CREATE | wire::NLM_F_REPLACE);
    }

    fn write(&self, batch: &mut Batch, operation: &'static str, flags: u16) {
        batch.add(operation, self, RTM_NEWROUTE, flags, |message| {
            self.write_key(message, self.scope.number(), if self.onlink { RTNH_F_ONLINK } else { 0 });
            if let Some(index) = self.index {
                message.u32(RTA_OIF, index);
            }
            if let Some(via) = self.via {
                multipath::write_gateway(message, via, self.destination.addr().is_ipv4());
            }
            if !self.ways.is_empty() {
                multipath::write(message, &self.ways, self.destination.addr().is_ipv4());
            }
            if let Some(source) = self.source {
                message.ip(RTA_PREFSRC, source);
            }
            if let Some(id) = self.nexthop_id {
                message.u32(RTA_NH_ID, id);
            }
            if self.mtu_bytes.is_some() || self.advertised_mss.is_some() {
                message.nest(RTA_METRICS, |metrics| {
                    if let Some(mtu) = self.mtu_bytes {
                        metrics.u32(RTAX_MTU, mtu);
                    }
                    if let Some(mss) = self.advertised_mss {
                        metrics.u32(RTAX_ADVMSS, mss);
                    }
                });
            }
            if let Some(tunnel) = self.tunnel {
                tunnel.write(message, RTA_ENCAP_TYPE, RTA_ENCAP);
            }
        });
    }

    /// Adds a request that deletes it. The kernel compares destination, table, metric and protocol, so a route of another
    /// protocol stays; it answers `ESRCH` when there is none.
    pub fn delete(&self, batch: &mut Batch) {
        const RT_SCOPE_NOWHERE: u8 = 255;
        batch.add("delete", self, RTM_DELROUTE, 0, |message| self.write_key(message, RT_SCOPE_NOWHERE, 0));
    }

    fn write_key(&self, message: &mut Message<'_>, scope: u8, flags: u32) {
        let mut head = [0; RTMSG_BYTES];
        head[0] = family(self.destination.addr());
        head[1] = self.destination.prefix_len();
        // RTA_TABLE counts where it is given.
        head[4] = u8::try_from(self.table).unwrap_or(0);
        head[5] = self.protocol;
        head[6] = scope;
        head[7] = self.kind.number();
        head[8..12].copy_from_slice(&flags.to_ne_bytes());
        message.raw(&head).ip(RTA_DST, self.destination.addr()).u32(RTA_TABLE, self.table);
        if self.metric != 0 {
            message.u32(RTA_PRIORITY, self.metric);
        }
    }
}
