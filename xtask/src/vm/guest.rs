//! What one VM holds besides its kernel, and its life from first file to last word. Never shared between VMs.

use super::binaries::Built;
use super::cpio::Archive;
use super::kernel::Kernel;
use super::protocol::{self, Case, Ended, Outcome};
use super::qemu::Screen;
use super::suites::{Suite, What};
use super::{BOOT, Options, programs, qemu};
use crate::error::{Error, Result};
use crate::packages;
use crate::run::root;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The first process of every VM.
const INIT: &str = include_str!("init.sh");

/// Users and names of a machine that has one user.
const FILES: &[(&str, &str)] = &[
    ("/etc/passwd", "root:x:0:0:root:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
];
/// Names of protocols and ports, as this machine has them: nft asks for them.
const NAMES: &[&str] = &["/etc/protocols", "/etc/services"];
const FOLDERS: &[&str] = &["/dev", "/proc", "/sys", "/run", "/tmp", "/etc/iproute2", "/var"];

/// Variables that go from our environment into a VM's, and beginnings of such.
const VARIABLES: &[&str] = &["RUST_BACKTRACE", "RUST_LOG", "RUST_TEST_THREADS", "PROPTEST_", "CNIDARIAN_"];

/// What else a VM's programs find, unless ours says otherwise. An engine's laws over all states take 5 to 10 minutes under
/// emulation, for one mode of one backend; what a second is for is done in four, or in eight where others
/// use the machine too; and what a stock kernel has is not skipped.
const DEFAULTS: &[(&str, &str)] =
    &[("CNIDARIAN_CONFORMANCE_STATES", "3"), ("CNIDARIAN_PATIENCE", "8"), ("CNIDARIAN_STOCK_KERNEL", "1")];

/// Of the workspace.
const SCENARIOS: &str = "testlab/scenarios";
const CASES: &str = "testlab/cases";

/// How much longer a case may take than a person would think, for the VM as a whole has a limit too.
const REST: Duration = Duration::from_secs(30);

/// A VM before and while it runs. Its folder goes with it.
pub(super) struct Guest {
    cache: PathBuf,
    kernel: Kernel,
    folder: PathBuf,
    /// Files and folders of this machine that it has too.
    files: Vec<PathBuf>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        // What is left goes with the next one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Guest {
    /// Of those of one process, with a kernel each.
    pub(super) fn new(cache: &Path, kernel: Kernel) -> Result<Self> {
        sweep(cache);
        let folder = cache.join(format!("{RUNS}{}-{}", std::process::id(), kernel.name));
        super::debian::fresh(&folder)?;
        Ok(Self { cache: cache.to_path_buf(), kernel, folder, files: Vec::new() })
    }

    /// Takes a program by the name that a person would type here. What this machine does not have may be in the VM.
    pub(super) fn program(&mut self, name: &str) -> Result<()> {
        if name.contains('/') {
            return self.file(Path::new(name));
        }
        self.files.extend(packages::find(name));
        Ok(())
    }

    /// Takes a file or a folder under its own name.
    pub(super) fn file(&mut self, path: &Path) -> Result<()> {
        let found = std::path::absolute(path).and_then(|path| fs::metadata(&path).map(|_| path));
        self.files.push(found.map_err(|source| Error::File { path: path.to_path_buf(), source })?);
        Ok(())
    }

    /// What a suite needs, and how it is run.
    pub(super) fn suite(&mut self, suite: &Suite, filters: &[String], built: &Built) -> Result<Case> {
        if suite.needs_programs() {
            self.files.extend_from_slice(&built.programs);
        }
        let folder = root();
        let lab = |words: &[&str]| {
            let agent = built.programs.first().map(|agent| shown(agent)).unwrap_or_default();
            std::iter::once(agent).chain(words.iter().map(|word| (*word).to_owned())).collect()
        };
        let (folder, words) = match suite.what {
            What::Tests { package, target, .. } => {
                let binary = built.test(package, target)?;
                self.files.push(binary.path.clone());
                let words = std::iter::once(shown(&binary.path)).chain(filters.iter().cloned()).collect();
                (binary.folder.clone(), words)
            }
            What::Lab(name) => {
                let scenario = folder.join(SCENARIOS).join(name).with_extension("yaml");
                self.files.push(scenario.clone());
                (folder, lab(&["lab", "run", &shown(&scenario)]))
            }
            What::Verify { backend, policy } => {
                let cases = folder.join(CASES);
                self.files.push(cases.clone());
                let words = ["lab", "verify", "--backend", backend, "--policy", policy, &shown(&cases)];
                (folder, lab(&words))
            }
        };
        Ok(Case { name: suite.name(), folder, words, limit: Some(suite.limit) })
    }

    /// Boots, runs the cases one after the other, and tells how each ended.
    pub(super) fn boot(&self, options: &Options, cases: &[Case], screen: Screen) -> Result<Vec<Ended>> {
        let ready = self.kernel.ready(&self.cache, options.refresh)?;
        let begun = Instant::now();
        let initrd = self.folder.join("initrd");
        self.write(&initrd, &ready.modules, cases, screen == Screen::Person).map_err(|error| match error {
            Fault::File(source) => Error::File { path: initrd.clone(), source },
            Fault::Other(error) => error,
        })?;
        let size = fs::metadata(&initrd).map_or(0, |file| file.len() >> 20);
        eprintln!("Booting {} ({size} MiB of files, made in {} ms) ...", ready.release, begun.elapsed().as_millis());
        let limit = cases.iter().map(|case| Some(case.limit? + REST)).sum::<Option<Duration>>();
        let limit = limit.map_or(Duration::MAX, |limit| limit + BOOT);
        let size = qemu::Size { memory_mib: options.memory, boot: BOOT, limit };
        let remains = qemu::boot(&ready, &initrd, &size, screen, &self.folder)?;
        if !protocol::is_up(&remains.said) {
            return Err(Error::NotUp { log: remains.log });
        }
        let outcomes = protocol::outcomes(&remains.said, cases.len());
        if outcomes.iter().any(|ended| ended.outcome == Outcome::Lost) {
            eprintln!("The end of the kernel's log:\n{}", remains.log);
        }
        Ok(outcomes)
    }

    fn write(&self, to: &Path, modules: &Path, cases: &[Case], person: bool) -> Result<(), Fault> {
        let mut out = BufWriter::new(File::create(to)?);
        io::copy(&mut File::open(modules)?, &mut out)?;
        let mut archive = Archive::new(out);
        archive.file(Path::new("/init"), 0o755, INIT.as_bytes())?;
        archive.file(Path::new("/plan"), 0o644, protocol::plan(cases).as_bytes())?;
        archive.file(Path::new("/plan.environment"), 0o644, environment(person).as_bytes())?;
        for (path, text) in FILES {
            archive.file(Path::new(path), 0o644, text.as_bytes())?;
        }
        for path in NAMES.iter().map(Path::new).filter(|path| path.exists()) {
            archive.copy(path, path)?;
        }
        for path in FOLDERS.iter().map(Path::new).chain(cases.iter().map(|case| case.folder.as_path())) {
            archive.folder(path)?;
        }
        programs::tools(&mut archive)?;
        programs::files(&mut archive, &self.files, &self.folder)?;
        archive.finish()?;
        Ok(())
    }
}

/// What an archive can't be written for.
enum Fault {
    File(io::Error),
    Other(Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::File(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Lines of a shell that set what the VM's first process and its programs find in their environment.
fn environment(person: bool) -> String {
    let ours = std::env::vars().filter(|(name, _)| VARIABLES.iter().any(|beginning| name.starts_with(beginning)));
    let mut all: Vec<(String, String)> =
        DEFAULTS.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    all.extend(ours);
    if person {
        all.push(("VM_TERMINAL".to_owned(), "1".to_owned()));
        all.extend(std::env::var("TERM").map(|term| ("TERM".to_owned(), term)));
        // As the kernel keeps it for our terminal: rows and columns.
        let size = crate::run::output(Command::new("stty").arg("size").stdin(Stdio::inherit()));
        let size = size.unwrap_or_default();
        let sides = ["VM_ROWS", "VM_COLUMNS"].into_iter().zip(size.split_whitespace());
        all.extend(sides.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    all.iter().map(|(name, value)| format!("export {name}={}\n", protocol::quoted(value))).collect()
}

/// Beginning of the names of folders that one VM has for itself; our process and the kernel follow.
const RUNS: &str = "run-";

/// Removes folders of VMs whose process is gone.
fn sweep(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(RUNS)?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Somebody else may be at it.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
