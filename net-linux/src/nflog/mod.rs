//! Packets that rules log to an NFLOG group: `include/uapi/linux/netfilter/nfnetlink_log.h`. Never what a prefix means: who
//! wrote the rule knows.
//!
//! ```no_run
//! # async fn example() -> Result<(), net_linux::nflog::LogError> {
//! let mut reader = net_linux::nflog::LogReader::open(203, 128)?;
//! for event in reader.next().await? {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```

mod reader;
mod record;
#[cfg(test)]
mod tests;

pub use reader::{LogError, LogEvent, LogReader};
pub use record::LogRecord;
