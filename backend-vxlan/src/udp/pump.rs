//! The thread that moves packets between the TUN device and the UDP sockets. Never decides who is a peer: the table does.

mod egress;
mod ingress;
mod stats;

use super::table::Table;
use crate::config::Family;
use crate::object::family_of;
use cni_core::backend::{self, ErrorKind};
use egress::{Egress, ErrorSockets};
use ingress::Ingress;
use net_linux::pmtu;
use net_linux::tun::Tun;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stats::Counters;
pub use stats::Stats;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Packets moved by one system call at most.
const BATCH: usize = 64;
/// How long an address of ours may stay taken after we gave it up.
const RELEASE: Duration = Duration::from_millis(500);
/// The longest IP packet.
const PACKET_BYTES: usize = 65_535;

/// What goes wrong with the pump.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PumpError {
    /// A descriptor or thread could not be made.
    #[error("{operation} for the udp mode: {source}")]
    Start {
        /// What was being done.
        operation: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The tunnel's port can't be had.
    #[error("bind UDP {address}: {source}; is another program on this port?")]
    Bind {
        /// Address and port.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl From<PumpError> for backend::Error {
    fn from(error: PumpError) -> Self {
        let (operation, object, source) = match &error {
            PumpError::Start { operation, source } => (*operation, "udp mode".to_owned(), source),
            PumpError::Bind { address, source } => ("bind", format!("udp socket {address}"), source),
        };
        let kind = match source.kind() {
            io::ErrorKind::AddrNotAvailable => ErrorKind::Missing,
            io::ErrorKind::AddrInUse => ErrorKind::Foreign,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Kernel,
        };
        Self::new(kind, operation, object, &error).because(error)
    }
}

/// What the thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    table: RwLock<Table>,
    sockets: Mutex<Sockets>,
    stop: AtomicBool,
    counters: Counters,
}

#[derive(Debug, Default, Clone)]
struct Sockets {
    v4: Option<Arc<UdpSocket>>,
    v6: Option<Arc<UdpSocket>>,
}

impl Sockets {
    fn of(&self, family: Family) -> Option<&Arc<UdpSocket>> {
        match family {
            Family::Ipv4 => self.v4.as_ref(),
            Family::Ipv6 => self.v6.as_ref(),
        }
    }

    fn slot(&mut self, family: Family) -> &mut Option<Arc<UdpSocket>> {
        match family {
            Family::Ipv4 => &mut self.v4,
            Family::Ipv6 => &mut self.v6,
        }
    }
}

/// The table, the sockets, and the thread that serves a TUN device with them. Clones are the same pump; the thread ends with
/// the last one, and the device stays if it is persistent.
#[derive(Debug, Clone, Default)]
pub struct Pump(Arc<Inside>);

#[derive(Debug, Default)]
struct Inside {
    shared: Arc<Shared>,
    server: Mutex<Option<Server>>,
}

