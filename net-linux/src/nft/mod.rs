//! nftables in the kernel's own format, without the `nft` program: typed tables, chains, rules, sets; atomic batches; dumps.
//! Never a policy: what should stand in a table is others' to say.
//!
//! ```text
//! Program -> Rule ─┐
//! Table Chain Set ─┼─> Batch ──commit──> kernel ──dump──> Stored<Rule>, Vec<Element>, ...
//! Element ─────────┘    (all or nothing,          (or TableContents: one moment)
//!                        at a Generation if wanted)
//! ```

mod batch;
mod chain;
mod connection;
mod data;
mod element;
mod error;
mod expr;
mod expr_attrs;
mod expr_read;
mod expr_write;
mod keys;
mod names;
mod program;
mod read;
mod rule;
mod set;
mod table;
#[cfg(test)]
mod tests;
mod userdata;
mod watch;

pub use crate::nfnetlink::Malformed;
pub use batch::Batch;
pub use chain::{BaseChain, Chain, ChainType, Hook, Policy, priority};
pub use connection::{Generation, Nft};
pub use data::Data;
pub use element::{Element, Key, address_bytes, interface_bytes};
pub use error::{NftError, Object, Refusal, Verb};
pub use expr::{Base, Cmp, Expr, FibResult, Limit, Log, LogTarget, Nat, NatFlags, Payload, Reject, SetUse, Verdict};
pub use keys::{CtDirection, CtKey, CtState, MetaKey, Reg};
pub use names::{ChainId, Comment, Family, InvalidComment, InvalidName, Name, SetId, TableId};
pub use program::Program;
pub use read::{Stored, TableContents};
pub use rule::Rule;
pub use set::{Field, Set, SetKind};
pub use table::Table;
pub use watch::{NftChange, NftEvent, NftWatch, ObjectKind};

/// Reads a message's payload as each kind of object and, for elements, as each of its attributes.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn parse_anything(payload: &[u8]) {
    let message = crate::nfnetlink::Message { kind: 0, flags: 0, sequence: 0, port: 0, payload };
    let _table = table::read(&message);
    let _chain = chain::read(&message);
    let _rule = rule::read(&message);
    let _set = set::read(&message);
    let raws = message.attributes().flatten().filter_map(|attr| element::read(attr).ok());
    let _elements = element::join(raws.collect());
}
