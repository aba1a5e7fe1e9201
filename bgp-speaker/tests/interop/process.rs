//! A daemon of a peer as a child process. Never outlives the test, whether that ends, panics or is killed.

use net_linux::netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts the daemon and ends the whole process group when standard input does: when the test's process is gone, however.
const TETHER: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & read -r _ <&3; kill -KILL 0"#;

/// A running daemon, the leader of a process group.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program of a Debian package in a namespace, with its output added to `log`. `before` are the words of a
    /// program that prepares something and becomes `program`.
    pub(crate) fn start(
        namespace: &NetNs,
        (package, program): (&str, &str),
        before: &[&str],
        args: &[&str],
        log: &Path,
    ) -> Self {
        let there = Path::new(program).exists();
        assert!(there, "{program} is not there: apt-get install {package} (cargo xtask test does it)");
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", TETHER, "sh"]).args(before).arg(program).args(args).process_group(0);
        command.stdin(Stdio::piped()).stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: namespace.spawn(&mut command).unwrap(), log: log.to_path_buf() }
    }

    fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(-i32::try_from(self.child.id()).unwrap());
        // An empty group is what is wanted too.
        let _ = kill(group, signal);
    }

    /// Kills the daemon, which can't do anything about it.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Stops the daemon where it is, for good.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