#[derive(Debug)]
struct Server {
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Pump {
    /// Serves a TUN device, in the network namespace of the caller. A former thread ends first.
    ///
    /// # Errors
    /// [`PumpError::Start`].
    pub fn serve(&self, tun: Tun) -> Result<(), PumpError> {
        self.0.stop();
        let failed = |operation| move |source: io::Error| PumpError::Start { operation, source };
        let (wake, woken) = UnixStream::pair().map_err(failed("make a wake-up socket"))?;
        for end in [&wake, &woken] {
            end.set_nonblocking(true).map_err(failed("make a wake-up socket non-blocking"))?;
        }
        let errors = ErrorSockets::open().map_err(failed("open raw ICMP sockets"))?;
        self.0.shared.stop.store(false, Ordering::Release);
        let shared = self.0.shared.clone();
        let thread = thread::Builder::new()
            .name("cnidarian-udp".to_owned())
            .spawn(move || run(&shared, &tun, woken, Egress::new(errors)))
            .map_err(failed("start a thread"))?;
        *self.0.server() = Some(Server { wake, thread });
        Ok(())
    }

    /// Reads or changes the table. The thread looks at it once per batch.
    pub fn with_table<T>(&self, work: impl FnOnce(&mut Table) -> T) -> T {
        work(&mut self.0.shared.table.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Receives and sends at this address from now on, in the caller's network namespace.
    ///
    /// # Errors
    /// [`PumpError::Bind`]; the former socket of this family stays in use.
    pub fn bind(&self, address: SocketAddr) -> Result<(), PumpError> {
        let failed = |source| PumpError::Bind { address, source };
        let family = family_of(&address.ip());
        if self.bound(family) == Some(address) {
            return Ok(());
        }
        let socket = bind_patiently(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        pmtu::set_whole(&socket, true).map_err(failed)?;
        *self.sockets().slot(family) = Some(Arc::new(socket));
        self.0.wake();
        Ok(())
    }

    /// Stops receiving and sending in a family.
    pub fn unbind(&self, family: Family) {
        *self.sockets().slot(family) = None;
        self.0.wake();
    }

    /// Where a family is received.
    #[must_use]
    pub fn bound(&self, family: Family) -> Option<SocketAddr> {
        self.sockets().of(family).and_then(|socket| socket.local_addr().ok())
    }

    /// Whether the thread runs. It ends on its own only when the TUN device is gone.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.0.server().as_ref().is_some_and(|server| !server.thread.is_finished())
    }

    /// What was moved and dropped so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared.counters.read()
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        self.0.shared.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Binds, and waits a moment when the address is taken. It may be ours still: the thread closes a former socket after its
/// batch, and a process that is being started has copies of our descriptors until it runs its program.
fn bind_patiently(address: SocketAddr) -> io::Result<UdpSocket> {
    let start = Instant::now();
    loop {
        match UdpSocket::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < RELEASE => {
                thread::sleep(Duration::from_micros(500));
            }
            result => return result,
        }
    }
}

impl Inside {
    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        if let Some(server) = self.server().as_ref() {
            // A full pipe is a wake-up that is already on its way.
            let _ = (&server.wake).write(&[1]);
        }
    }

    fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        let server = self.server().take();
        if let Some(server) = server {
            // A panic there was already printed; nobody here can do more about it.
            let _ = server.thread.join();
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(shared: &Shared, tun: &Tun, mut woken: UnixStream, mut egress: Egress) {
    let mut ingress = Ingress::new();
    loop {
        let sockets = shared.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match wait_and_move(shared, tun, &woken, &sockets, &mut egress, &mut ingress) {
            Ok(Turn::Reload) => {
                let mut drain = [0; 64];
                while woken.read(&mut drain).is_ok_and(|bytes| bytes > 0) {}
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
            }
            Ok(Turn::DeviceGone) => {
                tracing::warn!("the TUN device of the udp mode is gone; packets to other nodes stop until it is back");
                return;
            }
            Err(nix::Error::EINTR) => {}
            Err(errno) => {
                tracing::error!(%errno, "waiting for packets failed; the udp mode stops");
                return;
            }
        }
    }
}

enum Turn {
    Reload,
    DeviceGone,
}

/// Moves packets until something but packets comes.
fn wait_and_move(
    shared: &Shared,
    tun: &Tun,
    woken: &UnixStream,
    sockets: &Sockets,
    egress: &mut Egress,
    ingress: &mut Ingress,
) -> nix::Result<Turn> {
    let mut watched = vec![PollFd::new(woken.as_fd(), PollFlags::POLLIN), PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
    let udp: Vec<&UdpSocket> = sockets.v4.iter().chain(&sockets.v6).map(AsRef::as_ref).collect();
    watched.extend(udp.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
    loop {
        poll(&mut watched, PollTimeout::NONE)?;
        let ready = |index: usize| watched[index].revents().unwrap_or(PollFlags::empty());
        if !ready(0).is_empty() {
            return Ok(Turn::Reload);
        }
        if ready(1).contains(PollFlags::POLLIN) && egress.turn(shared, tun, sockets) == egress::Device::Gone {
            return Ok(Turn::DeviceGone);
        }
        // Without data an error is final here: the device was removed under its descriptor.
        if ready(1).contains(PollFlags::POLLERR) && !ready(1).contains(PollFlags::POLLIN) {
            return Ok(Turn::DeviceGone);
        }
        for (index, socket) in udp.iter().enumerate() {
            if !ready(index + 2).is_empty() {
                ingress.turn(shared, tun, socket);
            }
        }
    }
}
