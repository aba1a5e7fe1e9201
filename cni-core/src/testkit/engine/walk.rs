//! Histories: many ways to the same state. Never random beyond their seed.

use crate::backend::{Change, Item};
use std::collections::BTreeMap;

/// A small generator (SplitMix64), so that the suite needs no crate and a seed means the same for ever.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap_or(0)
    }

    /// True once in `times`.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            list.swap(last, self.below(last + 1));
        }
    }
}

/// One step of a history.
#[derive(Clone)]
pub(super) enum Step<I: Item> {
    Stage(Change<I>),
    Commit,
    Resync,
    /// The engine is dropped and opened anew.
    Restart,
}

/// The changes from one state to another, each item at most once.
pub(super) fn changes<I: Item>(from: &BTreeMap<I::Key, I>, to: &BTreeMap<I::Key, I>) -> Vec<Change<I>> {
    let gone = from.keys().filter(|key| !to.contains_key(key)).cloned().map(Change::Remove);
    gone.chain(to.values().cloned().map(Change::Put)).collect()
}

/// A history that ends in `last`, staged and in sync, not committed.
///
/// Changes are reordered, split over commits, squashed into one commit and repeated, and other states come before.
pub(super) fn history<I: Item>(dice: &mut Dice, states: &[Vec<I>], last: &[I]) -> Vec<Step<I>> {
    let by_key = |items: &[I]| items.iter().map(|item| (item.key(), item.clone())).collect::<BTreeMap<_, _>>();
    let mut steps = Vec::new();
    let mut now = BTreeMap::new();
    let mut in_sync = false;
    let mut visits: Vec<BTreeMap<I::Key, I>> = Vec::new();
    for _ in 0..dice.below(4) {
        visits.push(by_key(&states[dice.below(states.len())]));
    }
    visits.push(by_key(last));
    for state in visits {
        let mut batch = changes(&now, &state);
        dice.shuffle(&mut batch);
        for change in batch {
            let repeated = dice.once_in(4).then(|| change.clone());
            steps.push(Step::Stage(change));
            steps.extend(repeated.map(Step::Stage));
            match dice.below(12) {
                0 => steps.push(Step::Commit),
                1 => steps.push(Step::Resync),
                2 if !in_sync => {
                    in_sync = true;
                    steps.push(Step::Stage(Change::InSync));
                }
                _ => {}
            }
        }
        now = state;
        if dice.once_in(4) {
            // A restarted process stages all there is, and is not in sync before.
            steps.push(Step::Restart);
            in_sync = false;
            steps.extend(changes(&BTreeMap::new(), &now).into_iter().map(Step::Stage));
        }
    }
    if !in_sync || dice.once_in(4) {
        steps.push(Step::Stage(Change::InSync));
    }
    steps
}
