//! What a session is told and what it tells. Never how it gets from one to the other.

use crate::speaker::{ConnId, ConnectFailure, DownReason};
use crate::types::{Negotiated, Notification, Refresh, Update};
use bytes::Bytes;

/// A state of RFC 4271, section 8.2.2: that of the connection that is farthest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not started, or waiting after an error. Connections are refused.
    Idle,
    /// A connection was asked for.
    Connect,
    /// Waiting for the peer, or for the next attempt.
    Active,
    /// Our OPEN is out.
    OpenSent,
    /// The peer's OPEN is in.
    OpenConfirm,
    /// Routes pass.
    Established,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// Begin.
    Start,
    /// End until the next start.
    Stop {
        /// For the peer; `None`: it sees the connection close, and keeps our routes when it can.
        notification: Option<Notification>,
    },
    /// End and begin again.
    Reset {
        /// For the peer.
        notification: Notification,
    },
    /// A connection that was asked for is there.
    Connected {
        /// Which.
        conn: ConnId,
    },
    /// The peer has connected.
    Accepted {
        /// Which.
        conn: ConnId,
    },
    /// A connection that was asked for did not come about.
    Failed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: ConnectFailure,
    },
    /// A connection ended.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        why: ConnectFailure,
    },
    /// Bytes of a connection, cut anywhere.
    Received {
        /// Which.
        conn: ConnId,
        /// What.
        bytes: &'a [u8],
    },
    /// Others put bytes on the session's connection: routes.
    Queued {
        /// How many.
        bytes: usize,
    },
    /// The kernel took bytes of a connection.
    Sent {
        /// Which.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// BFD says that the peer is not reachable. RFC 5882, section 4.1.
    BfdDown,
    /// Nothing but time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect, and say [`Event::Connected`] or [`Event::Failed`].
    Connect {
        /// What the connection is called.
        conn: ConnId,
    },
    /// Send.
    Send {
        /// On which connection.
        conn: ConnId,
        /// A whole message.
        bytes: Bytes,
    },
    /// Close, after what was sent before is out. Nothing more is heard of it.
    Close {
        /// Which connection.
        conn: ConnId,
    },
    /// The session is established: routes may be sent.
    Up {
        /// On which connection.
        conn: ConnId,
        /// What holds.
        session: Box<Negotiated>,
    },
    /// The session is no longer established.
    Down {
        /// Why.
        reason: DownReason,
        /// The peer's routes stay for a while: RFC 4724, RFC 8538, RFC 9494.
        keep_routes: bool,
    },
    /// An attempt ended before the session was established.
    Attempt {
        /// Why.
        reason: DownReason,
    },
    /// Routes came.
    Update(Update),
    /// The peer wants routes again, or says where such a turn begins and ends.
    Refresh(Refresh),
}
