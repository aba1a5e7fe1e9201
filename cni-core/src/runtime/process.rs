//! Plugins as programs: one child process per call. Never ends a process that it did not start itself.

use super::exec::{Exec, ExecError, Invocation, Output};
use crate::model::PluginType;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a plugin's pipes are read after it has ended. Only a child of its own that inherited them and lives on
/// keeps them open (the reference `dhcp` starts a daemon).
const DRAIN: Duration = Duration::from_millis(500);

/// What a plugin prints beyond this is dropped: no result is that long.
const LONGEST_OUTPUT_BYTES: usize = 16 << 20;

/// What the kernel takes into a pipe without a reader, at least: one page (`pipe(7)`, "Pipe capacity").
const SMALLEST_PIPE_BYTES: usize = 4096;

/// The longest pause between two looks at a child that has closed its stdout but not ended.
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Runs plugins as child processes of this one.
#[derive(Debug, Clone)]
pub struct ProcessExec {
    /// Copy the plugin's stderr to ours when it ends, as the specification asks of plugins that delegate (1.1.0,
    /// section 4).
    pub forward_stderr: bool,
    /// How long to try again while a program's file is open for writing (`ETXTBSY`): somebody is installing it.
    pub busy_patience: Duration,
}

impl Default for ProcessExec {
    fn default() -> Self {
        Self { forward_stderr: false, busy_patience: Duration::from_secs(5) }
    }
}

impl Exec for ProcessExec {
    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        let is_program =
            |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
        path.iter()
            .map(|directory| directory.join(plugin.as_str()))
            .find(is_program)
            .ok_or_else(|| ExecError::NotFound { plugin: plugin.clone(), path: path.to_owned() })
    }

    fn exec(&self, program: &Path, invocation: &Invocation) -> Result<Output, ExecError> {
        let deadline = invocation.timeout.map(|timeout| (Instant::now() + timeout, timeout));
        let mut child = self.start(program, invocation)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            unreachable!("all three were asked to be pipes when the child was started");
        };
        let (mut stdout, mut stderr) = (Pipe::of(stdout), Pipe::of(stderr));
        // A plugin that does not read its input gives EPIPE, which is its right.
        if invocation.stdin.len() <= SMALLEST_PIPE_BYTES {
            let _ = stdin.write_all(&invocation.stdin);
            drop(stdin);
        } else {
            // A plugin that answers before it has read everything would block us both.
            let bytes = invocation.stdin.clone();
            thread::spawn(move || stdin.write_all(&bytes));
        }
        let status = wait(&mut child, &mut stdout, program, deadline)?;
        stdout.read(DRAIN);
        stderr.read(DRAIN);
        if self.forward_stderr {
            // Logs of the plugin: that ours cannot be written changes nothing about the attachment.
            let _ = std::io::stderr().write_all(&stderr.bytes);
        }
        Ok(Output { success: status.success(), status: status.to_string(), stdout: stdout.bytes, stderr: stderr.bytes })
    }
}

impl ProcessExec {
    fn start(&self, program: &Path, invocation: &Invocation) -> Result<Child, ExecError> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(invocation.environment.iter())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        while_busy(self.busy_patience, || command.spawn()).map_err(|source| {
            let program = program.to_owned();
            match source.kind() {
                ErrorKind::ExecutableFileBusy => ExecError::Busy { program },
                _ => ExecError::Start { program, source },
            }
        })
    }
}

/// Tries again while the file is busy: `ETXTBSY` is also what another thread's `fork` causes for a moment, when it
/// happens between our writing a program and our executing it (golang/go#22315).
fn while_busy<T>(patience: Duration, mut attempt: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let end = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && Instant::now() + pause < end => {
                thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

/// One of the child's pipes, read by a thread of its own.
struct Pipe {
    chunks: mpsc::Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    open: bool,
}

impl Pipe {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = vec![0; 16 * 1024];
            loop {
                match pipe.read(&mut chunk) {
                    Ok(length) if length > 0 => {
                        if sender.send(chunk[..length].to_vec()).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => return,
                }
            }
        });
        Self { chunks, bytes: Vec::new(), open: true }
    }

    /// Reads what comes within `patience`, or until the end.
    fn read(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        while self.open {
            match self.chunks.recv_timeout(end.saturating_duration_since(Instant::now())) {
                // What is too long to be an answer is read, so that the plugin can go on, but not kept.
                Ok(chunk) if self.bytes.len() < LONGEST_OUTPUT_BYTES => self.bytes.extend(chunk),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => return,
                Err(mpsc::RecvTimeoutError::Disconnected) => self.open = false,
            }
        }
    }
}

/// Waits for the child's end while reading its stdout; kills it, and only it, when its time is over.
fn wait(
    child: &mut Child,
    stdout: &mut Pipe,
    program: &Path,
    deadline: Option<(Instant, Duration)>,
) -> Result<ExitStatus, ExecError> {
    let failed = |what| move |source| ExecError::Io { program: program.to_owned(), what, source };
    let mut pause = Duration::from_micros(50);
    loop {
        // A plugin closes its stdout by ending, so waiting for that costs no latency. The pause is for one that
        // closes it early, and for one that leaves it to a child of its own.
        if stdout.open {
            stdout.read(LONGEST_PAUSE);
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if let Some(status) = child.try_wait().map_err(failed("waiting for its end"))? {
            return Ok(status);
        }
        if let Some((deadline, timeout)) = deadline
            && Instant::now() >= deadline
        {
            // Not reaped yet, so the process id is still the child's and no other's.
            child.kill().map_err(failed("killing it after its time"))?;
            child.wait().map_err(failed("waiting for its end"))?;
            return Err(ExecError::TimedOut { program: program.to_owned(), timeout });
        }
    }
}
