//! What the executable and the agent say to each other. Never how the bytes travel.
//!
//! One connection carries one request and one answer, both JSON:
//!
//! ```text
//!  cnidarian-cni                                   cnidarian agent
//!      | connect                                        |
//!      | Request (+ the namespace's fd, SCM_RIGHTS)  -->|  at most MAX_REQUEST_BYTES
//!      | shutdown(write)                             -->|  end of the request
//!      |<--                                    Response |
//!      |<--                                       close |  end of the answer
//! ```
//!
//! The network namespace travels as an open file descriptor with the first byte of the request. So the namespace that
//! the executable looked at is the one the agent uses, whatever happens to the path, and the agent needs no view of the
//! runtime's mount namespace. The path goes along for messages only.

mod message;
mod tombstone;
mod wire;

pub use message::{
    AddCall, Attachment, Call, CheckCall, EndpointCall, Failure, FlowsCall, GcCall, PROTOCOL, Request, Response,
};
pub use tombstone::{Tombstone, TombstoneError};
pub use wire::{WireError, read_response};

/// Where the agent listens unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/cnidarian/cnidarian.sock";

/// Where state that outlives the agent is unless the configuration says otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/cnidarian";

/// The sub-directory of the state directory for [`Tombstone`]s.
pub const TOMBSTONE_DIR: &str = "tombstones";

/// The longest request an agent reads, in bytes. A GC of 5,000 attachments takes about 400 KB.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;

/// The longest answer a client reads, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 64 << 20;
