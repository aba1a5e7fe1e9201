//! Calico's selector language: `app == "web" && has(tier) && env not in {"dev", "test"}`. Never what a label means: that
//! depends on the field a selector stands in.
//!
//! ```text
//! or         = and { "||" and }
//! and        = operation { "&&" operation }
//! operation  = { "!" } ( "(" or ")" | "all()" | "global()" | "has(" label ")" | label test )
//! test       = ( "==" | "!=" | "contains" | "starts with" | "ends with" ) string | [ "not" ] "in" "{" [ string { "," string } ] "}"
//! ```

mod parse;
#[cfg(test)]
mod tests;

pub use parse::InvalidSelector;
pub(super) use parse::parse;

use crate::policy::model::{Attribute, Selector};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// How a label is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    Equal(Arc<str>),
    Unequal(Arc<str>),
    Contains(Arc<str>),
    StartsWith(Arc<str>),
    EndsWith(Arc<str>),
    In(BTreeSet<Arc<str>>),
    NotIn(BTreeSet<Arc<str>>),
}

/// A selector as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// `all()`, and the empty selector.
    All,
    /// `global()`.
    Global,
    Has(Arc<str>),
    Label(Arc<str>, Test),
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
}

/// What the words of a selector stand for in the field where it stands.
pub(super) struct Meaning<'a> {
    /// `all()`.
    pub(super) all: Selector,
    /// `global()`.
    pub(super) global: Selector,
    /// A label.
    pub(super) label: &'a dyn Fn(&str) -> Word,
}

/// What a label stands for.
pub(super) enum Word {
    /// Something that identities have.
    Attribute(Attribute),
    /// A value that every pod has and nothing else.
    OfPods(&'static str),
}

impl Expression {
    /// The condition of the model.
    pub(super) fn lower(&self, meaning: &Meaning<'_>) -> Selector {
        match self {
            Self::All => meaning.all.clone(),
            Self::Global => meaning.global.clone(),
            Self::Has(label) => match (meaning.label)(label) {
                Word::Attribute(attribute) => Selector::Has(attribute),
                Word::OfPods(_) => is_pod(),
            },
            Self::Label(label, test) => match (meaning.label)(label) {
                Word::Attribute(attribute) => test.lower(attribute),
                Word::OfPods(value) => test.of_pods(value),
            },
            Self::Not(inner) => inner.lower(meaning).negated(),
            Self::And(parts) => parts.iter().map(|part| part.lower(meaning)).fold(Selector::Everything, Selector::and),
            Self::Or(parts) => Selector::Any(parts.iter().map(|part| part.lower(meaning)).collect()),
        }
    }
}

/// Pods, and only pods, have a service account.
fn is_pod() -> Selector {
    Selector::Has(Attribute::ServiceAccount)
}

impl Test {
    fn lower(&self, attribute: Attribute) -> Selector {
        match self {
            Self::Equal(value) => Selector::Is(attribute, value.clone()),
            Self::Unequal(value) => Selector::Is(attribute, value.clone()).negated(),
            Self::Contains(text) => Selector::Contains(attribute, text.clone()),
            Self::StartsWith(text) => Selector::StartsWith(attribute, text.clone()),
            Self::EndsWith(text) => Selector::EndsWith(attribute, text.clone()),
            Self::In(values) => Selector::In(attribute, values.clone()),
            Self::NotIn(values) => Selector::In(attribute, values.clone()).negated(),
        }
    }

    /// The test of a label that has one value on every pod, and is nowhere else.
    fn of_pods(&self, value: &str) -> Selector {
        let holds = match self {
            Self::Equal(text) | Self::Unequal(text) => value == &**text,
            Self::Contains(text) => value.contains(&**text),
            Self::StartsWith(text) => value.starts_with(&**text),
            Self::EndsWith(text) => value.ends_with(&**text),
            Self::In(values) | Self::NotIn(values) => values.contains(value),
        };
        let found = if holds { is_pod() } else { Selector::Nothing };
        if matches!(self, Self::Unequal(_) | Self::NotIn(_)) { found.negated() } else { found }
    }
}

/// A text in the quotes that it does not contain.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |f: &mut fmt::Formatter<'_>, word: &str, values: &BTreeSet<Arc<str>>| {
            write!(f, "{word} {{")?;
            for (index, value) in values.iter().enumerate() {
                write!(f, "{}{}", if index == 0 { "" } else { ", " }, Quoted(value))?;
            }
            f.write_str("}")
        };
        match self {
            Self::Equal(value) => write!(f, "== {}", Quoted(value)),
            Self::Unequal(value) => write!(f, "!= {}", Quoted(value)),
            Self::Contains(text) => write!(f, "contains {}", Quoted(text)),
            Self::StartsWith(text) => write!(f, "starts with {}", Quoted(text)),
            Self::EndsWith(text) => write!(f, "ends with {}", Quoted(text)),
            Self::In(values) => set(f, "in", values),
            Self::NotIn(values) => set(f, "not in", values),
        }
    }
}

/// The canonical form: equal for selectors that differ in white space and quotes only.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], with: &str| {
            f.write_str("(")?;
            for (index, part) in parts.iter().enumerate() {
                write!(f, "{}{part}", if index == 0 { "" } else { with })?;
            }
            f.write_str(")")
        };
        match self {
            Self::All => f.write_str("all()"),
            Self::Global => f.write_str("global()"),
            Self::Has(label) => write!(f, "has({label})"),
            Self::Label(label, test) => write!(f, "{label} {test}"),
            Self::Not(inner) => write!(f, "!{inner}"),
            Self::And(parts) => joined(f, parts, " && "),
            Self::Or(parts) => joined(f, parts, " || "),
        }
    }
}
