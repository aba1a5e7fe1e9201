//! Attribute sections that were read before, with their attributes. Bounded; never what came with them.

use crate::types::Attributes;
use std::sync::Arc;

/// Sections that are remembered: a peer that announces a table comes back to few.
const SLOTS: usize = 64;

/// Longer sections are read every time: what is remembered is bounded by this and [`SLOTS`].
const MOST_BYTES: usize = 512;

#[derive(Debug, Clone)]
struct Remembered {
    section: Box<[u8]>,
    attributes: Arc<Attributes>,
}

/// What was read before. Slots are found by a hash of the bytes; a later section takes an earlier one's place.
#[derive(Debug, Default)]
pub(super) struct Known {
    slots: Vec<Option<Remembered>>,
}

impl Known {
    /// The attributes of the very same bytes.
    pub(super) fn find(&self, section: &[u8]) -> Option<Arc<Attributes>> {
        let remembered = self.slots.get(slot(section))?.as_ref()?;
        (*remembered.section == *section).then(|| Arc::clone(&remembered.attributes))
    }

    /// Remembers what was read of a section.
    pub(super) fn remember(&mut self, section: &[u8], attributes: &Arc<Attributes>) {
        if section.len() > MOST_BYTES {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        let remembered = Remembered { section: section.into(), attributes: Arc::clone(attributes) };
        self.slots[slot(section)] = Some(remembered);
    }
}

/// FNV-1a, whose last bytes reach the high bits by one more multiplication. The worst that a peer can do by choosing its
/// bytes is to have them read every time.
fn slot(section: &[u8]) -> usize {
    let hash = section
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    usize::try_from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0) % SLOTS
}
