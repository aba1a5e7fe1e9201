//! The backend at a kind of hook, and these hooks in a namespace. Never a test.

use backend_ebpf::EbpfAt;
use backend_ebpf::kernel::{Hook, Hooks};

static TCX: EbpfAt = EbpfAt(Hook::Tcx);
static CLSACT: EbpfAt = EbpfAt(Hook::Clsact);

/// The backend with its programs at hooks of this kind.
pub(crate) fn backend(hook: Hook) -> &'static EbpfAt {
    match hook {
        Hook::Tcx => &TCX,
        Hook::Clsact => &CLSACT,
    }
}

/// Those of the calling thread's network namespace.
pub(crate) fn open(hook: Hook) -> Hooks {
    hook.open().unwrap()
}

/// The index of an interface of the calling thread's network namespace.
pub(crate) fn index(interface: &str) -> u32 {
    nix::net::if_::if_nametoindex(interface).unwrap()
}
