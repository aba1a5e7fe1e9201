//! The engine's part in flows: which are told, and the reading end for who reads them. Never reads one.

use super::endings::Endings;
use super::refused;
use crate::kernel::{FlowReader, Object};
use backend_ebpf_abi::FlowsWanted;
use cni_core::backend::Result;
use cni_core::flow::Wanted;
use std::num::NonZeroU32;
use tokio::sync::oneshot::{self, Receiver, Sender};

/// What the programs are to tell.
#[derive(Default)]
pub(super) struct Telling {
    pub(super) wanted: Wanted,
    /// One of so many packets of open connections.
    pub(super) sample: Option<NonZeroU32>,
    /// What they were told to.
    written: Option<FlowsWanted>,
    /// Who takes connections that are over out of their map.
    endings: Endings,
    /// Who waits for the reading end, until it is there.
    expecting: Option<Sender<FlowReader>>,
}

impl Telling {
    pub(super) fn new(wanted: Wanted, sample: Option<NonZeroU32>, endings: Endings) -> Self {
        Self { wanted, sample, endings, ..Self::default() }
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
        let wanted = decisions(self.wanted).sampled(self.sample);
        if self.written != Some(wanted) {
            object.want_flows(wanted).map_err(refused)?;
            self.endings.want(self.wanted == Wanted::All);
            self.written = Some(wanted);
        }
        Ok(())
    }
}

const fn decisions(wanted: Wanted) -> FlowsWanted {
    FlowsWanted::of(match wanted {
        Wanted::None => FlowsWanted::NONE,
        Wanted::Denied => FlowsWanted::DENIED,
        Wanted::All => FlowsWanted::ALL,
    })
}
