//! A digest of an object's content, its `resourceVersion` in a directory. Never a defence against forgery.

use crate::store::{Object, Version};
use serde_json::Value;
use std::fmt;

/// FNV-1a with 128 bits (draft-eastlake-fnv, section 5): the same in every process and every version of Rust.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl Digest {
    const START: Self = Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);

    pub(super) fn of(text: &str) -> Self {
        let mut digest = Self::START;
        digest.add(text.as_bytes());
        digest
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    /// Adds a text with its length, so that neighbours cannot be confused.
    fn add_text(&mut self, tag: u8, text: &str) {
        self.add(&[tag]);
        self.add(&(text.len() as u64).to_be_bytes());
        self.add(text.as_bytes());
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Null => self.add(b"z"),
            Value::Bool(value) => self.add(if *value { b"t" } else { b"f" }),
            Value::Number(number) => self.add_text(b'n', &number.to_string()),
            Value::String(text) => self.add_text(b's', text),
            Value::Array(values) => {
                self.add_text(b'a', &values.len().to_string());
                values.iter().for_each(|value| self.add_value(value));
            }
            Value::Object(fields) => {
                // Whether `serde_json` keeps the order of a file is a matter of its features, so sort here.
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(name, _)| *name);
                self.add_text(b'o', &fields.len().to_string());
                for (name, value) in fields {
                    self.add_text(b'k', name);
                    self.add_value(value);
                }
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The version of an object: a digest of all its content but the version.
pub(super) fn version(object: &Object) -> Version {
    let mut digest = Digest::START;
    let mut content = object.clone();
    content.metadata.resource_version = None;
    digest.add_value(&content.to_value());
    Version::new(&digest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The FNV reference code's test vectors for 128 bits: the empty string, and "a".
    #[test]
    fn the_digest_is_fnv_1a_128() {
        assert_eq!(Digest::of("").to_string(), "6c62272e07bb014262b821756295c58d");
        assert_eq!(Digest::of("a").to_string(), "d228cb696f1a8caf78912b704e4a8964");
    }
}
