//! Licences of what we build on: only those that ask for no more than a notice. Never judges our own crates.

use crate::error::Result;
use crate::metadata::{list, read};
use std::collections::BTreeSet;

/// SPDX identifiers that may be used, each alone. No copyleft: a user may link us into anything.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
];

/// What we run on; packages for other systems are not built.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// Names each package whose licence is not allowed, with what it says.
pub(crate) fn check(broken: &mut Vec<String>) -> Result<()> {
    let metadata = read(&["--filter-platform", PLATFORM])?;
    let used: BTreeSet<&str> =
        list(&metadata["resolve"], "nodes").iter().filter_map(|node| node["id"].as_str()).collect();
    let used = |id: &str| used.contains(id);
    for package in list(&metadata, "packages") {
        if package["source"].is_null() || !package["id"].as_str().is_some_and(used) {
            continue;
        }
        let [name, version] = ["name", "version"].map(|key| package[key].as_str().unwrap_or_default());
        match package["license"].as_str() {
            None => broken.push(format!("{name} {version} names no licence; read its file, or use another package")),
            Some(licence) if !is_allowed(licence) => {
                broken.push(format!("{name} {version} is under {licence}, which xtask/src/licences.rs does not list"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether an SPDX expression leaves a choice of allowed licences alone. `A/B` is the old way to write `A OR B`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) == Some(true) && rest.is_empty()
}

fn next_is(rest: &mut &[&str], word: &str) -> bool {
    let found = rest.first() == Some(&word);
    if found {
        *rest = &rest[1..];
    }
    found
}

/// `AND` binds tighter than `OR` (SPDX 2.3, annex D.4). `None`: this is no expression.
fn any(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(rest)?;
    while next_is(rest, "OR") {
        allowed |= all(rest)?;
    }
    Some(allowed)
}

fn all(rest: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(rest)?;
    while next_is(rest, "AND") {
        allowed &= one(rest)?;
    }
    Some(allowed)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    if next_is(rest, "(") {
        let allowed = any(rest)?;
        return next_is(rest, ")").then_some(allowed);
    }
    let (licence, after) = rest.split_first()?;
    *rest = after;
    if next_is(rest, "WITH") {
        let (exception, after) = rest.split_first()?;
        *rest = after;
        return Some(ALLOWED.contains(&format!("{licence} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(licence))
}

#[cfg(test)]
mod tests {
    use super::is_allowed;

    #[test]
    fn one_allowed_choice_is_enough_and_all_of_a_conjunction_are_needed() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-2.0-only OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
            "MIT OR GPL-3.0-only AND MPL-2.0",
        ] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in [
            "",
            "GPL-3.0-only",
            "MPL-2.0",
            "MIT AND MPL-2.0",
            "(MIT OR GPL-2.0-only) AND MPL-2.0",
            "Apache-2.0 WITH Something-exception",
            "(MIT",
            "MIT OR",
            "MIT Apache-2.0",
        ] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}
