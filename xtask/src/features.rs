//! Each crate alone, with no feature and with each of its features alone. Cargo unites the features of a workspace, so a
//! build of all hides what one of them lacks. Never runs anything.

use crate::error::{Error, Result};
use crate::metadata::{list, read};
use crate::run::{cargo, run};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A build of everything from nothing takes a few minutes; this is something else.
const AT_MOST: Duration = Duration::from_secs(30 * 60);

/// `cargo xtask features`.
pub(crate) fn check() -> Result<()> {
    let start = Instant::now();
    let chosen = combinations(&read(&["--no-deps"])?);
    for (package, features) in &chosen {
        if start.elapsed() > AT_MOST {
            return Err(Error::TooSlow { chore: "features", at_most: AT_MOST });
        }
        let mut command = cargo(&["check", "--quiet", "--package", package, "--no-default-features"]);
        if let Some(feature) = features {
            command.args(["--features", feature]);
        }
        run(&mut command)?;
    }
    eprintln!("{} combinations of crate and feature compile ({} s).", chosen.len(), start.elapsed().as_secs());
    Ok(())
}

/// Each package without features and with each feature alone; `default` is none of its own.
fn combinations(metadata: &Value) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    for package in list(metadata, "packages") {
        let name = package["name"].as_str().unwrap_or_default();
        all.push((name.to_owned(), None));
        let features = package["features"].as_object().into_iter().flat_map(|features| features.keys());
        all.extend(features.filter(|key| *key != "default").map(|key| (name.to_owned(), Some(key.clone()))));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_is_taken_bare_and_with_each_feature_alone() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "features": {"default": ["x"], "x": [], "y": []}}, {"name": "b", "features": {}},
        ]});
        let found: Vec<_> = combinations(&metadata);
        let found: Vec<_> = found.iter().map(|(name, feature)| (name.as_str(), feature.as_deref())).collect();
        assert_eq!(found, [("a", None), ("a", Some("x")), ("a", Some("y")), ("b", None)]);
    }
}
