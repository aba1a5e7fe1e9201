//! Test binaries and programs as cargo makes them. Never runs one.

use crate::error::{Error, Result};
use crate::run::{cargo, output, root, run, target};
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

/// What was built for a VM.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) tests: Vec<Binary>,
    /// The agent first, and the plugin beside it.
    pub(super) programs: Vec<PathBuf>,
}

/// The agent and the plugin.
const PROGRAMS: &[&str] = &["cnidarian", "cnidarian-cni"];

/// With the features of `cargo xtask test`, so that nothing is built twice.
const WHOLE: &[&str] = &["--quiet", "--workspace", "--all-features"];

/// Builds test targets by name, and where `programs` are needed those too.
pub(super) fn build(targets: &[&str], programs: bool) -> Result<Built> {
    let mut built = Built::default();
    if programs {
        let mut command = cargo(&["build"]);
        command.args(WHOLE).args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
        run(&mut command)?;
        built.programs = PROGRAMS.iter().map(|name| target().join("debug").join(name)).collect();
    }
    // To name none would mean all.
    if !targets.is_empty() {
        let mut command = cargo(&["test", "--no-run", "--message-format=json-render-diagnostics"]);
        command.args(WHOLE).args(targets.iter().flat_map(|name| ["--test", name]));
        built.tests = read(&output(&mut command)?, &root())?;
    }
    Ok(built)
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
