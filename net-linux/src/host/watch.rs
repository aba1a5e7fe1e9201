//! Who changes what a host has, as it happens. Never repairs: it asks for a resync.

use crate::monitor::{Scope, Settings};
use crate::nft::{NftEvent, NftWatch};
use crate::{marks, masquerade, tunnel_ends, untracked};
use async_trait::async_trait;
use cni_core::backend::{DriftWatch, Error, ErrorKind, Result};

/// What `rp_filter` of a tunnel device has to be: loose, since packets come in by the tunnel from where routes lead past it.
const RP_FILTER_LOOSE: i32 = 2;

/// Wakes when somebody else changes what a host has in nftables; never where there is no nftables.
pub struct Watch {
    nft: Option<NftWatch>,
    own_port: Option<u32>,
}

impl Watch {
    /// Listens in the network namespace of the calling thread, within a tokio runtime. Changes with `own_port` are ours, see
    /// [`Host::nft_port`](super::Host::nft_port).
    #[must_use]
    pub fn open(own_port: Option<u32>) -> Self {
        Self { nft: NftWatch::open().ok(), own_port }
    }

    fn matters(&self, event: &NftEvent) -> bool {
        match event {
            NftEvent::Changed(change) => {
                // Policy has its chains and sets in the same table.
                let ours = [masquerade::PREFIX, untracked::PREFIX, tunnel_ends::PREFIX];
                let is_ours = |name: &str| ours.iter().any(|prefix| name.starts_with(prefix));
                let concerns_us = change.name.as_ref().is_none_or(|name| is_ours(name.as_str()));
                change.table.name.as_str() == marks::NFT_TABLE && Some(change.port) != self.own_port && concerns_us
            }
            NftEvent::Lost => true,
        }
    }
}

#[async_trait]
impl DriftWatch for Watch {
    async fn changed(&mut self) -> Result<()> {
        loop {
            let Some(watch) = &mut self.nft else { return std::future::pending().await };
            let heard = watch.next().await;
            let events =
                heard.map_err(|error| Error::new(ErrorKind::Kernel, "watch", "nftables", &error).because(error))?;
            if events.iter().any(|event| self.matters(event)) {
                return Ok(());
            }
        }
    }
}

/// Whether settings are not as nodes with pods want them: forwarding is off, or a tunnel device filters strictly. Our own
/// writes are told too, and so are those of every new device.
pub fn are_amiss(settings: &Settings, is_tunnel: impl Fn(u32) -> bool) -> bool {
    match settings.scope {
        Scope::All => settings.forwarding == Some(0),
        Scope::Device(index) => is_tunnel(index) && settings.rp_filter.is_some_and(|value| value != RP_FILTER_LOOSE),
        Scope::Default => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: u32 = 7;

    fn told(scope: Scope, forwarding: Option<i32>, rp_filter: Option<i32>) -> Settings {
        Settings { v6: false, scope, forwarding, rp_filter, proxy_neighbour: None }
    }

    #[test]
    fn only_forwarding_of_all_and_strict_filtering_of_a_tunnel_are_amiss() {
        let amiss =
            |scope, forwarding, rp_filter| are_amiss(&told(scope, forwarding, rp_filter), |index| index == TUNNEL);
        assert!(amiss(Scope::All, Some(0), None));
        assert!(!amiss(Scope::All, Some(1), Some(1)), "the greater of all and the device counts, and that stays loose");
        assert!(!amiss(Scope::Default, Some(0), Some(1)));
        assert!(amiss(Scope::Device(TUNNEL), None, Some(1)));
        assert!(!amiss(Scope::Device(TUNNEL), Some(0), Some(RP_FILTER_LOOSE)));
        assert!(!amiss(Scope::Device(TUNNEL), None, None));
        assert!(!amiss(Scope::Device(8), Some(0), Some(1)));
    }
}
