//! A thread of its own for BFD, so that a busy speaker never looks like a dead one. Never touches a BGP session.
//!
//! The neighbour takes us for gone after some hundred milliseconds of silence, which a speaker that sorts out a million
//! routes does not notice. Wishes go in over a channel, news come out over another.
//!
//! When the thread ends it tells each neighbour that BFD is switched off, so that a planned restart does not end BGP
//! sessions (RFC 5882, section 3.2); a process that is killed can't, and its C bit is clear to say so (section 4.3).

mod engine;
mod socket;

use super::driver::Driver;
use super::{Core, Host, Trouble};
use crate::bfd::Config;
use crate::speaker::Input;
use crate::types::PeerId;
use engine::Engine;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// With whom, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) remote: IpAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) single_hop: bool,
    /// The device of a single hop, where it is known.
    pub(super) interface: Option<Arc<str>>,
    pub(super) config: Config,
    /// Comes back with the news, which may still speak of a session that was stopped.
    pub(super) epoch: u64,
}

#[derive(Debug)]
enum Command {
    Start(PeerId, Wish),
    Stop(PeerId),
}

/// What the thread says.
#[derive(Debug)]
pub(super) enum News {
    /// Whether a peer is reachable.
    Reachable {
        peer: PeerId,
        epoch: u64,
        up: bool,
        independent: bool,
    },
    Trouble(Trouble),
}

/// The transport's end.
#[derive(Debug)]
pub(super) struct Bfd {
    /// Closed to end the thread.
    commands: Option<(Sender<Command>, UnixStream)>,
    news: UnboundedReceiver<News>,
    thread: Option<JoinHandle<()>>,
}

impl Bfd {
    /// Starts the thread, in the network namespace of the caller.
    pub(super) fn spawn() -> io::Result<Self> {
        let (waker, wake) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (commands, inbox) = channel();
        let (outbox, news) = unbounded_channel();
        let thread = thread::Builder::new().name("bgp-bfd".to_owned()).spawn(move || serve(&inbox, &wake, &outbox))?;
        Ok(Self { commands: Some((commands, waker)), news, thread: Some(thread) })
    }

    pub(super) fn start(&self, peer: PeerId, wish: Wish) {
        self.tell(Command::Start(peer, wish));
    }

    pub(super) fn stop(&self, peer: PeerId) {
        self.tell(Command::Stop(peer));
    }

    /// The next news; `None` when the thread has ended.
    pub(super) async fn news(&mut self) -> Option<News> {
        self.news.recv().await
    }

    fn tell(&self, command: Command) {
        if let Some((commands, waker)) = &self.commands {
            // The thread ends only with this end of the channel, or with the process.
            let _ = commands.send(command);
            // A full pipe wakes as well as one byte more.
            let _ = (&*waker).write(&[0]);
        }
    }
}

/// Waits until the neighbours have been told; the thread does nothing that takes long.
impl Drop for Bfd {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // If it has panicked it has said so.
            let _ = thread.join();
        }
    }
}

impl<C: Core, H: Host> Driver<C, H> {
    /// What the thread has said.
    pub(super) fn news(&mut self, news: News) {
        match news {
            News::Reachable { peer, epoch, up, independent } => {
                if !up {
                    self.catch_up();
                }
                if self.watched.get(&peer) == Some(&epoch) {
                    self.feed(Instant::now(), Input::Bfd { peer, up, independent });
                }
            }
            News::Trouble(trouble) => self.host.trouble(trouble),
        }
    }

    /// Hears what is there already. A peer that restarts ends its connections and then its BFD, and who hears the latter first
    /// takes it for lost.
    fn catch_up(&mut self) {
        let mut ready = Vec::new();
        // An error comes again at the next turn.
        let _ = self.poller.look(&mut ready);
        for ready in ready {
            self.ready(ready);
        }
        self.tell_reports(Instant::now());
    }
}

fn serve(inbox: &Receiver<Command>, wake: &UnixStream, outbox: &UnboundedSender<News>) {
    let mut engine = Engine::new();
    let mut news = Vec::new();
    loop {
        // All wake-ups are taken before the commands, so that none stays behind.
        let mut scratch = [0; 64];
        while (&mut &*wake).read(&mut scratch).is_ok_and(|bytes| bytes > 0) {}
        loop {
            match inbox.try_recv() {
                Ok(Command::Start(peer, wish)) => engine.start(Instant::now(), peer, wish, &mut news),
                Ok(Command::Stop(peer)) => engine.stop(Instant::now(), peer),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return engine.end(Instant::now()),
            }
        }
        // First what has come: a neighbour is not silent while its packets wait here.
        engine.receive(&mut news);
        let now = Instant::now();
        engine.tick(now, &mut news);
        for item in news.drain(..) {
            // Nobody listens: the end of the inbox ends this thread at the next turn.
            let _ = outbox.send(item);
        }
        let timeout = engine.deadline().map_or(PollTimeout::NONE, |deadline| until(now, deadline));
        let mut sockets: Vec<_> = engine.sockets().map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
        sockets.push(PollFd::new(wake.as_fd(), PollFlags::POLLIN));
        // An interrupted wait is a short one.
        let _ = poll(&mut sockets, timeout);
    }
}

/// Never before the deadline, so rounded up to the milliseconds that the kernel counts in.
fn until(now: Instant, deadline: Instant) -> PollTimeout {
    let wait = deadline.saturating_duration_since(now) + Duration::from_micros(999);
    PollTimeout::try_from(wait.as_millis()).unwrap_or(PollTimeout::MAX)
}
