//! What this kernel can do. Never leaves anything behind but a loaded module.

use crate::driver::everything;
use crate::rules::table;
use cni_core::backend::{Capabilities, Capability, Support};
use net_linux::ipvs::Ipvs;
use net_linux::nft::Nft;
use std::path::Path;

/// The capabilities of services on IPVS in this network namespace.
#[must_use]
pub fn probe() -> Capabilities {
    let v6 = Path::new("/proc/sys/net/ipv6").exists();
    let capabilities = Capabilities::default()
        .with(Capability::Ipv4)
        .probed(Capability::Ipv6, v6.then_some(()).ok_or("the kernel was started without IPv6"));
    let refusal = refusal();
    let support = || refusal.as_ref().map_or(Ok(()), Err);
    [Capability::Services, Capability::OutsideClients, Capability::SurvivesAgent]
        .into_iter()
        .fold(capabilities, |capabilities, each| capabilities.probed(each, support()))
}

fn refusal() -> Option<String> {
    if let Err(error) = Ipvs::open_loading() {
        return Some(format!(
            "this kernel has no IPVS ({error}): load its module ip_vs, or choose another engine for services"
        ));
    }
    let mut nft = match Nft::open() {
        Ok(nft) => nft,
        Err(error) => return Some(error.to_string()),
    };
    match nft.would_take(everything(), table().family) {
        Support::Yes => None,
        Support::No { reason } => Some(reason),
    }
}
