//! The way to the agent: one connection, one request, one answer, within a time. Never keeps a connection.

use cni_core::cni::{CniError, ErrorCode};
use cni_core::rpc::{Call, Request, Response, WireError, read_response};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::Value;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Why the agent did not do what was asked.
#[derive(Debug)]
pub(crate) enum AgentError {
    /// It is not there, or went away before it answered.
    Away(CniError),
    /// It is there and said no, or cannot be talked to.
    Refused(CniError),
}

impl From<AgentError> for CniError {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Away(error) | AgentError::Refused(error) => error,
        }
    }
}

fn away(socket: &Path, why: impl std::fmt::Display) -> AgentError {
    AgentError::Away(
        CniError::new(ErrorCode::TryAgainLater, format!("the cnidarian agent at {} is away: {why}", socket.display()))
            .details("start `cnidarian agent`, or wait until it is up, and try again; agentSocket in the network configuration must be its `socket`"),
    )
}

/// Asks the agent. A namespace's descriptor goes along with the first byte.
pub(crate) fn call(socket: &Path, timeout: Duration, call: Call, netns: Option<&File>) -> Result<Value, AgentError> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => AgentError::Refused(
            CniError::new(ErrorCode::Io, format!("{}: {error}", socket.display()))
                .details("run the runtime as root or as the user of the agent"),
        ),
        _ => away(socket, error),
    })?;
    let answer = exchange(&mut stream, timeout, &Request::new(call), netns);
    match answer {
        Ok(Response::Done(value)) => Ok(value),
        Ok(Response::Failed(failure)) => Err(AgentError::Refused(failure.into())),
        Err(WireError::Io(error)) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            Err(away(socket, format_args!("it did not answer within {} s", timeout.as_secs())))
        }
        Err(error @ (WireError::Closed | WireError::Io(_))) => Err(away(socket, error)),
        Err(error) => Err(AgentError::Refused(
            CniError::new(ErrorCode::Decode, format!("{}: {error}", socket.display()))
                .details("install plugin and agent of one release"),
        )),
    }
}

fn exchange(
    stream: &mut UnixStream,
    timeout: Duration,
    request: &Request,
    netns: Option<&File>,
) -> Result<Response, WireError> {
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let bytes = request.to_bytes();
    let mut sent = 0;
    if let Some(netns) = netns {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [netns.as_fd()];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sent =
            sendmsg(&*stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).map_err(io::Error::from)?;
    }
    // An agent that refuses a client answers and closes before it has read everything: its answer counts.
    let written = stream.write_all(&bytes[sent..]).and_then(|()| stream.shutdown(Shutdown::Write));
    match read_response(&*stream) {
        Err(WireError::Closed) => Err(written.err().map_or(WireError::Closed, WireError::Io)),
        answer => answer,
    }
}
