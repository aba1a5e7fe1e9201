//! Whether inner checksums are left to the network card. Never trusts a card's word: the path is tested.
//!
//! A VTEP with transmit checksum offload leaves the inner TCP or UDP checksum to the card below. Some cards, hypervisors
//! and drivers do not fill it in behind a VXLAN header, and the peer drops the packet: pings work, connections hang.
//!
//! ```text
//!  tester                                             peer's responder (UDP port 8473 of its VTEP)
//!    -- probe A: checksum left to the card ------------>  answers if it arrives
//!    -- probe B: checksum computed here --------------->  answers if it arrives
//!    <- answers, checksum computed there ---------------
//!  A answered: sound.   Only B answered: broken, offload goes off.   Neither: says nothing about checksums.
//! ```

mod message;
mod tester;
mod trial;
mod verdict;

pub(crate) use tester::{Task, Tester};
pub(crate) use verdict::VerdictFile;

use crate::config::ChecksumOffload;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the VTEP's transmit checksum offload shall be. Clones are the same decision.
#[derive(Debug, Clone)]
pub struct Decision(Arc<AtomicBool>);

impl Decision {
    /// What the configuration says before anything was tested: on, unless it is `off`.
    #[must_use]
    pub fn new(configured: ChecksumOffload) -> Self {
        Self(Arc::new(AtomicBool::new(configured != ChecksumOffload::Off)))
    }

    /// Whether offload shall be on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Decides. Answers whether that is a change.
    pub fn decide(&self, on: bool) -> bool {
        self.0.swap(on, Ordering::AcqRel) != on
    }
}
