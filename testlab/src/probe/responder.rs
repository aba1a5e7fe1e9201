//! The answering side of a probe: one thread in one namespace. Ends, and closes its sockets, when it is dropped.

use super::PORT;
use net_linux::netns::NetNs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use std::time::Duration;

/// Answers TCP and UDP probes in a namespace, over both families.
#[derive(Debug)]
pub struct Responder {
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    tcp: TcpListener,
    udp: UdpSocket,
    stop: PipeReader,
}

impl Responder {
    /// Starts to answer. The sockets are open when this returns.
    ///
    /// # Errors
    /// The namespace could not be entered, or the port is taken.
    pub fn start(namespace: &NetNs) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let sockets = namespace.run(|| open(reader)).map_err(io::Error::other)??;
        let thread = std::thread::Builder::new().name("responder".into()).spawn(move || serve(&sockets))?;
        Ok(Self { stop: Some(writer), thread: Some(thread) })
    }
}

fn open(stop: PipeReader) -> io::Result<Sockets> {
    // An IPv6 socket hears IPv4 too (RFC 4038, section 4.2).
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT);
    let tcp = TcpListener::bind(any)?;
    tcp.set_nonblocking(true)?;
    let udp = UdpSocket::bind(any)?;
    udp.set_nonblocking(true)?;
    Ok(Sockets { tcp, udp, stop })
}

fn serve(sockets: &Sockets) {
    loop {
        let mut waiting = [
            PollFd::new(sockets.tcp.as_fd(), PollFlags::POLLIN),
            PollFd::new(sockets.udp.as_fd(), PollFlags::POLLIN),
            PollFd::new(sockets.stop.as_fd(), PollFlags::POLLIN | PollFlags::POLLHUP),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(_) => return,
        }
        let ready = |index: usize| waiting[index].revents().is_some_and(|events| !events.is_empty());
        if ready(2) {
            return;
        }
        let (tcp, udp) = (ready(0), ready(1));
        if tcp && let Ok((stream, _)) = sockets.tcp.accept() {
            // A client that goes away is no concern of the others.
            let _ = answer_tcp(stream);
        }
        if udp {
            let _ = answer_udp(&sockets.udp);
        }
    }
}

fn answer_tcp(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(&byte)
}

/// The answer is the sender's address as it is seen here.
fn answer_udp(socket: &UdpSocket) -> io::Result<()> {
    let mut question = [0; 64];
    let (_, from) = socket.recv_from(&mut question)?;
    socket.send_to(from.ip().to_canonical().to_string().as_bytes(), from)?;
    Ok(())
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // The thread has no panic of its own to pass on.
            let _ = thread.join();
        }
    }
}
