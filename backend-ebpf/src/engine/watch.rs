//! When the node's own addresses change, rules that speak of the node mean others; a new interface may be one that policy is about;
//! and somebody may take a program off. Never which.

use super::running::is_pods;
use crate::kernel::Hook;
use crate::placed::{Placed, PlacedWatch};
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Result};
use cni_core::model::InterfaceName;
use net_linux::monitor::{Change, DriftMonitor, Event, Group};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// A watch on addresses, interfaces and programs.
pub(super) struct PolicyWatch {
    node: DriftMonitor,
    programs: PlacedWatch,
}

impl PolicyWatch {
    /// Listens in the network namespace of the calling thread.
    pub(super) fn open(placed: Placed, hook: Hook) -> Result<Self> {
        let known = Mutex::new(HashSet::<(u32, Option<u32>, InterfaceName)>::new());
        let is_new = move |event: &Event| match event {
            Event::Address(..) => true,
            Event::Link(change, link) => {
                let Ok(name) = InterfaceName::new(&link.name) else { return false };
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let device = (link.index, link.master, name.clone());
                match change {
                    // Pods' come with endpoints.
                    Change::Put => {
                        let is_news = !is_pods(&name) && !known.contains(&device);
                        if is_news {
                            // What it was before is news again when it comes back.
                            known.retain(|(index, ..)| *index != link.index);
                            known.insert(device);
                        }
                        is_news
                    }
                    Change::Deleted => {
                        known.remove(&device);
                        false
                    }
                }
            }
            _ => false,
        };
        let node = DriftMonitor::open(&[Group::Addresses, Group::Links], Vec::new(), is_new)?;
        Ok(Self { node, programs: PlacedWatch::open(placed, hook)? })
    }
}

#[async_trait]
impl DriftWatch for PolicyWatch {
    async fn changed(&mut self) -> Result<()> {
        tokio::select! {
            changed = self.node.changed() => changed,
            () = self.programs.amiss() => Ok(()),
        }
    }
}
