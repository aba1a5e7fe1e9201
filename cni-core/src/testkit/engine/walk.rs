//! Histories: many ways to the same state. Never random beyond their seed.

use crate::backend::{Change, Item};
use crate::testkit::dice::Dice;
use std::collections::BTreeMap;

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
