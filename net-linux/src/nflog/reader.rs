//! The socket that hears a group. Never a rule: that there is one which logs to the group is somebody else's work.

use super::record::{LogRecord, read};
use crate::nfnetlink::{Header, Message, NfSocket, Writer};
use crate::sys;
use nix::errno::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;

/// `NFNL_SUBSYS_ULOG`, with the operation below it.
const PACKET: u16 = 0x0400;
const CONFIG: u16 = 0x0401;
const NLM_F_REQUEST_ACK: u16 = 1 | 4;
/// Attributes of a configuration.
const COMMAND: u16 = 1;
const MODE: u16 = 2;
const TIMEOUT: u16 = 4;
const THRESHOLD: u16 = 5;
const FLAGS: u16 = 6;
/// `NFULNL_CFG_CMD_BIND`.
const BIND: u8 = 1;
/// `NFULNL_COPY_PACKET`.
const COPY_PACKET: u8 = 2;
/// `NFULNL_CFG_F_SEQ`: the packets of a group are numbered from 0.
const NUMBERED: u16 = 1;
/// How many packets the kernel gathers for one datagram, and for how long, in hundredths of a second.
const GATHER_PACKETS: u32 = 32;
const GATHER_CENTISECONDS: u32 = 5;
/// How many of these are read at once: under a flood there is always one more.
const MOST_DATAGRAMS: usize = 64;

/// Why a group cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Another socket reads it, or we lack the privilege: the kernel says `EPERM` to both.
    #[error(
        "NFLOG group {group}: it has another reader (choose another group, or end that one), or CAP_NET_ADMIN is missing"
    )]
    Denied {
        /// The group.
        group: u16,
    },
    /// The socket failed.
    #[error("{operation} NFLOG group {group}: {source}")]
    Socket {
        /// What was being done.
        operation: &'static str,
        /// The group.
        group: u16,
        /// What the system said.
        source: io::Error,
    },
}

/// What a reader hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEvent {
    /// A packet was logged.
    Packet(LogRecord),
    /// Packets came faster than they were read: so many records are lost here, counted exactly by the kernel's numbers. When
    /// the reader hears that the buffer is full before it hears a number, one is told at once and the rest with the number.
    Lost(u32),
}

/// Which numbers were heard of.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// The next number.
    next: u32,
    /// Told as lost already, though no number has shown it yet.
    told: u32,
}

impl Numbers {
    /// A record with this number is there. Answers how many are lost before it that were not told.
    pub(super) fn heard(&mut self, number: u32) -> u32 {
        let missing = number.wrapping_sub(self.next);
        self.next = number.wrapping_add(1);
        // What was in the buffer before it was full comes first.
        if missing == 0 { 0 } else { missing - std::mem::take(&mut self.told) }
    }

    /// The buffer was full: at least one is lost, and its number comes later. Answers how many to tell now.
    pub(super) fn full(&mut self) -> u32 {
        let first = self.told == 0;
        self.told = 1;
        u32::from(first)
    }
}

/// A reader of one group, in the network namespace of the thread that opened it. Needs `CAP_NET_ADMIN` there. When it is
/// dropped the kernel throws the group's records away again.
pub struct LogReader {
    group: u16,
    socket: NfSocket,
    /// Heard while the kernel was answering.
    early: Vec<LogEvent>,
    numbers: Numbers,
    /// Registered with the runtime when first waited on.
    ready: Option<AsyncFd<OwnedFd>>,
}

impl LogReader {
    /// Begins to listen, and takes at most `copy_bytes` of each packet; a rule may say less. Needs no runtime yet.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(group: u16, copy_bytes: u32) -> Result<Self, LogError> {
        let failed = |operation| move |source| LogError::Socket { operation, group, source };
        let mut socket = NfSocket::open().map_err(failed("open"))?;
        let (mut early, mut numbers) = (Vec::new(), Numbers::default());
        let mut mode = copy_bytes.to_be_bytes().to_vec();
        mode.extend([COPY_PACKET, 0]);
        let bind: &dyn Fn(&mut Writer) = &|writer| writer.u8(COMMAND, BIND);
        let how: &dyn Fn(&mut Writer) = &|writer| {
            writer.bytes(MODE, &mode);
            writer.u32(TIMEOUT, GATHER_CENTISECONDS);
            writer.u32(THRESHOLD, GATHER_PACKETS);
            writer.u16(FLAGS, NUMBERED);
        };
        for fill in [bind, how] {
            let mut writer = Writer::default();
            let header = Header { kind: CONFIG, flags: NLM_F_REQUEST_ACK, sequence: 1, family: 0, resource: group };
            header.write(&mut writer, fill);
            socket.send(&[&writer.bytes]).map_err(failed("bind"))?;
            let answered = socket.dump(|message| {
                hear(message, &mut numbers, &mut early);
                Ok::<(), io::Error>(())
            });
            match answered {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::EPERM as i32) => {
                    return Err(LogError::Denied { group });
                }
                Err(source) => return Err(LogError::Socket { operation: "bind", group, source }),
            }
        }
        socket.listen().map_err(failed("listen to"))?;
        Ok(Self { group, socket, early, numbers, ready: None })
    }

    /// What was heard so far, without waiting; nothing when there is nothing. Of very much only the first part.
    ///
    /// # Errors
    /// [`LogError::Socket`].
    pub fn read(&mut self) -> Result<Vec<LogEvent>, LogError> {
        let mut events = std::mem::take(&mut self.early);
        let numbers = &mut self.numbers;
        for _ in 0..MOST_DATAGRAMS {
            match self.socket.notifications(|message| hear(message, numbers, &mut events)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => lose(numbers.full(), &mut events),
                Err(source) => return Err(LogError::Socket { operation: "read", group: self.group, source }),
            }
        }
        Ok(events)
    }

    /// Waits until something is heard: the kernel gathers for up to 50 ms. May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`LogError::Socket`].
    pub async fn next(&mut self) -> Result<Vec<LogEvent>, LogError> {
        let group = self.group;
        let failed = |source| LogError::Socket { operation: "read", group, source };
        loop {
            let events = self.read()?;
            if !events.is_empty() {
                return Ok(events);
            }
            let ready = match &mut self.ready {
                Some(ready) => ready,
                none => {
                    let fd = self.socket.as_fd().try_clone_to_owned().map_err(failed)?;
                    none.insert(sys::ready::register(fd).map_err(failed)?)
                }
            };
            ready.readable().await.map_err(failed)?.clear_ready();
        }
    }
}

impl AsFd for LogReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A message of another kind, or one that cannot be read, is none: its number tells that it is lost.
fn hear(message: &Message<'_>, numbers: &mut Numbers, events: &mut Vec<LogEvent>) {
    if message.kind != PACKET {
        return;
    }
    if let Ok((record, number)) = read(message) {
        // Before the kernel is told to number them, packets have none.
        lose(number.map_or(0, |number| numbers.heard(number)), events);
        events.push(LogEvent::Packet(record));
    }
}

fn lose(records: u32, events: &mut Vec<LogEvent>) {
    if records > 0 {
        events.push(LogEvent::Lost(records));
    }
}
