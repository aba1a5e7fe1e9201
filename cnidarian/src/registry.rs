//! The backends of this build. Never a global list: a program takes this value and adds its own.

use cni_core::backend::Registry;

/// Every backend, policy engine and service proxy whose feature is on. Add your own with [`Registry::with`],
/// [`Registry::with_policy`] and [`Registry::with_proxy`].
#[must_use]
pub fn built_in() -> Registry {
    let registry = Registry::default();
    #[cfg(feature = "vxlan")]
    let registry = registry.with(backend_vxlan::Vxlan);
    #[cfg(feature = "bgp")]
    let registry = registry.with(backend_bgp::Bgp);
    #[cfg(feature = "ebpf")]
    let registry = registry.with(backend_ebpf::Ebpf);
    #[cfg(feature = "policy-nftables")]
    let registry = registry.with_policy(policy_nftables::Nftables);
    #[cfg(feature = "policy-ebpf")]
    let registry = registry.with_policy(backend_ebpf::engine::EbpfPolicy);
    #[cfg(feature = "services-ebpf")]
    let registry = registry.with_proxy(backend_ebpf::service::EbpfServices);
    #[cfg(feature = "services-ipvs")]
    let registry = registry.with_proxy(backend_ipvs::IpvsServices);
    registry
}
