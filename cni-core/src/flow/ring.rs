//! The last records of a node, in memory. Never says that it has all when it has not.
//!
//! ```text
//! numbers   0 1 2 3 4 5 6 7 8 9 10        3 and 4 were lost before they were read, 0 to 2 gave way to newer ones
//! held                  5 6 7 8 9 10      a page from 2 on: 5 to 10, and 3 lost
//! ```

use super::filter::Filter;
use super::record::Flow;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;

/// A place among the events of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Which ring: an agent that was started anew has another.
    pub ring: u64,
    /// The number of the event, from 0.
    pub number: u64,
}

/// Which records somebody wants to have next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Query {
    /// Which.
    pub filter: Filter,
    /// From here on, the oldest first; `None`: the newest that are wanted.
    pub from: Option<Place>,
    /// At most so many; at least one is taken.
    pub most: usize,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// Wanted records, the oldest first.
    pub flows: Vec<Arc<Flow>>,
    /// Events up to [`next`](Self::next) that nobody can have any more, whether they were wanted or not: counted from where
    /// the query begins, or from the first of `flows`.
    pub lost: u64,
    /// Where to go on.
    pub next: Place,
    /// There are more from there on now.
    pub more: bool,
}

/// Records in a bounded memory. Each event has a number, lost ones too.
///
/// # Laws
/// 1. Of the events from a query's beginning to the page's `next`, each is in the page, or held and not wanted, or counted as
///    lost: never two of these, never none.
/// 2. What is held is the newest.
/// 3. A place in another ring is before all of this one.
#[derive(Debug)]
pub struct Ring {
    id: u64,
    capacity: NonZeroUsize,
    held: VecDeque<(u64, Arc<Flow>)>,
    next: u64,
}

impl Ring {
    /// Room for so many records. No ring before had this id.
    #[must_use]
    pub const fn new(id: u64, capacity: NonZeroUsize) -> Self {
        Self { id, capacity, held: VecDeque::new(), next: 0 }
    }

    /// The next record.
    pub fn push(&mut self, flow: Flow) {
        if self.held.len() == self.capacity.get() {
            self.held.pop_front();
        }
        self.held.push_back((self.next, Arc::new(flow)));
        self.next += 1;
    }

    /// So many events were lost here.
    pub fn lose(&mut self, events: u64) {
        self.next += events;
    }

    /// What a query finds now.
    #[must_use]
    pub fn page(&self, query: &Query) -> Page {
        let most = query.most.max(1);
        let wanted = |flow: &&(u64, Arc<Flow>)| query.filter.has(&flow.1);
        let begin = match query.from {
            Some(from) if from.ring == self.id => from.number.min(self.next),
            Some(_) => 0,
            None => self.held.iter().rev().filter(wanted).take(most).last().map_or(self.next, |first| first.0),
        };
        let index = self.held.partition_point(|(number, _)| *number < begin);
        let mut flows = Vec::new();
        let (mut next, mut seen) = (self.next, 0);
        for held in self.held.range(index..) {
            if flows.len() == most {
                next = held.0;
                break;
            }
            seen += 1;
            if wanted(&held) {
                flows.push(held.1.clone());
            }
        }
        let (lost, more) = (next - begin - seen, next < self.next);
        Page { flows, lost, next: Place { ring: self.id, number: next }, more }
    }
}
