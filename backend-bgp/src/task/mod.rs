//! The speaker of this process, running: a thread of its own, so that a full table does not hold up attachments. Never
//! decides what the speaker is: that stands in the table.
//!
//! ```text
//!  driver --> Table --changed--> +---------+ --config, announcements--> Speaker + Transport <--BGP--> peers
//!                                | control |                               |
//!  kernel --Monitor------------> |         | <--routes, next hops (mail)---+
//!         <--Fib----------------- +---------+
//! ```
//!
//! Killed or stopped, it says nothing to its peers: they keep our routes (RFC 4724), the kernel keeps theirs.

mod carry;
mod control;
mod guard;
mod mail;
mod protect;
pub(crate) mod setup;

use crate::table::Table;
use cni_core::backend::{Error, ErrorKind, Result};
use net_linux::netns::NetNs;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A running speaker. It ends with this.
#[derive(Debug)]
pub(crate) struct Task {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    /// Starts the thread in the network namespace of the calling one. The speaker begins when its table is in sync.
    pub(crate) fn start(table: Table) -> Result<Self> {
        let failed = |detail: &dyn std::fmt::Display| Error::new(ErrorKind::Kernel, "start", "bgp speaker", detail);
        let netns = NetNs::current().map_err(|error| failed(&error))?;
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            if let Err(error) = netns.enter() {
                tracing::error!(%error, "the BGP speaker does not get into its network namespace");
                return;
            }
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    tracing::error!(%error, "the BGP speaker has no runtime");
                    return;
                }
            };
            runtime.block_on(async {
                tokio::select! {
                    () = control::run(&table) => {}
                    _ = stopped => {}
                }
            });
            // Whoever reads a file that does not answer is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("bgp".to_owned()).spawn(work).map_err(|error| failed(&error))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it panicked with was printed then.
            let _ = thread.join();
        }
    }
}
