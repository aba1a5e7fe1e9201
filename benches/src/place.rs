//! Where a figure is taken that needs namespaces of its own: a network without anybody else, and a BPF file system that ends with it.

use net_linux::netns::NetNs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::error::Error;

/// Runs `work` on a thread in a new network namespace whose loopback interface is up, with a BPF file system of its own.
///
/// # Errors
/// Namespaces cannot be made, which needs root; or those of `work`.
pub fn apart<T: Send>(
    work: impl FnOnce() -> Result<T, Box<dyn Error + Send + Sync>> + Send,
) -> Result<T, Box<dyn Error + Send + Sync>> {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
        mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>)?;
        testlab::bed::run("ip link set lo up");
        work()
    };
    NetNs::new()?.run(inside)?
}
