//! Packages of Debian's suites, fetched and unpacked. Never installs one, and never reads or writes the machine's own lists.

use crate::error::{Error, Result};
use crate::run::{output, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What Debian's archives are signed with; comes with apt.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of Debian's archives has a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Archive {
    Main,
    /// Its indices are small, and the kernel is nearly always there.
    Security,
}

/// A release of Debian, or what is offered beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    pub(super) name: &'static str,
    pub(super) archive: Archive,
}

/// An apt of our own for one suite.
pub(super) struct Apt {
    suite: Suite,
    configuration: PathBuf,
}

impl Apt {
    /// Reads the indices of the suite anew into `folder`.
    pub(super) fn open(suite: Suite, folder: &Path) -> Result<Self> {
        for part in ["lists/partial", "cache/archives/partial"] {
            let path = folder.join(part);
            fs::create_dir_all(&path).map_err(|source| Error::File { path, source })?;
        }
        let (list, configuration) = (folder.join("sources.list"), folder.join("apt.conf"));
        fs::write(&list, line(suite)?).map_err(|source| Error::File { path: list.clone(), source })?;
        let folder = folder.display();
        let text = format!(
            "Dir::Etc::SourceList \"{folder}/sources.list\";\n\
             Dir::Etc::SourceParts \"-\";\n\
             Dir::State::Lists \"{folder}/lists\";\n\
             Dir::Cache \"{folder}/cache\";\n\
             // As on a machine without any package.\n\
             Dir::State::status \"/dev/null\";\n\
             // Not the user that apt has for downloads, who cannot write here.\n\
             APT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\n\
             Acquire::Retries \"3\";\n"
        );
        fs::write(&configuration, text).map_err(|source| Error::File { path: configuration.clone(), source })?;
        let apt = Self { suite, configuration };
        apt.explain("its list of packages", run(apt.command("apt-get").arg("update")))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-qq").env("APT_CONFIG", &self.configuration);
        command
    }

    fn explain<T>(&self, what: &str, result: Result<T>) -> Result<T> {
        result.map_err(|source| Error::NotInSuite {
            what: what.to_owned(),
            suite: self.suite.name.to_owned(),
            source: Box::new(source),
        })
    }

    /// Names of packages that a package needs, the first of each choice.
    pub(super) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let text = output(self.command("apt-cache").args(["depends", package]));
        Ok(dependencies(&self.explain(package, text)?))
    }

    /// Unpacks packages into one folder.
    pub(super) fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let debs = into.with_extension("debs");
        fresh(&debs)?;
        let fetched = run(self.command("apt-get").arg("download").args(packages).current_dir(&debs));
        self.explain(&packages.join(", "), fetched)?;
        let unreadable = |source| Error::File { path: debs.clone(), source };
        for entry in fs::read_dir(&debs).map_err(unreadable)? {
            run(Command::new("dpkg-deb").arg("-x").arg(entry.map_err(unreadable)?.path()).arg(into))?;
        }
        fs::remove_dir_all(&debs).map_err(unreadable)
    }
}

/// An empty folder in the place of whatever was there.
pub(super) fn fresh(path: &Path) -> Result<()> {
    let file = |source| Error::File { path: path.to_path_buf(), source };
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    fs::create_dir_all(path).map_err(file)
}

/// The line of a source list that has a suite.
pub(super) fn line(suite: Suite) -> Result<String> {
    // Where this machine gets Debian from, whatever format its sources have.
    let args = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
    let sources = output(Command::new("apt-get").args(args))?;
    let mirror = mirror(&sources, suite.archive).ok_or(Error::NoMirror { suite: suite.name })?;
    Ok(format!("deb [signed-by={KEYS}] {mirror} {} main\n", suite.name))
}

/// The place of an archive among the places of a machine's sources, or beside one of them.
fn mirror(sources: &str, archive: Archive) -> Option<String> {
    const MAIN: &str = "/debian";
    const SECURITY: &str = "/debian-security";
    let places = || sources.lines().map(|line| line.trim().trim_end_matches('/'));
    let ending = |end: &str| places().find(|place| place.ends_with(end)).map(str::to_owned);
    match archive {
        Archive::Main => ending(MAIN),
        Archive::Security => ending(SECURITY).or_else(|| Some(ending(MAIN)?.strip_suffix(MAIN)?.to_owned() + SECURITY)),
    }
}

/// What `apt-cache depends` says is needed: alternatives are marked with a bar, and only the last has none.
fn dependencies(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut chosen = false;
    for line in text.lines() {
        let (or, rest) = match line.trim_start().strip_prefix('|') {
            Some(rest) => (true, rest),
            None => (false, line.trim_start()),
        };
        if let Some(name) = rest.strip_prefix("Depends: ") {
            if !chosen {
                all.push(name.trim().to_owned());
            }
            chosen = or;
        }
    }
    all
}

/// The part of a path that is known from its end.
pub(super) fn find_folder(under: &Path, end: &str) -> Option<PathBuf> {
    if under.ends_with(end) {
        return Some(under.to_path_buf());
    }
    let folders = fs::read_dir(under).ok()?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders.into_iter().find_map(|entry| find_folder(&entry.path(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_found_among_the_machines_sources_or_beside_them() {
        let both = "http://other.example/apt/\nhttp://mirror.example/debian/\nhttp://mirror.example/debian-security\n";
        assert_eq!(mirror(both, Archive::Main).as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirror(both, Archive::Security).as_deref(), Some("http://mirror.example/debian-security"));
        let main = "http://mirror.example/debian\n";
        assert_eq!(mirror(main, Archive::Security).as_deref(), Some("http://mirror.example/debian-security"));
        assert_eq!(mirror("http://mirror.example/ubuntu\n", Archive::Main), None);
        assert_eq!(mirror("", Archive::Security), None);
    }

    #[test]
    fn the_first_of_a_choice_is_what_a_package_needs() {
        let text = "a\n  Depends: b\n |Depends: c\n  Depends: d\n  Recommends: e\n  Depends: f\n";
        assert_eq!(dependencies(text), ["b", "c", "f"]);
    }
}
