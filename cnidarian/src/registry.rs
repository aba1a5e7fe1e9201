//! The backends of this build. Never a global list: a program takes this value and adds its own.

use cni_core::backend::Registry;

/// Every backend whose feature is on. Add your own with [`Registry::with`].
#[must_use]
pub fn built_in() -> Registry {
    let registry = Registry::default();
    #[cfg(feature = "vxlan")]
    let registry = registry.with(backend_vxlan::Vxlan);
    registry
}
