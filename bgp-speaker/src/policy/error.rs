//! Why a policy is refused. Never a half-taken one.

use crate::types::CommunityError;
use ipnet::IpNet;

/// A policy that cannot be: where and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("statements[{statement}].{field}: {why}")]
pub struct PolicyError {
    /// Which statement, from 0.
    pub statement: usize,
    /// Its field, such as `if.prefixes[0].at-most`.
    pub field: String,
    /// What is wrong and what would be right.
    pub why: Wrong,
}

/// What is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A number outside its range.
    #[error("is {found}; must be {least} to {most}")]
    Range {
        /// What was given.
        found: u64,
        /// The least that will do.
        least: u64,
        /// The most.
        most: u64,
    },
    /// The number of no system.
    #[error("is 0; an AS number is 1 to 4294967295 (RFC 7607)")]
    AsnZero,
    /// A prefix with host bits.
    #[error("{prefix} has host bits; write {network}")]
    HostBits {
        /// What was given.
        prefix: IpNet,
        /// What is meant.
        network: IpNet,
    },
    /// A list that can never hold.
    #[error("is empty and would never hold; leave it out to have it always hold")]
    Empty,
    /// A text that is no community.
    #[error(transparent)]
    Community(#[from] CommunityError),
    /// All communities of a system, where one community is needed.
    #[error("{text:?} means many; only a single community can be added")]
    Many {
        /// What was written.
        text: String,
    },
    /// A word that is no part of a pattern.
    #[error("{word:?} is neither an AS number nor `.` nor `*`")]
    Pattern {
        /// What was written.
        word: String,
    },
    /// A text that is no next hop.
    #[error("{text:?} is no next hop: {right}")]
    NextHop {
        /// What was written.
        text: String,
        /// What would be right.
        right: &'static str,
    },
    /// Two fields that exclude each other.
    #[error("excludes {other}; give one of them")]
    Excludes {
        /// The other field.
        other: &'static str,
    },
}
