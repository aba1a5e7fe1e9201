//! A backend's drift watch on top of the monitor. Never repairs: it asks for a resync.

use super::{Event, Group, Monitor, Notice};
use async_trait::async_trait;
use cni_core::backend::{self, DriftWatch};
use std::fmt;

/// Wakes when something that a backend cares for was changed by somebody else.
pub struct DriftMonitor {
    monitor: Monitor,
    own_ports: Vec<u32>,
    concerns: Box<dyn Fn(&Event) -> bool + Send>,
}

impl fmt::Debug for DriftMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriftMonitor").field("own_ports", &self.own_ports).finish_non_exhaustive()
    }
}

impl DriftMonitor {
    /// Listens in the network namespace of the calling thread. Changes made through sockets with `own_ports` are ours;
    /// `concerns` says which of the others matter. Loss always matters.
    ///
    /// # Errors
    /// As for [`Monitor::open`].
    pub fn open(
        groups: &[Group],
        own_ports: Vec<u32>,
        concerns: impl Fn(&Event) -> bool + Send + 'static,
    ) -> crate::netlink::Result<Self> {
        Ok(Self { monitor: Monitor::open(groups)?, own_ports, concerns: Box::new(concerns) })
    }

    fn matters(&self, notice: &Notice) -> bool {
        let own = notice.port != 0 && self.own_ports.contains(&notice.port);
        notice.event == Event::Lost || !own && (self.concerns)(&notice.event)
    }
}

#[async_trait]
impl DriftWatch for DriftMonitor {
    async fn changed(&mut self) -> backend::Result<()> {
        loop {
            let notice = self.monitor.next().await?;
            if self.matters(&notice) {
                break;
            }
        }
        // What came with it is answered by the same resync.
        while self.monitor.try_next()?.is_some() {}
        Ok(())
    }
}
