//! Sockets for a speaker: TCP, BFD, router advertisements. Never knows what the bytes mean, and never a route.
//!
//! ```text
//!   listeners ----+                                              +--> TCP: connect, queue, close
//!   connections --+--> epoll --> driver --Input--> Core --Output-+--> BFD thread
//!   RA, addresses +           (one task, no lock)                +--> Host: next hops, routes, events
//!   BFD thread ------- news ------^
//! ```
//!
//! One task does everything, so nothing is locked: it asks which sockets are ready, gives what they have to the core, and
//! carries out what the core answers. All sockets stand behind one epoll descriptor. What one connection may read or send
//! before the next has its turn is bounded, so a fast one does not starve others and a slow one holds up nobody. Only BFD
//! has a thread of its own.
//!
//! | file | what it holds |
//! |---|---|
//! | `driver` | the loop |
//! | `outputs` | what the core wants done |
//! | `of_speaker` | a speaker as the core |
//! | `listening` | listeners, their keys, accepted connections |
//! | `connection`, `tcp`, `poller`, `sockopt` | one connection; its socket; all sockets; what takes `unsafe` |
//! | `bfd`, `discovery`, `addresses` | neighbours that answer; neighbours on unnumbered links; what this node has on its links |

mod addresses;
mod bfd;
mod connection;
mod discovery;
mod driver;
mod listening;
mod of_speaker;
mod outputs;
mod poller;
#[allow(unsafe_code)]
mod sockopt;
mod tcp;

pub use driver::{Handle, Stopped, Transport};
pub use of_speaker::RefreshFailed;

use crate::speaker::{Input, Output};
use ipnet::IpNet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is driven: a speaker, or a stand-in in tests.
pub trait Core {
    /// Takes what comes in and appends what is to be done.
    fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Vec<Output>);

    /// When to say [`Input::Tick`].
    fn deadline(&self) -> Option<Instant>;
}

/// Whoever embeds a speaker: gets what is not about sockets. Called on the transport's task, so it must not block.
pub trait Host {
    /// [`Output::Track`], [`Output::Untrack`], [`Output::Route`], [`Output::InSync`] or [`Output::Peer`].
    fn output(&mut self, output: Output);

    /// For the log: something is wrong, and all else goes on.
    fn trouble(&mut self, trouble: Trouble);
}

/// Something that went wrong and is tried again, or waits for a change.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// BFD can't hear its port; another daemon may have it.
    #[error("hear BFD on port {port}: {source}")]
    BfdPort {
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread for BFD does not start.
    #[error("start the thread for BFD: {0}")]
    BfdThread(io::Error),
    /// Router advertisements can't be sent or heard; tried again each second.
    #[error("advertise on {interface}: {source}")]
    Discovery {
        /// The device.
        interface: Arc<str>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The addresses of this node can't be read; tried again in a second, where they can be watched at all.
    #[error("read the addresses of this node: {0}")]
    Addresses(io::Error),
    /// Connections can't be accepted; tried again in a second.
    #[error("accept on {address}: {source}")]
    Accept {
        /// The listener.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Where to accept connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// Only over this device, which is also the scope of a link-local address.
    pub interface: Option<Arc<str>>,
}

/// What holds for connections that come in from some addresses. The longest prefix that fits decides; of two equal ones
/// the one that names the device.
#[derive(Clone, PartialEq, Eq)]
pub struct Guard {
    /// From where.
    pub remote: IpNet,
    /// Only over this device; `None`: over any.
    pub interface: Option<Arc<str>>,
    /// TTL or hop limit of what is sent.
    pub ttl: u8,
    /// Drop what arrives with less (RFC 5082); `None`: take all.
    pub least_ttl: Option<u8>,
    /// Key for TCP MD5 (RFC 2385), 1 to 80 bytes: segments without it, or with another, are not heard at all.
    pub password: Option<Arc<[u8]>>,
}

/// Never shows the key.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("remote", &self.remote)
            .field("interface", &self.interface)
            .field("ttl", &self.ttl)
            .field("least_ttl", &self.least_ttl)
            .field("password", &self.password.as_ref().map(|_| "..."))
            .finish()
    }
}

/// What a transport is open for. Given whole; what has not changed is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// What holds for whom.
    pub guards: Vec<Guard>,
    /// Devices on which to advertise, and to look for the neighbour.
    pub discover: Vec<Arc<str>>,
}

/// A setup that can't be; the one before is still in force.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An address that can't be listened on.
    #[error("listen on {address}{}: {source}", interface.as_ref().map(|name| format!(" over {name}")).unwrap_or_default())]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Over which device.
        interface: Option<Arc<str>>,
        /// What the kernel said.
        source: io::Error,
    },
    /// A key that the kernel does not take.
    #[error("MD5 key for {remote}: {source}")]
    Key {
        /// For whom.
        remote: IpNet,
        /// What the kernel said.
        source: io::Error,
    },
    /// A key of a length that can't be.
    #[error("MD5 key for {remote} has {bytes} bytes, it must have 1 to 80")]
    KeyLength {
        /// For whom.
        remote: IpNet,
        /// So many it has.
        bytes: usize,
    },
    /// Two keys for one prefix on a listener that hears both. The kernel can't tell devices apart by key: give each device
    /// a listener of its own.
    #[error("two MD5 keys for {remote} on the listener {address}, which hears all devices")]
    TwoKeys {
        /// For whom.
        remote: IpNet,
        /// Which listener.
        address: SocketAddr,
    },
    /// The transport has ended.
    #[error("the transport has ended")]
    Ended,
}

/// What a transport allows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So long a connection may take to come about.
    pub connect: Duration,
    /// So long an accepted connection may wait for the core's first word.
    pub stranger: Duration,
    /// So many of those at once; more wait in the kernel.
    pub strangers: usize,
    /// So much may wait to be sent on one connection. A core that heeds [`Input::Sent`] never gets there; the connection of
    /// one that does not is dropped.
    pub queue_bytes: usize,
    /// So long a closed connection may take to send what was queued.
    pub close: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stranger: Duration::from_secs(10),
            strangers: 512,
            queue_bytes: 64 << 20,
            close: Duration::from_secs(1),
        }
    }
}
