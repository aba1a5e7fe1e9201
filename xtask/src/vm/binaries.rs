//! Test binaries as cargo makes them. Never runs one.

use crate::error::{Error, Result};
use crate::run::{cargo, output, root};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A test binary.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Binary {
    pub(super) package: String,
    pub(super) target: String,
    pub(super) path: PathBuf,
    /// Where cargo runs it.
    pub(super) folder: PathBuf,
}

/// Builds test targets by name, with the features of `cargo xtask test`, so that nothing is built twice.
pub(super) fn build(targets: &[&str]) -> Result<Vec<Binary>> {
    if targets.is_empty() {
        // To name none would mean all.
        return Ok(Vec::new());
    }
    let mut command = cargo(&["test", "--no-run", "--quiet", "--workspace", "--all-features"]);
    command.arg("--message-format=json-render-diagnostics");
    for target in targets {
        command.args(["--test", target]);
    }
    read(&output(&mut command)?, &root())
}

/// Reads what cargo says of what it made (the Cargo book, external tools).
fn read(messages: &str, root: &Path) -> Result<Vec<Binary>> {
    let mut all = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value =
            serde_json::from_str(line).map_err(|error| Error::Metadata { detail: error.to_string() })?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let made = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
        let (Some(path), true) = (text(&message["executable"]), made) else { continue };
        let target = text(&message["target"]["name"]).unwrap_or_default();
        let manifest = PathBuf::from(text(&message["manifest_path"]).unwrap_or_default());
        let folder = manifest.parent().unwrap_or(root).to_path_buf();
        let package = folder.strip_prefix(root).unwrap_or(&folder).display().to_string();
        all.push(Binary { package, target, path: path.into(), folder });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

    use super::*;

    #[test]
    fn only_executables_that_are_tests_are_taken() {
        let message = |executable: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/net-linux/Cargo.toml","target":{{"name":"fib"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let text = [
            message("\"/t/fib-1\"", true),
            message("\"/t/program\"", false),
            message("null", true),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "   Compiling something".to_owned(),
        ]
        .join("\n");
        let found = read(&text, Path::new("/p")).unwrap();
        let expected = Binary {
            package: "net-linux".to_owned(),
            target: "fib".to_owned(),
            path: "/t/fib-1".into(),
            folder: "/p/net-linux".into(),
        };
        assert_eq!(found, [expected]);
    }
}
