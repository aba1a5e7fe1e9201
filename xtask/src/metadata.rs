//! What cargo knows of our packages and of those that they use. Never downloads where everything is there.

use crate::error::{Error, Result};
use crate::run::{cargo, output};
use serde_json::Value;

/// `cargo metadata` with further arguments.
pub(crate) fn read(args: &[&str]) -> Result<Value> {
    let ask = |more: &[&str]| output(&mut cargo(&[&["metadata", "--format-version", "1"], args, more].concat()));
    let text = ask(&["--offline"]).or_else(|_| ask(&[]))?;
    serde_json::from_str(&text).map_err(|error| Error::Metadata { detail: error.to_string() })
}

/// A list in it.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}
