//! What was decided about traffic: one record for every engine, and what keeps, chooses and counts records. Never reads a
//! kernel, a clock or a store.
//!
//! ```text
//! engine ── FlowSource ──> Heard ── name(Names) ──> Flow ──> Ring ──> Page ──> filter, summary   (people)
//!  nftables, eBPF          raw, or so many lost               └────> Tally                     (monitors)
//! ```
//!
//! Nothing is lost silently: each event has a number, also one that was lost before it was read, so whoever reads the
//! [`Ring`] knows how many of what happened it has not got ([`Page::lost`]).

mod filter;
mod name;
mod packet;
mod record;
mod ring;
mod source;
mod summary;
mod tally;
#[cfg(test)]
mod tests;

pub use filter::{EndFilter, Filter, InvalidEnd};
pub use name::{Names, Who, name};
pub use packet::Packet;
pub use record::{By, End, Ended, Ending, Flow, Icmp, Kind, Reason, TcpFlags, Traffic, Translated, Verdict};
pub use ring::{Page, Place, Query, Ring};
pub use source::{Event, FlowSource, Heard, Wanted};
pub use summary::{Pair, Summary, Volume};
pub use tally::{Tally, TallyKey};
