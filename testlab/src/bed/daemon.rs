//! A daemon beside the nodes, in a namespace. Never the system's own, and never outlives the test, whether that ends, panics
//! or is killed.

use net_linux::netns::NetNs;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Starts the daemon and ends the whole process group when standard input does: when the test's process is gone, however.
const TETHER: &str = r#"exec 3<&0; "$@" </dev/null 3<&- & read -r _ <&3; kill -KILL 0"#;

/// A running daemon. It ends with this.
pub struct Daemon {
    /// The leader of its process group.
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program of a Debian package in a namespace, with its output added to `log`.
    pub fn start(namespace: &NetNs, (package, program): (&str, &str), args: &[&str], log: &Path) -> Self {
        assert!(Path::new(program).exists(), "{program} is not there: apt-get install {package}");
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", TETHER, "sh", program]).args(args).process_group(0);
        command.stdin(Stdio::piped()).stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: namespace.spawn(&mut command).unwrap(), log: log.to_path_buf() }
    }

    /// What it printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = Pid::from_raw(-i32::try_from(self.child.id()).unwrap());
        // An empty group is what is wanted too.
        let _ = kill(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}
