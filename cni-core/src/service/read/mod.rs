//! Objects of Kubernetes, read into what the table needs of them. Never what other objects say.
//!
//! What cannot be read is left out and reported by its path: one port, one address, one endpoint; or the whole object, where
//! a part without a field would mean something else (a traffic policy, an affinity, a scheduler).

mod addresses;
mod ports;
mod service;
mod slice;

pub(super) use addresses::Placed;
pub(super) use service::{Distribution, Kind, ServiceSpec, family_of, name, service};
pub(super) use slice::{Endpoint, Slice, slice};

use crate::policy::dialect::{Reader, present};
use crate::policy::model::Effect;
use serde_json::{Map, Value};

/// What cannot be read is not in force.
const LEFT_OUT: Effect = Effect::LeftOut;

impl Reader<'_> {
    /// A word under a key, or what no word means. One that is not known is a problem, and means that too.
    fn word_or<T: Copy>(&mut self, map: &Map<String, Value>, path: &str, key: &str, words: &[(&str, T)], none: T) -> T {
        match present(map, key) {
            None => none,
            Some(value) => self.word(LEFT_OUT, value, &format!("{path}.{key}"), words).unwrap_or(none),
        }
    }
}
