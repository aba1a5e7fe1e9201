//! One question to a running agent. Never passes a descriptor: only the executable that runtimes call does.

use cni_core::rpc::{Call, Failure, Request, Response, WireError, read_response};
use serde_json::Value;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries to reach an agent that went away.
const AGAIN: Duration = Duration::from_millis(200);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody listens.
    #[error("no agent at {socket}: {source}; start `cnidarian agent`, or name its socket with --socket", socket = socket.display())]
    Away {
        /// Where.
        socket: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The connection failed.
    #[error("the agent at {socket}: {source}", socket = socket.display())]
    Broken {
        /// Where.
        socket: PathBuf,
        /// What went wrong.
        source: WireError,
    },
    /// The configuration that the question is about.
    #[error(transparent)]
    Config(#[from] crate::agent::AgentError),
    /// The agent said no.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// The answer is of another release.
    #[error("the answer cannot be read: {0}; use the program of the agent's release")]
    Unreadable(#[from] serde_json::Error),
}

/// Asks.
pub(crate) fn ask(socket: &Path, call: Call) -> Result<Value, AskError> {
    let mut stream =
        UnixStream::connect(socket).map_err(|source| AskError::Away { socket: socket.to_owned(), source })?;
    let answer = exchange(&mut stream, &Request::new(call));
    match answer.map_err(|source| AskError::Broken { socket: socket.to_owned(), source })? {
        Response::Done(value) => Ok(value),
        Response::Failed(failure) => Err(failure.into()),
    }
}

/// Asks again and again, also an agent that is started anew meanwhile. Never waits for one that was not there at first.
pub(crate) struct Patient<'a> {
    socket: &'a Path,
    /// Whether an answer came.
    heard: bool,
}

impl<'a> Patient<'a> {
    /// Nothing was asked yet.
    pub(crate) const fn new(socket: &'a Path) -> Self {
        Self { socket, heard: false }
    }

    /// Asks, and says on stderr when the agent is away and when it is back.
    pub(crate) fn ask(&mut self, call: &Call) -> Result<Value, AskError> {
        let mut away = false;
        loop {
            match ask(self.socket, call.clone()) {
                Err(error @ (AskError::Away { .. } | AskError::Broken { .. })) if self.heard => {
                    if !away {
                        eprintln!("cnidarian: {error}; waiting for it");
                    }
                    away = true;
                    std::thread::sleep(AGAIN);
                }
                answer => {
                    if away && answer.is_ok() {
                        eprintln!("cnidarian: the agent answers again");
                    }
                    self.heard |= answer.is_ok();
                    return answer;
                }
            }
        }
    }
}

fn exchange(stream: &mut UnixStream, request: &Request) -> Result<Response, WireError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&request.to_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    read_response(&*stream)
}
