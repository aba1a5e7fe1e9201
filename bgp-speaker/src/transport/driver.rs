//! The loop: what is ready goes to the core, what the core answers is done. Never blocks, never holds a lock.

use super::bfd::{Bfd, News};
use super::connection::{Connection, Heard, Phase};
use super::discovery::{self, Discovery};
use super::listening::Open;
use super::poller::{Poller, Ready, Token};
use super::{Core, Guard, Host, Limits, Setup, SetupError, addresses, tcp};
use crate::speaker::{ConnId, ConnectFailure, Input, Output};
use crate::types::PeerId;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::io;
use std::time::Instant;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::sleep_until;

/// What one read may bring.
const READ_BYTES: usize = 64 << 10;

/// What is told to the core at the next turn.
#[derive(Debug)]
pub(super) enum Report {
    Failed(ConnId, ConnectFailure),
    Closed(ConnId, ConnectFailure),
}

type Work<C> = Box<dyn FnOnce(&mut C, Instant, &mut Vec<Output>) + Send>;

enum Command<C> {
    Core(Work<C>),
    Setup(Setup, oneshot::Sender<Result<(), SetupError>>),
}

/// The transport has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the transport has ended")]
pub struct Stopped;

/// A way to a running transport. When the last one is dropped, the transport ends.
pub struct Handle<C>(UnboundedSender<Command<C>>);

impl<C> Clone for Handle<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> fmt::Debug for Handle<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

impl<C> Handle<C> {
    /// Lets work be done on the core, between two inputs, and gives its result. What it appends is carried out: for
    /// [`Input::Resolved`] and for changes of configuration.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut C, Instant, &mut Vec<Output>) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let work: Work<C> = Box::new(move |core, now, out| {
            // Whoever asked may have gone; the work is done all the same.
            let _ = reply.send(work(core, now, out));
        });
        self.0.send(Command::Core(work)).map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// As [`with`](Self::with), without waiting for it.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn post(&self, work: impl FnOnce(&mut C, Instant, &mut Vec<Output>) + Send + 'static) -> Result<(), Stopped> {
        self.0.send(Command::Core(Box::new(work))).map_err(|_| Stopped)
    }

    /// Makes a setup the one in force.
    ///
    /// # Errors
    /// [`SetupError`]; the setup before is then still in force.
    pub async fn set_up(&self, setup: Setup) -> Result<(), SetupError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Command::Setup(setup, reply)).map_err(|_| SetupError::Ended)?;
        answer.await.map_err(|_| SetupError::Ended)?
    }
}

/// A core with sockets.
pub struct Transport<C, H> {
    driver: Driver<C, H>,
    commands: UnboundedReceiver<Command<C>>,
}

impl<C, H> fmt::Debug for Transport<C, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("connections", &self.driver.connections.len()).finish_non_exhaustive()
    }
}

pub(super) struct Driver<C, H> {
    pub(super) core: C,
    pub(super) host: H,
    pub(super) limits: Limits,
    pub(super) poller: Poller,
    pub(super) connections: HashMap<ConnId, Connection>,
    pub(super) deadlines: BTreeSet<(Instant, ConnId)>,
    pub(super) listeners: Vec<Open>,
    pub(super) guards: Vec<Guard>,
    pub(super) next_listener: u64,
    pub(super) next_in: u64,
    /// Connections on which the core has said nothing yet.
    pub(super) strangers: usize,
    pub(super) accepting: bool,
    /// When to accept again after an error.
    pub(super) accept_at: Option<Instant>,
    /// Connections with something to send.
    pub(super) sending: Vec<ConnId>,
    pub(super) reports: VecDeque<Report>,
    pub(super) bfd: Option<Bfd>,
    /// Peers whose news are wanted, and since when: of one that was stopped there may still be news on their way.
    pub(super) watched: HashMap<PeerId, u64>,
    pub(super) epochs: u64,
    pub(super) discovery: Discovery,
    /// `None` where they can't be watched.
    pub(super) addresses: Option<addresses::Watch>,
    pub(super) out: Vec<Output>,
    buffer: Box<[u8]>,
}

