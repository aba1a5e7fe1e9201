//! What can be wrong with an attribute, and what RFC 7606 does about it. Never the reading itself.

use crate::types::Problem;
use std::fmt;

/// What is wrong with an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its optional and transitive bits are not those of its kind.
    Flags(u8),
    /// Its length cannot be.
    Length(usize),
    /// Its value cannot be.
    Value,
    /// It holds AS 0. RFC 7607.
    AsZero,
    /// A confederation's segment from outside of one. RFC 5065, section 5.
    Confederation,
    /// It goes on behind the end of all attributes.
    Overrun,
    /// It is there twice.
    Twice,
    /// It has to be there and is not.
    Missing,
    /// We do not know it, and its sender says that we have to.
    UnknownWellKnown,
    /// Its family is none of the session.
    Family,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(flags) => write!(f, "flags {flags:#04x} are not those of its kind"),
            Self::Length(bytes) => write!(f, "a length of {bytes} cannot be"),
            Self::Value => f.write_str("its value cannot be"),
            Self::AsZero => f.write_str("AS 0"),
            Self::Confederation => f.write_str("a segment of a confederation from outside of one"),
            Self::Overrun => f.write_str("longer than all attributes"),
            Self::Twice => f.write_str("there twice"),
            Self::Missing => f.write_str("missing"),
            Self::UnknownWellKnown => f.write_str("unknown and said to be well-known"),
            Self::Family => f.write_str("its family is none of the session"),
        }
    }
}

/// A fault of an attribute and what is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed {
    /// The attribute's type code.
    pub(super) attribute: u8,
    /// What is wrong.
    pub(super) fault: Fault,
    /// The announced routes are treated as withdrawn; else the attribute is left out. RFC 7606, section 2.
    pub(super) withdraw: bool,
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self { attribute: malformed.attribute, what: malformed.fault.to_string(), withdrawn: malformed.withdraw }
    }
}
