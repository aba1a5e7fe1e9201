//! The engine's part in flows: which are told, and the reading end for who reads them. Never reads one.

use super::refused;
use crate::kernel::{FlowReader, Object};
use backend_ebpf_abi::FlowsWanted;
use cni_core::backend::Result;
use cni_core::flow::Wanted;
use tokio::sync::oneshot::{self, Receiver, Sender};

/// What the programs are to tell.
#[derive(Default)]
pub(super) struct Telling {
    pub(super) wanted: Wanted,
    /// What they were told to.
    written: Option<Wanted>,
    /// Who waits for the reading end, until it is there.
    expecting: Option<Sender<FlowReader>>,
}

impl Telling {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Gets the reading end when there are programs. There is one.
    pub(super) fn reader(&mut self) -> Receiver<FlowReader> {
        let (sender, receiver) = oneshot::channel();
        self.expecting = Some(sender);
        receiver
    }

    /// These programs are about to be put in force. All of this process tell through the same maps, so the first ones have the
    /// reading end.
    pub(super) fn begin(&mut self, object: &mut Object) -> Result<()> {
        if let Some(expecting) = self.expecting.take() {
            match object.flows() {
                // Who does not want it any more need not get it.
                Ok(reader) => drop(expecting.send(reader)),
                Err(error) => {
                    self.expecting = Some(expecting);
                    return Err(refused(error));
                }
            }
        }
        self.tell(object)
    }

    /// Tells the programs what is wanted, where that is another thing than before.
    pub(super) fn tell(&mut self, object: &mut Object) -> Result<()> {
        if self.written != Some(self.wanted) {
            object.want_flows(number(self.wanted)).map_err(refused)?;
            self.written = Some(self.wanted);
        }
        Ok(())
    }
}

const fn number(wanted: Wanted) -> FlowsWanted {
    match wanted {
        Wanted::None => FlowsWanted::None,
        Wanted::Denied => FlowsWanted::Denied,
        Wanted::All => FlowsWanted::All,
    }
}
