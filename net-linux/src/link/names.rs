//! Names of links by index, for whoever reads indices from packets. Never told of a change: the kernel gives an index again only
//! after it has given all others.

use super::{Link, LinkId};
use crate::netlink::{Result, Socket};
use std::collections::HashMap;
use std::sync::Arc;

/// How many are remembered.
const MOST: usize = 4096;

/// Names that were asked for, in one network namespace.
pub struct LinkNames {
    route: Socket,
    known: HashMap<u32, Arc<str>>,
}

impl LinkNames {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open() -> Result<Self> {
        Ok(Self { route: Socket::route()?, known: HashMap::new() })
    }

    /// The name of the link with this index; `None`: it is gone.
    pub fn name(&mut self, index: u32) -> Option<Arc<str>> {
        if let Some(name) = self.known.get(&index) {
            return Some(name.clone());
        }
        let name: Arc<str> = Link::get(&mut self.route, &LinkId::Index(index)).ok().flatten()?.name.into();
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(index, name.clone());
        Some(name)
    }
}
