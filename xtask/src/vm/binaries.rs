//! Test binaries and programs as cargo makes them, and the names of their tests. Never runs a test.

use crate::error::{Error, Result};
use crate::run::{cargo, output, root, target};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

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

/// A test target of ours. Where only programs are built, cargo takes features from what they need without tests, and builds half of
/// the workspace a second time (the Cargo book, feature resolver version 2).
const ANY_TEST: &str = "attach";

/// Builds test targets by name, and where `programs` are needed those too.
pub(super) fn build(targets: &[&str], programs: bool) -> Result<Built> {
    let mut command = cargo(&["build", "--message-format=json-render-diagnostics"]);
    command.args(WHOLE).args(["--test", ANY_TEST]).args(targets.iter().flat_map(|name| ["--test", name]));
    if programs {
        command.args(PROGRAMS.iter().flat_map(|name| ["--bin", name]));
    }
    let tests = read(&output(&mut command)?, &root())?;
    let programs: &[&str] = if programs { PROGRAMS } else { &[] };
    Ok(Built { tests, programs: programs.iter().map(|name| target().join("debug").join(name)).collect() })
}

impl Built {
    /// The binary of a test target.
    pub(super) fn test(&self, package: &str, target: &str) -> Result<&Binary> {
        let binary = self.tests.iter().find(|binary| binary.package == package && binary.target == target);
        binary.ok_or_else(|| Error::NoTest { package: package.to_owned(), target: target.to_owned() })
    }
}

impl Binary {
    /// The names of its tests, in full. It says them itself, and runs none.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let listed = output(Command::new(&self.path).args(["--list", "--format", "terse"]).current_dir(&self.folder))?;
        Ok(names(&listed))
    }
}

/// Reads what a test binary lists (the rustc book, tests: `NAME: test`).
fn names(listed: &str) -> Vec<String> {
    listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
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

    #[test]
    fn names_of_tests_are_those_of_tests_alone() {
        let listed = "a::b: test\nfast: benchmark\nc: test\n\n";
        assert_eq!(names(listed), ["a::b", "c"]);
    }
}
