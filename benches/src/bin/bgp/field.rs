//! All peers of the daemon, on one thread: they announce, and count what they are told. Never more of BGP than that takes.

use crate::Outcome;
use crate::bed::{DAEMON, address};
use crate::message::{self, Plan, Said};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, Semaphore};

/// As long as the slowest contender may take for a step.
const PATIENCE: Duration = Duration::from_secs(900);
/// As long as a session may take to come about.
const ESTABLISHED: Duration = Duration::from_secs(60);
/// Daemons that are busy starting, or wait after an error, are asked again.
const AGAIN: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 1 << 18;
/// Handshakes under way at a time: the backlog of a listening socket is short.
const AT_ONCE: usize = 32;

/// What a peer holds of the plan.
pub(crate) struct Ledger {
    plan: Plan,
    /// What it announces itself: not counted when it comes back.
    pub(crate) own: Range<usize>,
    held: Vec<u64>,
    pub(crate) count: usize,
}

impl Ledger {
    fn new(plan: Plan, all: usize, own: Range<usize>) -> Self {
        Self { plan, own, held: vec![0; all.div_ceil(64)], count: 0 }
    }

    fn note(&mut self, update: &[u8]) {
        let Self { plan, own, held, count } = self;
        message::prefixes(update, *plan, |number, announced| {
            let Some(word) = held.get_mut(number / 64).filter(|_| !own.contains(&number)) else { return };
            let bit = 1 << (number % 64);
            match (*word & bit != 0, announced) {
                (false, true) => *count += 1,
                (true, false) => *count -= 1,
                _ => return,
            }
            *word ^= bit;
        });
    }
}

/// A session of the field.
pub(crate) struct Session {
    stream: TcpStream,
    /// Bytes of a message that is not yet whole.
    rest: Vec<u8>,
    pub(crate) address: Ipv4Addr,
    pub(crate) ledger: Ledger,
}

/// Who a peer is.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) number: usize,
    pub(crate) asn: u16,
    pub(crate) own: Range<usize>,
}

/// What a peer does in a step.
pub(crate) struct Task {
    pub(crate) send: Vec<u8>,
    /// How many prefixes of others it has to hold in the end; `None`: it is not waited for.
    pub(crate) until: Option<usize>,
}

/// Establishes all sessions.
pub(crate) async fn establish(peers: &[Identity], plan: Plan, all: usize) -> Outcome<Vec<Session>> {
    let gate = Semaphore::new(AT_ONCE);
    let deadline = Instant::now() + ESTABLISHED;
    let sessions = peers.iter().map(|peer| {
        let (gate, plan) = (&gate, &plan);
        async move {
            loop {
                let turn = gate.acquire().await?;
                let attempt = tokio::time::timeout(Duration::from_secs(10), handshake(peer)).await;
                drop(turn);
                match attempt {
                    Ok(Ok((stream, rest))) => {
                        let (address, ledger) = (address(peer.number), Ledger::new(*plan, all, peer.own.clone()));
                        return Ok(Session { stream, rest, address, ledger });
                    }
                    Ok(Err(error)) if Instant::now() > deadline => return Err(error),
                    _ => tokio::time::sleep(AGAIN).await,
                }
            }
        }
    });
    join_all(sessions).await.into_iter().collect()
}

/// Until OPEN and KEEPALIVE of the daemon have come.
async fn handshake(peer: &Identity) -> Outcome<(TcpStream, Vec<u8>)> {
    let own = address(peer.number);
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddrV4::new(own, 0).into())?;
    let stream = socket.connect(SocketAddrV4::new(DAEMON, 179).into()).await?;
    send(&stream, &message::open(peer.asn, own)).await?;
    let (mut rest, mut opened) = (Vec::new(), false);
    loop {
        stream.readable().await?;
        receive(&stream, &mut [0; 4096], &mut rest)?;
        let mut bytes = &rest[..];
        while let Some(said) = message::next(&mut bytes) {
            match said {
                Said::Open => {
                    opened = true;
                    send(&stream, &message::keepalive()).await?;
                }
                Said::Keepalive if opened => {
                    let rest = bytes.to_vec();
                    return Ok((stream, rest));
                }
                other => return Err(format!("{own}: {other:?} instead of an OPEN and a KEEPALIVE").into()),
            }
        }
        rest = bytes.to_vec();
    }
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> Outcome<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn receive(stream: &TcpStream, scratch: &mut [u8], rest: &mut Vec<u8>) -> Outcome<()> {
    match stream.try_read(scratch) {
        Ok(0) => Err("the daemon closed the connection".into()),
        Ok(count) => {
            rest.extend_from_slice(&scratch[..count]);
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Does a step: everybody sends, and reads until all hold what they have to.
pub(crate) async fn step(sessions: &mut [Session], tasks: &[Task]) -> Outcome<()> {
    let remaining = Cell::new(tasks.iter().filter(|task| task.until.is_some()).count());
    let scratch = RefCell::new(vec![0; READ_BYTES]);
    let done = Notify::new();
    let pumps = sessions.iter_mut().zip(tasks).map(|(session, task)| {
        let (remaining, done, scratch) = (&remaining, &done, &scratch);
        async move {
            let Session { stream, rest, address, ledger } = session;
            let mut waits = task.until;
            let reader = async {
                loop {
                    consume(rest, ledger).map_err(|why| format!("{address}: {why}"))?;
                    if waits == Some(ledger.count) {
                        waits = None;
                        remaining.set(remaining.get() - 1);
                        if remaining.get() == 0 {
                            done.notify_one();
                        }
                    }
                    stream.readable().await?;
                    receive(stream, &mut scratch.borrow_mut(), rest)?;
                }
            };
            let writer = async {
                send(stream, &task.send).await?;
                std::future::pending::<Outcome<()>>().await
            };
            tokio::select! {
                outcome = reader => outcome,
                outcome = writer => outcome,
            }
        }
    });
    tokio::select! {
        biased;
        () = done.notified() => Ok(()),
        outcome = futures_util::future::try_join_all(pumps) => outcome.map(drop),
        () = tokio::time::sleep(PATIENCE) => Err(format!("{} peers still wait", remaining.get()).into()),
    }
}

fn consume(rest: &mut Vec<u8>, ledger: &mut Ledger) -> Outcome<()> {
    let mut bytes = &rest[..];
    while let Some(said) = message::next(&mut bytes) {
        match said {
            Said::Update(update) => ledger.note(update),
            Said::Notification(code, subcode) => return Err(format!("notification {code}/{subcode}").into()),
            Said::Open | Said::Keepalive | Said::Other(_) => {}
        }
    }
    let left = bytes.len();
    rest.drain(..rest.len() - left);
    Ok(())
}
