//! The emulator: makes sure that there is one, and boots one VM with it. Never knows what runs inside.

use super::debian::{self, Archive, Suite};
use super::kernel::Ready;
use super::protocol;
use crate::error::{Error, Result};
use crate::packages;
use crate::run::{output, run};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
/// Earlier ones crash kernels from 6.12 on at random under emulation.
const NEEDED: u32 = 10;
/// All parts, so that a part that is there already is not taken away for being of another version.
const PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/// The release whose own QEMU is too old, and where it finds a newer one.
const OLD_RELEASE: &str = "bookworm";
const BACKPORTS: Suite = Suite { name: "bookworm-backports", archive: Archive::Main };

/// Fast under emulation: no workarounds for processors, no self-tests of ciphers, no wait for a clock or for randomness.
/// An oops ends the VM, for what comes after it tells nothing.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 oops=panic mitigations=off tsc=reliable random.trust_cpu=on \
     rcupdate.rcu_expedited=1 \
     cryptomgr.notests=1 initcall_blacklist=jent_mod_init,crypto_kdf108_init,init_encrypted";

/// Lines of the kernel's log that are shown when a VM ends badly.
const LOG_LINES: usize = 40;
const POLL: Duration = Duration::from_millis(20);

/// How large a VM is, and how long it may take.
pub(super) struct Size {
    pub(super) memory_mib: u32,
    /// Until it is up, and until it ends.
    pub(super) boot: Duration,
    pub(super) limit: Duration,
}

/// Where a VM's console is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Screen {
    /// Our standard output.
    Output,
    /// The same beside others: each line begins with a word.
    Among(&'static str),
    /// Our standard output, and for a person our standard input too.
    Person,
}

/// What a VM left.
pub(super) struct Remains {
    /// All that came on the second serial port.
    pub(super) said: String,
    /// The kernel's log, its end.
    pub(super) log: String,
}

/// Installs the emulator when there is none of a good version.
pub(super) fn install(scratch: &Path) -> Result<()> {
    if version().is_some_and(|(major, _)| major >= NEEDED) {
        return Ok(());
    }
    eprintln!("Missing on this machine, to be installed from Debian:\n  {:28} runs VMs", PACKAGES[0]);
    let apt = packages::apt(&[QEMU], PACKAGES, false)?;
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let old = release.lines().any(|line| line == format!("VERSION_CODENAME={OLD_RELEASE}"));
    run(&mut apt(&["update"]))?;
    let (list, suffix) =
        if old { (Some(backports(&apt, scratch)?), format!("/{}", BACKPORTS.name)) } else { (None, String::new()) };
    let mut install = apt(&["install", "-y", "--no-install-recommends", "--no-remove"]);
    if let Some(list) = &list {
        install.arg("-o").arg(format!("Dir::Etc::SourceList={}", list.display()));
    }
    let names = PACKAGES.iter().map(|package| format!("{package}{suffix}"));
    let installed = run(install.args(names).stdout(std::io::stderr()));
    let suite = if old { BACKPORTS.name } else { "own release" };
    installed.map_err(|source| Error::NotInSuite {
        what: PACKAGES[0].into(),
        suite: suite.into(),
        source: Box::new(source),
    })?;
    match version() {
        Some((major, _)) if major >= NEEDED => Ok(()),
        Some((_, found)) => Err(Error::OldQemu { found, needed: NEEDED }),
        None => Err(Error::NoProgram { program: QEMU.to_owned() }),
    }
}

