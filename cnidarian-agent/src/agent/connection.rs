//! One connection: who is there, one request, one answer. Never decides what the request means.

use cni_core::cni::ErrorCode;
use cni_core::rpc::{Failure, MAX_REQUEST_BYTES, PROTOCOL, Request, Response};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long a client may take to send its request, and to read its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a client may talk to us: root, or the user that we run as.
///
/// # Errors
/// A failure that names the user.
pub(super) fn authorise(stream: &UnixStream) -> Result<(), Failure> {
    let refused = |details: String| Failure::new(ErrorCode::Io, "permission denied", details);
    let peer =
        stream.peer_cred().map_err(|error| refused(format!("the client's credentials cannot be read: {error}")))?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() == 0 || peer.uid() == own {
        return Ok(());
    }
    Err(refused(format!("user {} may not talk to this agent; only root and user {own} may", peer.uid())))
}

/// Reads one request, with the descriptor that came with it. `None`: the client said nothing, and only looked whether somebody
/// listens.
///
/// # Errors
/// A failure to answer with: too long, too slow, not JSON, not of this protocol.
pub(super) async fn read_request(stream: &UnixStream) -> Result<Option<(Request, Option<OwnedFd>)>, Failure> {
    let (bytes, fd) = timeout(PATIENCE, read_all(stream)).await.map_err(|_| {
        Failure::new(
            ErrorCode::Io,
            "request incomplete",
            format!("its end did not come within {} s", PATIENCE.as_secs()),
        )
    })??;
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = |error: &serde_json::Error| Failure::new(ErrorCode::Decode, "request cannot be read", error);
    // The version comes first: the rest of a newer request need not be readable.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    let protocol = value.get("protocol").and_then(serde_json::Value::as_u64);
    if protocol != Some(u64::from(PROTOCOL)) {
        let found = protocol.map_or_else(|| "none".to_owned(), |protocol| protocol.to_string());
        let details =
            format!("protocol: {found}, this agent speaks {PROTOCOL}; install plugin and agent of one release");
        return Err(Failure::new(ErrorCode::Decode, "protocol mismatch", details));
    }
    let request = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    Ok(Some((request, fd)))
}

async fn read_all(stream: &UnixStream) -> Result<(Vec<u8>, Option<OwnedFd>), Failure> {
    let mut bytes = Vec::new();
    let mut passed = None;
    let mut chunk = vec![0; 64 << 10];
    let broken = |error: io::Error| Failure::new(ErrorCode::Io, "connection failed", error);
    loop {
        stream.readable().await.map_err(broken)?;
        let (read, fd) = match stream.try_io(Interest::READABLE, || receive(stream, &mut chunk)) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(broken(error)),
        };
        passed = passed.or(fd);
        if read == 0 {
            return Ok((bytes, passed));
        }
        if bytes.len() + read > MAX_REQUEST_BYTES {
            return Err(Failure::new(
                ErrorCode::Decode,
                "request too long",
                format!("at most {MAX_REQUEST_BYTES} bytes are read"),
            ));
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

/// One `recvmsg`. Of several descriptors the first is kept; the others are closed.
fn receive(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(chunk)], &mut control, flags)?;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    let fd = fds.next().and_then(|fds| fds.into_iter().next());
    Ok((message.bytes, fd))
}

/// Sends the answer. A client that went away is no error: what was done stays done, and DEL takes it back.
pub(super) async fn answer(stream: &mut UnixStream, response: &Response) {
    let bytes = serde_json::to_vec(response).unwrap_or_else(|error| {
        format!(r#"{{"failed":{{"code":999,"msg":"answer cannot be written","details":{:?}}}}}"#, error.to_string())
            .into_bytes()
    });
    let sent = timeout(PATIENCE, async {
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    });
    match sent.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the client left before its answer"),
        Err(_) => tracing::debug!("the client did not read its answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::rpc::Call;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::{IoSlice, Write};

    fn pair() -> (std::os::unix::net::UnixStream, UnixStream) {
        let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, UnixStream::from_std(server).unwrap())
    }

    async fn after(bytes: &[u8]) -> Result<Option<(Request, Option<OwnedFd>)>, Failure> {
        let (mut client, server) = pair();
        let bytes = bytes.to_vec();
        let writer = std::thread::spawn(move || client.write_all(&bytes));
        let read = read_request(&server).await;
        drop(server);
        let _ = writer.join();
        read
    }

    #[tokio::test]
    async fn a_descriptor_arrives_with_its_request() {
        let (client, server) = pair();
        let file = std::fs::File::open("/proc/self/ns/net").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = Request::new(Call::Status).to_bytes();
        sendmsg(&client, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
        drop(client);
        let (request, fd) = read_request(&server).await.unwrap().unwrap();
        assert_eq!(request.call, Call::Status);
        assert!(fd.is_some());
    }

    #[tokio::test]
    async fn hostile_bytes_are_refused_with_a_reason() {
        for (bytes, msg) in [
            (&b"{"[..], "request cannot be read"),
            (b"[]", "protocol mismatch"),
            (br#"{"protocol":2,"call":{"fly":{}}}"#, "protocol mismatch"),
            (br#"{"protocol":1,"call":{"fly":{}}}"#, "request cannot be read"),
            (br#"{"protocol":1,"call":{"del":{"endpoint":"../../etc/passwd"}}}"#, "request cannot be read"),
        ] {
            assert_eq!(after(bytes).await.unwrap_err().msg, msg, "{}", String::from_utf8_lossy(bytes));
        }
        assert!(after(b"").await.unwrap().is_none(), "who says nothing is no mistake");
        let deep = vec![b'['; 100_000];
        assert_eq!(after(&deep).await.unwrap_err().msg, "request cannot be read");
        let long = vec![b' '; MAX_REQUEST_BYTES + 1];
        assert_eq!(after(&long).await.unwrap_err().msg, "request too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_not_waited_for() {
        let (_client, server) = pair();
        assert_eq!(read_request(&server).await.unwrap_err().msg, "request incomplete");
    }

    #[tokio::test]
    async fn our_own_user_may_talk_to_us() {
        let (_client, server) = pair();
        assert_eq!(authorise(&server), Ok(()));
    }
}
