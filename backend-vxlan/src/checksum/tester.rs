//! The thread that answers probes and tests paths. Never switches anything: it decides, and the driver writes.

use super::message::{Kind, Message, PORT};
use super::trial::{Outcome, Step, Trial};
use super::{Decision, VerdictFile};
use crate::vtep::link_local;
use crate::watch::Watched;
use cni_core::model::MacAddr;
use nix::sys::socket::sockopt::RcvBuf;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendto, setsockopt, socket,
};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long the thread sleeps at most: new peers and its end are seen so late.
const NAP: Duration = Duration::from_millis(250);
/// When a peer that did not answer is tried again, or another in its place.
const RETRY: Duration = Duration::from_secs(5);

/// What the thread works with.
pub(crate) struct Task {
    /// Our VTEP.
    pub(crate) mac: MacAddr,
    /// Our devices and the peers behind them.
    pub(crate) watched: Watched,
    /// What is decided here.
    pub(crate) decision: Decision,
    /// Wakes who lets the driver write the decision.
    pub(crate) decided: Arc<Notify>,
    /// Where a verdict outlives the process.
    pub(crate) file: VerdictFile,
    /// Whether to test, or only to answer others.
    pub(crate) tests: bool,
    /// When a sound path is tested again; `None`: never.
    pub(crate) interval: Option<Duration>,
}

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Tester {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tester {
    /// The UDP port at which tests come and are answered.
    pub(crate) const PORT: u16 = PORT;

    /// Starts the thread in the network namespace of the caller.
    ///
    /// # Errors
    /// The responder's port is taken, or no thread can be started.
    pub(crate) fn start(task: Task) -> io::Result<Self> {
        let responder = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || Loop { task, socket: responder, trial: None, next: Instant::now(), turn: 0 }.run(&stopped);
        let thread = thread::Builder::new().name("cnidarian-csum".to_owned()).spawn(work)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Tester {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed.
            let _ = thread.join();
        }
    }
}

/// A peer's VTEP behind one of our devices.
type Vtep = (u32, Ipv6Addr);

struct Loop {
    task: Task,
    socket: UdpSocket,
    /// The test under way and its number.
    trial: Option<(Vtep, u64, Trial)>,
    next: Instant,
    /// Tests so far: which peer is next, and the number of the trial.
    turn: u64,
}

impl Loop {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let pause = self.advance(Instant::now());
            // Zero would mean for ever.
            let pause = pause.clamp(Duration::from_millis(1), NAP);
            if self.socket.set_read_timeout(Some(pause)).is_ok() {
                self.receive();
            }
        }
    }

    /// Does what is due and says how long nothing will be.
    fn advance(&mut self, now: Instant) -> Duration {
        let Some((vtep, number, trial)) = &mut self.trial else {
            if self.task.tests && self.task.decision.is_on() && now >= self.next {
                self.begin(now);
            }
            return NAP;
        };
        match trial.step(now) {
            Step::Wait(until) => until.saturating_duration_since(now),
            Step::Send => {
                let (vtep, number) = (*vtep, *number);
                self.probe(vtep, number);
                Duration::ZERO
            }
            Step::Done(outcome) => {
                let vtep = *vtep;
                self.trial = None;
                self.conclude(vtep, outcome, now);
                Duration::ZERO
            }
        }
    }

    fn begin(&mut self, now: Instant) {
        let peers = self.task.watched.vteps();
        if peers.is_empty() {
            return;
        }
        let (device, mac) = peers[(self.turn % peers.len() as u64) as usize];
        self.turn += 1;
        self.trial = Some(((device, link_local(mac)), self.turn, Trial::new(now)));
    }

    fn probe(&self, (device, address): Vtep, trial: u64) {
        let offloaded = Message { kind: Kind::Offloaded, answer: false, trial };
        let to = SocketAddrV6::new(address, PORT, 0, device);
        // The device may be gone by now: then nobody answers.
        let _ = self.socket.send_to(&offloaded.encode(), to);
        let _ = self.send_computed(to, Message { kind: Kind::Computed, ..offloaded });
    }

    /// Sends with a checksum that neither kernel nor card has to fill in.
    fn send_computed(&self, to: SocketAddrV6, message: Message) -> nix::Result<()> {
        let own = link_local(self.task.mac);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::Udp)?;
        // It would get a copy of each datagram, and nobody reads it here.
        setsockopt(&raw, RcvBuf, &0)?;
        bind(raw.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(own, 0, 0, to.scope_id())))?;
        let datagram = message.datagram(own, *to.ip());
        let to = SockaddrIn6::from(SocketAddrV6::new(*to.ip(), 0, 0, to.scope_id()));
        sendto(raw.as_raw_fd(), &datagram, &to, MsgFlags::empty()).map(|_| ())
    }

    fn receive(&mut self) {
        let mut buffer = [0; 64];
        let Ok((length, SocketAddr::V6(from))) = self.socket.recv_from(&mut buffer) else { return };
        // Only VTEPs, through our devices: nobody else has business here.
        if !from.ip().is_unicast_link_local() || !self.task.watched.has_device(from.scope_id()) {
            return;
        }
        let Some(message) = Message::decode(&buffer[..length]) else { return };
        if !message.answer {
            let to = SocketAddrV6::new(*from.ip(), PORT, 0, from.scope_id());
            let _ = self.send_computed(to, Message { answer: true, ..message });
            return;
        }
        if let Some((vtep, number, trial)) = &mut self.trial
            && (*number, *vtep) == (message.trial, (from.scope_id(), *from.ip()))
        {
            trial.answered(message.kind);
        }
    }

    fn conclude(&mut self, (_, peer): Vtep, outcome: Outcome, now: Instant) {
        const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
        match outcome {
            Outcome::Silent => {
                tracing::debug!(%peer, "no answer to checksum probes; the peer may not run yet");
                self.next = now + RETRY;
            }
            Outcome::Sound => {
                tracing::info!(%peer, "checksum offload works on the path");
                self.next = now + self.task.interval.unwrap_or(NEVER);
            }
            Outcome::Broken => {
                tracing::warn!(
                    %peer,
                    "checksum offload is broken on the path: packets with checksums left to the network card do not arrive; \
                     turning it off on the tunnel device"
                );
                if let Err(error) = self.task.file.keep() {
                    let path = self.task.file.path().display();
                    tracing::warn!(%error, %path, "the verdict can't be kept; it is found again after a restart");
                }
                if self.task.decision.decide(false) {
                    self.task.decided.notify_one();
                }
            }
        }
    }
}