impl<C: Core, H: Host> Transport<C, H> {
    /// A transport with nothing open, in the network namespace of the calling thread, and the way to it.
    ///
    /// # Errors
    /// No descriptor is left.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time.
    pub fn new(core: C, host: H, limits: Limits) -> io::Result<(Self, Handle<C>)> {
        let (sender, commands) = unbounded_channel();
        let driver = Driver {
            core,
            host,
            limits,
            poller: Poller::new()?,
            connections: HashMap::new(),
            deadlines: BTreeSet::new(),
            listeners: Vec::new(),
            guards: Vec::new(),
            next_listener: 0,
            next_in: 0,
            strangers: 0,
            accepting: true,
            accept_at: None,
            sending: Vec::new(),
            reports: VecDeque::new(),
            bfd: None,
            watched: HashMap::new(),
            epochs: 0,
            discovery: Discovery::default(),
            addresses: None,
            out: Vec::new(),
            buffer: vec![0; READ_BYTES].into(),
        };
        Ok((Self { driver, commands }, Handle(sender)))
    }

    /// Runs until every [`Handle`] is dropped, and connections that the core has closed have sent what they had to (at
    /// most [`Limits::close`]). Gives the core back. Other connections just end, as a restart that peers shall bridge
    /// (RFC 4724) wants it.
    ///
    /// # Errors
    /// The kernel does not say any more which sockets are ready.
    pub async fn run(self) -> io::Result<C> {
        let Self { mut driver, mut commands } = self;
        let mut ready = Vec::new();
        let mut ending = false;
        driver.watch_addresses(Instant::now());
        driver.feed(Instant::now(), Input::Tick);
        while !(ending && driver.is_quiet()) {
            let deadline = driver.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                result = driver.poller.wait(&mut ready) => {
                    result?;
                    for ready in &ready {
                        driver.ready(*ready);
                    }
                }
                command = commands.recv(), if !ending => match command {
                    Some(command) => driver.command(Instant::now(), command),
                    None => {
                        ending = true;
                        driver.listeners.clear();
                    }
                },
                Some(news) = news(&mut driver.bfd) => driver.news(news),
                () = sleep(deadline) => {}
            }
            driver.turn();
        }
        Ok(driver.core)
    }
}

async fn news(bfd: &mut Option<Bfd>) -> Option<News> {
    match bfd {
        Some(bfd) => bfd.news().await,
        None => std::future::pending().await,
    }
}

