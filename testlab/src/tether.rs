//! A child process that cannot outlive its owner. Never a daemon: when the owner dies, however, the child is killed.
//!
//! The owner holds a pipe; the tether, a small process between owner and child, ends the child when the pipe closes.
//! (A parent-death signal would not do: it follows the thread that started the child, and that thread has ended.)

use net_linux::netns::{NetNs, NetNsError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long a child may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// A tethered child that could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum TetherError {
    /// The namespace or the tether itself.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// The log file.
    #[error("log {path}: {source}")]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The child did not start.
    #[error("{program} did not start, see {log}")]
    Start {
        /// The program.
        program: String,
        /// Where it said why.
        log: PathBuf,
    },
}

/// The owner's end.
#[derive(Debug)]
pub struct Tethered {
    tether: Child,
    /// Closed to end the child.
    pipe: Option<ChildStdin>,
    pid: Pid,
}

impl Tethered {
    /// Starts `program` inside `namespace` with its output in `log`. `cnidarian` is the program that has
    /// `lab tether`, see [`serve`].
    ///
    /// # Errors
    /// [`TetherError`].
    pub fn start(
        cnidarian: &Path,
        namespace: &NetNs,
        program: &Path,
        args: &[&str],
        log: &Path,
    ) -> Result<Self, TetherError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|source| TetherError::Log { path: log.to_path_buf(), source })?;
        let mut command = Command::new(cnidarian);
        command.args(["lab", "tether", "--"]).arg(program).args(args);
        // A group of its own: Ctrl-C is for the owner, who then ends the child.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file).process_group(0);
        let mut tether = namespace.spawn(&mut command)?;
        let pipe = tether.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = tether.stdout.take() {
            // An unreadable line is no process id, and that is the error below.
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let Ok(pid) = line.trim().parse() else {
            drop(pipe);
            let _ = tether.wait();
            return Err(TetherError::Start { program: program.display().to_string(), log: log.to_path_buf() });
        };
        Ok(Self { tether, pipe, pid: Pid::from_raw(pid) })
    }

    /// The child's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Whether the child runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.tether.try_wait(), Ok(None))
    }

    /// Kills the child at once, as `kill -9` would, and waits until it is gone.
    pub fn kill(mut self) {
        // The process is ours and not yet waited for by its parent, the tether, which ends only after it.
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = self.tether.wait();
        self.pipe.take();
    }

    /// Asks the child to end and waits for it.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        self.pipe.take();
        let _ = self.tether.wait();
    }
}

/// The tether's own life: starts the child, prints its process id, ends it when standard input closes.
///
/// # Errors
/// The child could not be started.
pub fn serve(program: &str, args: &[String]) -> io::Result<ExitCode> {
    let mut command = Command::new(program);
    // The child's output goes where our own errors go: the log.
    command.args(args).stdin(Stdio::null()).stdout(io::stderr());
    let mut child = command.spawn()?;
    writeln!(io::stdout(), "{}", child.id())?;
    std::thread::Builder::new().name("pipe".into()).spawn({
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are below 2^22 (proc(5), pid_max)"));
        move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            end(pid);
        }
    })?;
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Ends our child, which the main thread waits for: its id is not used again before we exit.
fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let _ = kill(pid, Signal::SIGKILL);
}