/// Reads the index of backports beside the machine's own, whose sources stay as they are: the next `apt-get update`
/// forgets it. Answers with a list that has both.
fn backports(apt: &impl Fn(&[&str]) -> Command, scratch: &Path) -> Result<PathBuf> {
    let file = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { path, source }
    };
    fs::create_dir_all(scratch).map_err(file(scratch))?;
    let line = debian::line(BACKPORTS)?;
    let alone = scratch.join("backports.list");
    fs::write(&alone, &line).map_err(file(&alone))?;
    let list = format!("Dir::Etc::SourceList={}", alone.display());
    let options = ["-o", &list, "-o", "Dir::Etc::SourceParts=-", "-o", "APT::Get::List-Cleanup=0", "update"];
    run(&mut apt(&options)).map_err(|source| Error::NotInSuite {
        what: "its list of packages".to_owned(),
        suite: BACKPORTS.name.to_owned(),
        source: Box::new(source),
    })?;
    let own = fs::read_to_string("/etc/apt/sources.list").unwrap_or_default();
    let both = scratch.join("sources.list");
    fs::write(&both, format!("{own}\n{line}")).map_err(file(&both))?;
    Ok(both)
}

/// The version of the emulator that is there: the first number, and all of it.
fn version() -> Option<(u32, String)> {
    packages::find(QEMU)?;
    major(&output(Command::new(QEMU).arg("--version")).ok()?)
}

fn major(text: &str) -> Option<(u32, String)> {
    let version = text.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    Some((version.split('.').next()?.parse().ok()?, version.to_owned()))
}

/// Boots and waits for the end. `folder` is for files of this VM alone.
pub(super) fn boot(kernel: &Ready, initrd: &Path, size: &Size, screen: Screen, folder: &Path) -> Result<Remains> {
    let (log, said) = (folder.join("kernel.log"), folder.join("said"));
    let mut command = Command::new("setpriv");
    // Whatever becomes of us, no VM stays.
    command.args(["--pdeathsig", "KILL", QEMU]);
    command.args(["-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-m").arg(size.memory_mib.to_string());
    command.arg("-kernel").arg(&kernel.vmlinux).arg("-initrd").arg(initrd).args(["-append", COMMAND_LINE]);
    command.arg("-serial").arg(format!("file:{}", log.display()));
    command.arg("-serial").arg(format!("file:{}", said.display()));
    command.args(["-chardev", "stdio,id=console,signal=off"]);
    command.args(["-device", "virtio-serial-pci", "-device", "virtconsole,chardev=console"]);
    if screen != Screen::Person {
        command.stdin(Stdio::null());
        // A Ctrl-C of a person ends us, and us alone: we end the VM.
        command.process_group(0);
    }
    let start = |source| Error::Start { command: QEMU.to_owned(), source };
    if let Screen::Among(_) = screen {
        command.stdout(Stdio::piped());
    }
    let mut child = command.spawn().map_err(start)?;
    let printing = match (screen, child.stdout.take()) {
        (Screen::Among(word), Some(lines)) => Some(std::thread::spawn(move || print(word, lines))),
        _ => None,
    };
    let read =
        |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let (begun, mut is_up) = (Instant::now(), false);
    while child.try_wait().map_err(start)?.is_none() {
        is_up = is_up || protocol::is_up(&read(&said));
        if begun.elapsed() > if is_up { size.limit } else { size.boot } {
            // It may have ended in between.
            let _ = child.kill();
            child.wait().map_err(start)?;
            break;
        }
        std::thread::sleep(POLL);
    }
    if let Some(printing) = printing {
        // It has nothing to answer.
        let _ = printing.join();
    }
    let text = read(&log);
    let lines: Vec<&str> = text.lines().collect();
    Ok(Remains { said: read(&said), log: lines[lines.len().saturating_sub(LOG_LINES)..].join("\n") })
}

/// Prints lines as they come, each behind a word. What is no text is shown as such.
fn print(word: &str, lines: impl std::io::Read) {
    for line in BufReader::new(lines).split(b'\n').map_while(std::io::Result::ok) {
        println!("{word:>6} | {}", String::from_utf8_lossy(&line));
    }
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn a_version_is_read_with_and_without_what_debian_adds() {
        let debian = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright (c) 2003-2025\n";
        assert_eq!(major(debian), Some((10, "10.0.2".to_owned())));
        assert_eq!(major("QEMU emulator version 7.2.17\n"), Some((7, "7.2.17".to_owned())));
        assert_eq!(major("something else"), None);
    }
}