async fn sleep(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

impl<C: Core, H: Host> Driver<C, H> {
    /// Whether no connection is on its way to its end.
    fn is_quiet(&self) -> bool {
        !self.connections.values().any(|connection| matches!(connection.phase, Phase::Flushing | Phase::Ending))
    }

    fn deadline(&self) -> Option<Instant> {
        if !self.sending.is_empty() || !self.reports.is_empty() {
            return Some(Instant::now());
        }
        let connection = self.deadlines.first().map(|(at, _)| *at);
        let addresses = self.addresses.as_ref().and_then(addresses::Watch::deadline);
        let core = self.core.deadline();
        [core, connection, self.discovery.deadline(), addresses, self.accept_at].into_iter().flatten().min()
    }

    fn command(&mut self, now: Instant, command: Command<C>) {
        match command {
            Command::Core(work) => {
                let mut out = std::mem::take(&mut self.out);
                work(&mut self.core, now, &mut out);
                self.carry_out(now, &mut out);
                self.out = out;
            }
            Command::Setup(setup, reply) => {
                let result = self.apply(now, setup);
                let _ = reply.send(result);
            }
        }
    }

    pub(super) fn ready(&mut self, ready: Ready) {
        let now = Instant::now();
        match ready.token {
            Token::Listener(id) => self.accept(now, id),
            Token::Discovery(id) => self.discovery.receive(now, id),
            Token::Addresses => {
                if let Some(watch) = &mut self.addresses {
                    watch.changed(now);
                }
            }
            Token::Connection(conn) => self.connection_ready(now, conn, ready),
        }
    }

    fn connection_ready(&mut self, now: Instant, conn: ConnId, ready: Ready) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.phase == Phase::Connecting {
            return self.decided(now, conn);
        }
        if ready.write {
            connection.unblock();
            if connection.can_send() && !std::mem::replace(&mut connection.listed, true) {
                self.sending.push(conn);
            }
            self.update_interest(conn);
        }
        if ready.read {
            self.read(now, conn);
        }
    }

    /// A connection that was asked for has come about, or not.
    fn decided(&mut self, now: Instant, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let outcome = match connection.stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(error),
            Ok(None) => connection.stream.local_addr().and_then(|local| Ok((local, connection.stream.peer_addr()?))),
        };
        match outcome {
            Ok((local, remote)) => {
                connection.phase = Phase::Open;
                let interface = connection.interface.clone().or_else(|| tcp::scope_name(remote));
                self.set_deadline(conn, None);
                self.update_interest(conn);
                self.feed(now, Input::Connected { conn, local, remote, interface });
            }
            Err(error) => self.drop_connection(now, conn, Some(tcp::failure(&error))),
        }
    }

    fn read(&mut self, now: Instant, conn: ConnId) {
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(connection) = self.connections.get_mut(&conn) {
            match connection.read(&mut buffer) {
                Heard::Bytes(bytes) if connection.phase == Phase::Open => {
                    self.feed(now, Input::Received { conn, bytes: &buffer[..bytes] });
                }
                Heard::Bytes(_) | Heard::Nothing => {}
                Heard::End(why) => self.drop_connection(now, conn, Some(why)),
            }
        }
        self.buffer = buffer;
    }

    /// What is due between two looks at the sockets.
    fn turn(&mut self) {
        let now = Instant::now();
        while let Some((at, conn)) = self.deadlines.first().copied()
            && at <= now
        {
            self.drop_connection(now, conn, Some(ConnectFailure::TimedOut));
        }
        self.tell_reports(now);
        self.read_addresses(now);
        if self.discovery.deadline().is_some() {
            let (mut changes, mut trouble) = (Vec::new(), Vec::new());
            self.discovery.tick(now, &self.poller, &mut changes, &mut trouble);
            trouble.into_iter().for_each(|trouble| self.host.trouble(trouble));
            for change in changes {
                self.feed(now, discovery::input(change));
            }
        }
        if self.core.deadline().is_some_and(|deadline| deadline <= now) {
            self.feed(now, Input::Tick);
        }
        self.accept_if_room(now);
        self.flush(now);
    }

    pub(super) fn tell_reports(&mut self, now: Instant) {
        for report in std::mem::take(&mut self.reports) {
            self.feed(
                now,
                match report {
                    Report::Failed(conn, why) => Input::Failed { conn, why },
                    Report::Closed(conn, why) => Input::Closed { conn, why },
                },
            );
        }
    }

    /// Sends what is queued, each connection in its turn.
    fn flush(&mut self, now: Instant) {
        for conn in std::mem::take(&mut self.sending) {
            let Some(connection) = self.connections.get_mut(&conn) else { continue };
            connection.listed = false;
            let bytes = connection.flush();
            if connection.can_send() {
                connection.listed = true;
                self.sending.push(conn);
            }
            self.update_interest(conn);
            if bytes > 0 {
                self.feed(now, Input::Sent { conn, bytes });
            }
        }
    }

    fn update_interest(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        let wanted = connection.wanted();
        if connection.interest != wanted {
            connection.interest = wanted;
            // The socket was added and is open: this can only fail for want of memory, and then the deadlines help.
            let _ = self.poller.change(&connection.stream, Token::Connection(conn), wanted);
        }
    }
}
